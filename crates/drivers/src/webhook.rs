//! The driver `webhook`: POST of JSON to an http or https URL, signed as Standard Webhooks has it.
//!
//! 2xx is success. Redirects are not followed. 408, 409, 425, 429 and 5xx may go well later, and so
//! may everything that keeps a request from being answered; other answers end the delivery.
//! 410 is the wish to get nothing more.

mod answer;
mod format;
pub mod presets;
mod sender;
mod settings;
mod verdict;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dovecast_dispatch::driver::{Boxed, Courier, Delivery, Rendered, SettingsError, Target};
use dovecast_notification::Notification;
use http_body_util::Full;
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Uri};
use url::Url;

use crate::guard::{Guard, GuardError};
use crate::headers::{self, CredentialError, HeaderError};
use crate::http::Origin;
use crate::http::sockets::Sockets;
use crate::signature::{Secret, sign};
use crate::template::TemplateError;
use crate::tls;

use self::presets::PresetError;
use format::{Format, FormatError};

pub(crate) use answer::judged;

pub use crate::headers::Authorization;
pub use format::{FormatOptions, MAX_PARAMETERS};
pub use sender::Sender;
pub use settings::{PresetUrls, WebhookDriver, is_refused_as_own, refused_today};

/// How a webhook is reached.
#[derive(Clone, Default)]
pub struct WebhookOptions {
    /// `http://` or `https://`.
    pub url: String,
    /// Sent with each request. They go before ours (`user-agent`), and before what the URL says
    /// (`Authorization`).
    pub headers: Vec<(String, String)>,
    /// Value of `Authorization`.
    pub authorization: Option<Authorization>,
    /// `whsec_...`; each signs. Without any nothing is signed.
    pub secrets: Vec<String>,
    /// PEM; replaces the system's authorities.
    pub server_ca: Option<String>,
    /// How the body is made, other than as hooks-backend has it.
    pub format: FormatOptions,
    /// For the whole of an attempt.
    pub timeout: Duration,
}

/// Why a webhook cannot be used. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Not a URL.
    #[error("`{0}` is not a URL")]
    Url(String),
    /// Another scheme, or no host.
    #[error("`{0}` is not an http or https URL")]
    Scheme(String),
    /// A port of other services.
    #[error(
        "port {0} is not one of webhooks (80, 443 and most above 1023), and `[dispatch] allowed_networks` names no network with it"
    )]
    Port(u16),
    /// A header that cannot be sent, or is ours.
    #[error("`{0}` {1}")]
    Header(String, HeaderError),
    /// The value of `Authorization` cannot be sent.
    #[error(transparent)]
    Authorization(#[from] CredentialError),
    /// A signing secret.
    #[error(transparent)]
    Secret(#[from] crate::signature::BadSecret),
    /// The chain of certificates, or the system's.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A service that has a preset, and is not reached so.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// How the body is made.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Headers of ours in each request, besides `Content-Length`: `Host`, `Content-Type`, `User-Agent`
/// and the three of Standard Webhooks.
const HEADERS: usize = 7;
const AGENT: &str = concat!("dovecast/", env!("CARGO_PKG_VERSION"));

/// A webhook that can be sent to. There may be very many of them: what all have in common is not
/// in each.
#[derive(Debug)]
pub struct Webhook {
    origin: Origin,
    target: Uri,
    host: HeaderValue,
    /// What the endpoint has set itself.
    own: Box<[(HeaderName, HeaderValue)]>,
    secrets: Box<[Secret]>,
    timeout: Duration,
    /// Few have one.
    format: Option<Box<Format>>,
}

impl Webhook {
    /// Checks the options.
    pub fn new(options: &WebhookOptions) -> Result<Self, WebhookError> {
        let url = Url::parse(&options.url).map_err(|_| WebhookError::Url(options.url.clone()))?;
        let scheme = || WebhookError::Scheme(shown(&url));
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(match &options.server_ca {
                Some(chain) => tls::of_chain(chain)?,
                None => tls::system()?,
            }),
            _ => return Err(scheme()),
        };
        let host = url.host().ok_or_else(scheme)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(scheme)?;
        let secrets = options.secrets.iter().map(|secret| Secret::parse(secret));
        let (value, own) = head(&url, options)?;
        if let Some(preset) = options.format.preset {
            let has_authorization = own.iter().any(|(name, _)| name == AUTHORIZATION);
            let given = options.format.parameters.keys().map(String::as_str);
            preset.check(&url, &options.format.also_at, has_authorization, given)?;
        }
        Ok(Self {
            target: target(&url)?,
            host: value,
            own,
            secrets: secrets.collect::<Result<_, _>>()?,
            format: Format::new(&options.format)?.map(Box::new),
            timeout: options.timeout,
            origin: Origin { host, port, tls },
        })
    }

    /// What a dispatcher delivers to; requests go where `guard` allows, over connections that take
    /// their places among `sockets`.
    pub fn target(self, guard: Guard, sockets: Sockets) -> Arc<dyn Target> {
        Arc::new(WebhookTarget {
            authority: format!("{}:{}", self.origin.host, self.origin.port),
            webhook: Arc::new(self),
            guard,
            sockets,
        })
    }

    async fn body(&self, delivery: &Delivery) -> Result<Bytes, TemplateError> {
        match &self.format {
            Some(format) => format.body(delivery).await,
            None => Ok(body(&delivery.notifications)),
        }
    }

    fn content_type(&self) -> HeaderValue {
        match &self.format {
            Some(format) => format.content_type.clone(),
            None => HeaderValue::from_static("application/json"),
        }
    }

    fn request(&self, delivery: &Delivery, body: Bytes) -> Request<Full<Bytes>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.unwrap_or_default().as_secs().to_string();
        let mut headers = HeaderMap::with_capacity(HEADERS + self.own.len());
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, self.content_type());
        // One that says who it is itself is taken at its word.
        if !self.own.iter().any(|(name, _)| name == USER_AGENT) {
            headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        }
        for (name, value) in &self.own {
            headers.append(name.clone(), value.clone());
        }
        let mut set = |name: &'static str, value: String| {
            // Ids, numbers and base64 are legal in headers.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if !self.secrets.is_empty() {
            let id = &delivery.id;
            set(
                "webhook-signature",
                sign(&self.secrets, id, &timestamp, &body),
            );
        }
        set("webhook-id", delivery.id.clone());
        set("webhook-timestamp", timestamp);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }
}

/// Whether requests can be made for a URL: its path goes into one, and the user that it names; and
/// whether its port is one of webhooks.
pub fn check_url(text: &str, guard: &Guard) -> Result<(), WebhookError> {
    let url = Url::parse(text).map_err(|_| WebhookError::Url(text.to_owned()))?;
    if let Some(port) = refused_port(&url, guard) {
        return Err(WebhookError::Port(port));
    }
    target(&url)?;
    head(&url, &WebhookOptions::default()).map(drop)
}

/// The port of a URL, if no endpoint may be saved with it.
fn refused_port(url: &Url, guard: &Guard) -> Option<u16> {
    let port = url.port_or_known_default()?;
    (!guard.takes_port(port)).then_some(port)
}

fn target(url: &Url) -> Result<Uri, WebhookError> {
    let target = match url.query() {
        Some(query) => Uri::from_str(&format!("{}?{query}", url.path())),
        None => Uri::from_str(url.path()),
    };
    target.map_err(|_| WebhookError::Url(shown(url)))
}

/// A URL without user and password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Fails for URLs that can have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// The value of `Host`, and what an endpoint has set itself.
type Head = (HeaderValue, Box<[(HeaderName, HeaderValue)]>);

fn head(url: &Url, options: &WebhookOptions) -> Result<Head, WebhookError> {
    let mut host = url.host_str().unwrap_or_default().to_owned();
    if let Some(port) = url.port() {
        host = format!("{host}:{port}");
    }
    let host = HeaderValue::try_from(host).map_err(|_| WebhookError::Url(shown(url)))?;
    let mut own = Vec::new();
    for (name, value) in &options.headers {
        let bad = |error| WebhookError::Header(name.clone(), error);
        own.push(headers::sent(name, value).map_err(bad)?);
    }
    let has_own = own.iter().any(|(name, _)| name == AUTHORIZATION);
    let of_url = || {
        let password = url.password().unwrap_or_default();
        let is_there = !url.username().is_empty() || !password.is_empty();
        (is_there && !has_own)
            .then(|| Authorization::Basic(decoded(url.username()), decoded(password)))
    };
    if let Some(authorization) = options.authorization.clone().or_else(of_url) {
        // Of two only one may be sent.
        own.retain(|(name, _)| name != AUTHORIZATION);
        own.push((AUTHORIZATION, authorization.value()?));
    }
    if let Some((name, value)) = Format::header(&options.format)? {
        own.retain(|(other, _)| *other != name);
        own.push((name, value));
    }
    Ok((host, own.into()))
}

/// As they were before they were written into a URL.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part)
        .decode_utf8_lossy()
        .into_owned()
}

/// A webhook, and where requests may go.
struct WebhookTarget {
    authority: String,
    webhook: Arc<Webhook>,
    guard: Guard,
    sockets: Sockets,
}

impl Target for WebhookTarget {
    fn authority(&self) -> Option<&str> {
        Some(&self.authority)
    }

    fn rate(&self) -> Option<NonZeroU32> {
        self.webhook.format.as_ref()?.rate()
    }

    fn check(&self) -> Boxed<'_, Result<(), SettingsError>> {
        Box::pin(async {
            match &self.webhook.format {
                Some(format) => format
                    .check()
                    .await
                    .map_err(|error| settings::named_template(&error)),
                None => Ok(()),
            }
        })
    }

    fn render<'a>(&'a self, delivery: &'a Delivery) -> Boxed<'a, Option<Result<Rendered, String>>> {
        Box::pin(async {
            let content_type = self.webhook.content_type();
            let rendered = self.webhook.body(delivery).await.map(|body| Rendered {
                content_type: String::from_utf8_lossy(content_type.as_bytes()).into(),
                body,
            });
            Some(rendered.map_err(|error| format!("the template {error}")))
        })
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        let webhook = Arc::clone(&self.webhook);
        Box::new(Sender::new(webhook, self.guard.clone(), &self.sockets))
    }

    fn objection(&self) -> Boxed<'_, Option<String>> {
        let origin = &self.webhook.origin;
        Box::pin(async move {
            match self.guard.addresses(&origin.host, origin.port).await {
                Err(
                    error @ (GuardError::NotAllowed { .. }
                    | GuardError::Own { .. }
                    | GuardError::Port { .. }),
                ) => Some(error.to_string()),
                // A name that is not found today may be there tomorrow.
                Err(GuardError::Lookup { .. }) | Ok(_) => None,
            }
        })
    }
}

/// Without what the webhook has of secrets.
impl fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").field(&self.authority).finish()
    }
}

/// Body of a request.
fn body(notifications: &[Arc<Notification>]) -> Bytes {
    match notifications {
        [notification] => notification.body(),
        // A list, for receivers that want several at a time.
        several => {
            let bodies: Vec<Bytes> = several.iter().map(|one| one.body()).collect();
            [b"[", &*bodies.join(&b","[..]), b"]"].concat().into()
        }
    }
}

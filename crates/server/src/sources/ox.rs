//! What Dovecot's own driver `ox` sends: `PUT /preliminary/http-notify/v1/notify`, for a Dovecot
//! without our plugin.
//!
//! A request is asked who it comes from before its body is read. The answer is `{"success":true}`
//! once the event is in the log; any other has the reason. The driver repeats nothing but what was
//! not answered.

mod guesses;
mod key;
mod notification;
mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use bytes::Bytes;
use dovecast_event::brief;
use dovecast_log::{LineLimit, NewRecord};
use ipnet::IpNet;
use serde::Serialize;
use uuid::Uuid;

use super::{Destination, NotTaken};
use crate::api::forwarded;
use crate::basic::Expected;
use crate::config::{Credentials, Ox};
use crate::headers::event_headers;
use crate::key_file;
pub(crate) use key::{IdKey, MailName};
use notification::{BadBody, Notification};
use users::{Misnamed, Users};

pub(crate) use guesses::{GuessStats, Guesses};

/// Path of the request: the driver has no other.
pub(crate) const PATH: &str = "/preliminary/http-notify/v1/notify";
/// Longest body of a request. The driver's own ones have a few headers and 200 characters of
/// text.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct OxSource {
    /// `None`: `[ox]` is not configured, and all requests are refused.
    configured: Option<Configured>,
    users: Users,
    destination: Destination,
    /// Lines about names that mails may not have.
    lines: Arc<LineLimit>,
    /// Lines about mails of which nobody knows whose they are.
    unowned_lines: Arc<LineLimit>,
    guesses: Guesses,
    /// Proxies that are believed about where a request comes from.
    trusted_proxies: Arc<[IpNet]>,
}

/// What is there as soon as somebody may send.
#[derive(Clone)]
struct Configured {
    /// User and password.
    expected: Expected,
    /// Makes the ids of mails.
    key: IdKey,
}

impl OxSource {
    /// Reads the key of ids from its file, or makes it, where somebody may send.
    pub(crate) fn new(
        config: &Ox,
        key_file: &Path,
        destination: Destination,
    ) -> anyhow::Result<Self> {
        let configured = match &config.credentials {
            Some(credentials) => Some(Configured {
                expected: expected(credentials)?,
                key: key_file::load(key_file)
                    .map(|key| IdKey::of(&key))
                    .with_context(|| {
                        let file = key_file.display();
                        format!("cannot use the key of ids of [ox], `{file}` (`key_file` of [ox])")
                    })?,
            }),
            None => None,
        };
        let users = Users {
            listed: config.users.clone(),
            is_owner_required: config.require_owner,
        };
        if configured.is_some() && users.believes_any() {
            tracing::warn!(
                "[ox] takes any user's name of a mail whose URL does not say whose it is, so with user_from_metadata \
                 every IMAP user speaks for all: put `?of=%u` at the end of its URL (Dovecot 2.4: docs/rest.md says how) and set `require_owner = true`, or list names in `users`"
            );
        }
        Ok(Self {
            configured,
            users,
            destination,
            lines: Arc::default(),
            unowned_lines: Arc::default(),
            guesses: Guesses::default(),
            trusted_proxies: [].into(),
        })
    }

    /// These proxies are believed about the addresses that guesses come from.
    pub(crate) fn behind(mut self, proxies: &[IpNet]) -> Self {
        self.trusted_proxies = proxies.into();
        self
    }

    /// What was said of user and password.
    pub(crate) fn guesses(&self) -> Guesses {
        self.guesses.clone()
    }

    /// The key of ids, for who knows user and password.
    fn authenticate(&self, parts: &Parts) -> Result<&IdKey, Refusal> {
        let configured = self.configured.as_ref().ok_or(Refusal::NotConfigured)?;
        let Some(address) = forwarded::client(parts, &self.trusted_proxies) else {
            return configured.check(&parts.headers);
        };
        self.guesses.admit(address).map_err(Refusal::HeldOff)?;
        let checked = configured.check(&parts.headers);
        match &checked {
            Ok(_) => self.guesses.was_right(address),
            Err(_) => self.guesses.was_wrong(address),
        }
        checked
    }
}

impl Configured {
    fn check(&self, headers: &HeaderMap) -> Result<&IdKey, Refusal> {
        if self.expected.is_said(headers) {
            Ok(&self.key)
        } else {
            Err(Refusal::Unauthenticated)
        }
    }
}

fn expected(credentials: &Credentials) -> anyhow::Result<Expected> {
    Ok(Expected::new(&credentials.user, &credentials.password()?))
}

/// The one request there is.
pub(crate) fn router(source: OxSource) -> Router {
    Router::new()
        .route(PATH, put(notify))
        .with_state(Arc::new(source))
}

async fn notify(State(source): State<Arc<OxSource>>, request: Request) -> Response {
    match take(&source, request).await {
        Ok(()) => Json(Answer::taken()).into_response(),
        Err(refusal) => {
            match &refusal {
                Refusal::Named(user) if source.lines.take() => tracing::warn!(
                    user,
                    "a mail of another user came with this name, which its METADATA says; it is refused"
                ),
                Refusal::Unowned if source.unowned_lines.take() => tracing::warn!(
                    "a mail was refused: its URL does not say whose it is, which `require_owner` of [ox] wants"
                ),
                _ => {}
            }
            tracing::debug!(reason = %refusal, "a notification of Dovecot's driver `ox` was refused");
            refusal.into_response()
        }
    }
}

async fn take(source: &OxSource, request: Request) -> Result<(), Refusal> {
    let (parts, body) = request.into_parts();
    let key = source.authenticate(&parts)?;
    let owner = users::owner(parts.uri.query());
    let owner = owner.as_deref();
    let body = to_bytes(body, MAX_BODY_BYTES).await;
    let notification = Notification::read(&body.map_err(|_| Refusal::Unread)?)?;
    let user = &notification.user;
    source.users.check(owner, user).map_err(|why| match why {
        Misnamed::OfAnother => Refusal::Named(brief(user).escape_debug().to_string()),
        Misnamed::Unowned => Refusal::Unowned,
    })?;
    if owner.is_none() && source.users.believes_any() && source.unowned_lines.take() {
        tracing::warn!(
            user = %brief(user).escape_debug(),
            "the name of a mail is believed: its URL has no `of` that says whose it is, see `require_owner` of [ox]"
        );
    }
    let id = notification.id(key, owner);
    let record = record(&source.destination.topic, id, &notification)?;
    Ok(source.destination.append(record).await?)
}

/// The event, as our plugin would have sent it.
fn record(topic: &Arc<str>, id: Uuid, notification: &Notification) -> Result<NewRecord, Refusal> {
    let now = jiff::Timestamp::now();
    let value = notification.event().map_err(|_| Refusal::Unread)?;
    Ok(NewRecord {
        topic: Arc::clone(topic),
        key: Some(Bytes::copy_from_slice(notification.user.as_bytes())),
        value: value.into(),
        headers: event_headers(id, now),
        timestamp_ms: now.as_millisecond(),
        id: Some(id.as_u128()),
    })
}

/// The mail that a body reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OxMail {
    /// User whose mail it is.
    pub user: String,
    /// Id of the event: a mail that is reported again has the id it had.
    pub id: Uuid,
    /// Value of the record of the event.
    pub event: Vec<u8>,
}

/// Reads the body of a request; the error is the text that the client gets.
pub fn read(body: &[u8]) -> Result<OxMail, String> {
    let notification = Notification::read(body).map_err(|error| error.to_string())?;
    Ok(OxMail {
        // As some server has it.
        id: notification.id(&IdKey::of(&[0; 32]), None),
        event: notification.event().map_err(|error| error.to_string())?,
        user: notification.user,
    })
}

/// Why a notification was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("`user` and `password` of [ox] are not configured")]
    NotConfigured,
    #[error("user or password is not that of [ox]")]
    Unauthenticated,
    #[error("this address has said too many wrong passwords; it has to wait")]
    HeldOff(Duration),
    #[error("the body cannot be read, or is longer than {MAX_BODY_BYTES} bytes")]
    Unread,
    #[error("this mail may not have the name of the user `{0}`: see `users` of [ox]")]
    Named(String),
    #[error(
        "the URL does not say whose mail this is: put `?of=%u` at its end (Dovecot 2.4: docs/rest.md says how), see `require_owner` of [ox]"
    )]
    Unowned,
    #[error(transparent)]
    Body(#[from] BadBody),
    #[error(transparent)]
    Log(#[from] NotTaken),
}

#[derive(Serialize)]
struct Answer {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Answer {
    const fn taken() -> Self {
        Self {
            success: true,
            error: None,
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotConfigured | Self::Named(_) | Self::Unowned => StatusCode::FORBIDDEN,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::HeldOff(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unread | Self::Log(NotTaken::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BadBody::Json(_) | BadBody::NoObject) => StatusCode::BAD_REQUEST,
            Self::Body(BadBody::Field { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Log(NotTaken::Refused(_) | NotTaken::Unavailable) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let answer = Answer {
            success: false,
            error: Some(self.to_string()),
        };
        let answer = (self.status(), Json(answer));
        match self {
            Self::Unauthenticated => {
                let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"dovecast\"")];
                (challenge, answer).into_response()
            }
            Self::HeldOff(wait) => {
                let seconds = HeaderValue::from(wait.as_secs() + 1);
                ([(RETRY_AFTER, seconds)], answer).into_response()
            }
            Self::Log(NotTaken::Unavailable) => ([(RETRY_AFTER, "5")], answer).into_response(),
            _ => answer.into_response(),
        }
    }
}

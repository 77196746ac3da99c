//! Settings of an endpoint whose driver is `webhook`.
//!
//! Shown: `url`, `timeout_seconds`, `server_ca_certificate`, `preset`, `template`, `content_type`.
//! Secret: `signing_secrets` (a list of texts), `headers` (a list of pairs), `authorization` (an
//! object with `type`), `parameters` (an object of texts), and `url`, which goes before the one
//! that is shown, where it has a user or a password. No error repeats a secret: they are read by
//! hand, because serde's errors cite values.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::{Driver, Settings, SettingsError, Target};
use serde_json::{Map, Value};
use url::{Host, Url};

use super::format::{FormatError, FormatOptions, MAX_PARAMETERS};
use super::presets::{Preset, PresetError};
use super::{Authorization, Webhook, WebhookError, WebhookOptions, refused_port};
use crate::guard::Guard;
use crate::http::sockets::Sockets;
use crate::template::{TemplateError, Templates};
use crate::{headers, tls};

const URL: &str = "url";
const TIMEOUT: &str = "timeout_seconds";
const SERVER_CA: &str = "server_ca_certificate";
const SIGNING_SECRETS: &str = "signing_secrets";
const HEADERS: &str = "headers";
const AUTHORIZATION: &str = "authorization";
const PRESET: &str = "preset";
const TEMPLATE: &str = "template";
const CONTENT_TYPE: &str = "content_type";
const PARAMETERS: &str = "parameters";
/// Settings that are shown.
const OPEN_KEYS: &[&str] = &[URL, TIMEOUT, SERVER_CA, PRESET, TEMPLATE, CONTENT_TYPE];
/// Settings that are sealed; the URL is so where it has a user or a password.
const SECRET_KEYS: &[&str] = &[SIGNING_SECRETS, HEADERS, AUTHORIZATION, PARAMETERS, URL];

/// The driver `webhook`.
pub struct WebhookDriver {
    guard: Guard,
    timeout: Duration,
    preset_urls: PresetUrls,
    sockets: Sockets,
    templates: Templates,
}

/// What URLs of presets may begin with besides what the services say, by the names of the presets.
pub type PresetUrls = BTreeMap<String, Vec<Url>>;

impl WebhookDriver {
    /// Name of the driver.
    pub const NAME: &str = "webhook";

    /// `guard`: where requests may go; `timeout`: of endpoints that have none of their own;
    /// `sockets`: how many connections there may be; `templates`: where those of endpoints are
    /// rendered.
    pub fn new(
        guard: Guard,
        timeout: Duration,
        preset_urls: PresetUrls,
        sockets: Sockets,
        templates: Templates,
    ) -> Self {
        Self {
            guard,
            timeout,
            preset_urls,
            sockets,
            templates,
        }
    }

    /// How the body is made.
    fn format(&self, settings: &Settings<'_>) -> Result<FormatOptions, SettingsError> {
        let preset = settings.optional_text(PRESET)?.map(Preset::get).transpose();
        let preset = preset.map_err(|error| SettingsError::new(PRESET, error.to_string()))?;
        let own = |key| {
            settings
                .optional_text(key)
                .map(|text| text.map(str::to_owned))
        };
        let template = own(TEMPLATE)?;
        let also_at = preset.and_then(|preset| self.preset_urls.get(preset.name));
        Ok(FormatOptions {
            preset,
            template,
            content_type: own(CONTENT_TYPE)?,
            parameters: parameters(settings.secret)?,
            templates: self.templates.clone(),
            account: Arc::clone(settings.account),
            also_at: also_at.cloned().unwrap_or_default(),
        })
    }
}

impl Driver for WebhookDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn secret_keys(&self) -> &'static [&'static str] {
        SECRET_KEYS
    }

    fn target(&self, settings: &Settings<'_>) -> Result<Arc<dyn Target>, SettingsError> {
        settings.known(OPEN_KEYS, self.secret_keys())?;
        let options = WebhookOptions {
            url: url(settings)?.to_owned(),
            headers: own_headers(settings.secret)?,
            authorization: authorization(settings.secret)?,
            secrets: signing_secrets(settings.secret)?,
            server_ca: settings.optional_text(SERVER_CA)?.map(str::to_owned),
            timeout: settings.seconds(TIMEOUT)?.unwrap_or(self.timeout),
            format: self.format(settings)?,
        };
        let webhook = Webhook::new(&options).map_err(|error| named(&error))?;
        let guard = self.guard.for_account(Arc::clone(settings.account));
        Ok(webhook.target(guard, self.sockets.clone()))
    }
}

/// What an endpoint was saved with that would be refused today. It is delivered to with all of it,
/// so that an upgrade takes nothing from a receiver.
pub fn refused_today(settings: &Settings<'_>, guard: &Guard) -> Vec<&'static str> {
    let is_refused = |(name, value): &(String, String)| headers::check(name, value).is_err();
    let own = own_headers(settings.secret).unwrap_or_default();
    let certificates = settings.optional_text(SERVER_CA).ok().flatten();
    let has_key = certificates.is_some_and(tls::has_private_key);
    let url = url(settings).ok().and_then(|url| Url::parse(url).ok());
    let has_port = url.is_some_and(|url| refused_port(&url, guard).is_some());
    let found = [
        has_port.then_some("a port that is not one of webhooks"),
        own.iter()
            .any(is_refused)
            .then_some("a header that is refused today"),
        has_key.then_some("a private key beside its certificates"),
    ];
    found.into_iter().flatten().collect()
}

/// Whether an endpoint is at an address of this host itself, and so gets nothing until the
/// configuration allows it. A name is not looked up.
pub fn is_refused_as_own(settings: &Settings<'_>, guard: &Guard) -> bool {
    let url = url(settings).ok().and_then(|url| Url::parse(url).ok());
    let address = url.and_then(|url| {
        let ip = match url.host()? {
            Host::Ipv4(address) => IpAddr::from(address),
            Host::Ipv6(address) => IpAddr::from(address),
            Host::Domain(_) => return None,
        };
        Some(SocketAddr::new(ip, url.port_or_known_default()?))
    });
    address.is_some_and(|address| guard.refuses_as_own(address))
}

/// The key that an error is about.
/// What is wrong with the template of an endpoint.
pub(super) fn named_template(error: &TemplateError) -> SettingsError {
    named(&WebhookError::Format(FormatError::Template(error.clone())))
}

fn named(error: &WebhookError) -> SettingsError {
    if let WebhookError::Format(FormatError::Template(error @ TemplateError::NotAllowed)) = error {
        return SettingsError::new(TEMPLATE, error.to_string());
    }
    let key = match error {
        WebhookError::Url(_)
        | WebhookError::Scheme(_)
        | WebhookError::Port(_)
        | WebhookError::Preset(PresetError::Place { .. }) => URL,
        WebhookError::Header(..) => HEADERS,
        WebhookError::Authorization(_) => AUTHORIZATION,
        WebhookError::Secret(_) => SIGNING_SECRETS,
        WebhookError::Tls(_) => SERVER_CA,
        WebhookError::Preset(_) => PRESET,
        WebhookError::Format(FormatError::Template(_)) => TEMPLATE,
        WebhookError::Format(FormatError::ContentType(_)) => CONTENT_TYPE,
        WebhookError::Format(FormatError::Parameter(_)) => PARAMETERS,
    };
    SettingsError::new(key, format!("cannot be used: {error}"))
}

fn parameters(secret: &Map<String, Value>) -> Result<Map<String, Value>, SettingsError> {
    let wrong = |reason: &str| Err(SettingsError::new(PARAMETERS, reason));
    match secret.get(PARAMETERS) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(found)) if found.len() > MAX_PARAMETERS => {
            wrong(&format!("has more than {MAX_PARAMETERS}"))
        }
        Some(Value::Object(found)) if found.values().all(Value::is_string) => Ok(found.clone()),
        Some(_) => wrong("is not an object of texts"),
    }
}

/// The URL, with its user and password.
fn url<'a>(settings: &Settings<'a>) -> Result<&'a str, SettingsError> {
    match settings.secret.get(URL) {
        None | Some(Value::Null) => settings.text(URL),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(SettingsError::new(URL, "is no text")),
    }
}

fn list<'a>(secret: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], SettingsError> {
    match secret.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(SettingsError::new(key, "is not a list")),
    }
}

fn signing_secrets(secret: &Map<String, Value>) -> Result<Vec<String>, SettingsError> {
    let text = |value: &Value| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| SettingsError::new(SIGNING_SECRETS, "holds something else than texts"))
    };
    list(secret, SIGNING_SECRETS)?.iter().map(text).collect()
}

fn own_headers(secret: &Map<String, Value>) -> Result<Vec<(String, String)>, SettingsError> {
    let pair = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([Value::String(name), Value::String(value)]) => Ok((name.clone(), value.clone())),
        _ => Err(SettingsError::new(
            HEADERS,
            "holds something else than pairs of a name and a value",
        )),
    };
    list(secret, HEADERS)?.iter().map(pair).collect()
}

fn authorization(secret: &Map<String, Value>) -> Result<Option<Authorization>, SettingsError> {
    let object = match secret.get(AUTHORIZATION) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(SettingsError::new(AUTHORIZATION, "is not an object")),
    };
    let text = |key: &str| {
        let found = object.get(key).and_then(Value::as_str).map(str::to_owned);
        found.ok_or_else(|| SettingsError::new(AUTHORIZATION, format!("has no text `{key}`")))
    };
    match &*text("type")? {
        "basic" => Ok(Some(Authorization::Basic(
            text("username")?,
            text("password")?,
        ))),
        "bearer" => Ok(Some(Authorization::Bearer(text("token")?))),
        _ => Err(SettingsError::new(
            AUTHORIZATION,
            "has a `type` that is neither `basic` nor `bearer`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(open: Value, secret: Value, expected: Result<&str, &str>) {
        let (Value::Object(open), Value::Object(secret)) = (open, secret) else {
            panic!("objects");
        };
        let (guard, urls) = (Guard::new(&[]), PresetUrls::new());
        let (second, sockets) = (Duration::from_secs(1), Sockets::new(1));
        let driver = WebhookDriver::new(guard, second, urls, sockets, Templates::Trusted);
        let target = driver.target(&Settings {
            account: &Arc::from("7"),
            open: &open,
            secret: &secret,
        });
        let target = target.as_ref().map(|target| target.authority());
        let target = target.map_err(ToString::to_string);
        assert_eq!(target, expected.map(Some).map_err(str::to_owned));
    }

    #[test]
    fn settings_are_checked_and_no_secret_is_shown() {
        check(
            json!({"url": "https://example.org/a", "timeout_seconds": 3}),
            json!({
                "signing_secrets": ["whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"],
                "headers": [["x-a", "b"]],
                "authorization": {"type": "basic", "username": "u", "password": "p"},
            }),
            Ok("example.org:443"),
        );
        check(
            json!({"url": "https://***@example.org/a"}),
            json!({"url": "https://u:p@example.org:444/a"}),
            Ok("example.org:444"),
        );
        for (open, secret, expected) in [
            (json!({}), json!({}), "`url` is missing"),
            (
                json!({"url": "ftp://example.org/"}),
                json!({}),
                "`url` cannot be used: `ftp://example.org/` is not an http or https URL",
            ),
            (
                json!({"url": "http://a/", "token": "t"}),
                json!({}),
                "`token` is not known to this driver",
            ),
            (
                json!({"url": "http://a/", "timeout_seconds": 0}),
                json!({}),
                "`timeout_seconds` is not a number of seconds",
            ),
            (
                json!({"url": "http://a/"}),
                json!({"signing_secrets": ["s3cret"]}),
                "`signing_secrets` cannot be used: a signing secret is `whsec_` and the base64 of 24 to 64 bytes",
            ),
            (
                json!({"url": "http://a/"}),
                json!({"url": ["s3cret"]}),
                "`url` is no text",
            ),
            (
                json!({"url": "http://a/"}),
                json!({"headers": {"a": "s3cret"}}),
                "`headers` is not a list",
            ),
            (
                json!({"url": "http://a/"}),
                json!({"headers": [["a", "s3cret", "c"]]}),
                "`headers` holds something else than pairs of a name and a value",
            ),
            (
                json!({"url": "http://a/"}),
                json!({"authorization": {"type": "s3cret"}}),
                "`authorization` has a `type` that is neither `basic` nor `bearer`",
            ),
            (
                json!({"url": "http://a/"}),
                json!({"authorization": {"type": "bearer", "password": "s3cret"}}),
                "`authorization` has no text `token`",
            ),
        ] {
            check(open, secret, Err(expected));
        }
    }
}

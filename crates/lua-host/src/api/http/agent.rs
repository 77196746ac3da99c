//! What sends requests of scripts: a client with its settings, and what becomes of its errors.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mlua::{LuaString, Table, Value};
use ureq::http;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Error};

use super::{Request, Response};

/// Longest payload of an answer, in bytes; what is above is not read.
const MAX_PAYLOAD_BYTES: u64 = 1024 * 1024;
/// Longest time of a request where the script does not say one, as in Dovecot.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Settings of a client that are numbers.
const NUMBERS: [&str; 10] = [
    "max_idle_time_msecs",
    "max_redirects",
    "max_attempts",
    "max_connect_attempts",
    "connect_backoff_time_msecs",
    "connect_backoff_max_time_msecs",
    "request_absolute_timeout_msecs",
    "request_timeout_msecs",
    "connect_timeout_msecs",
    "soft_connect_timeout_msecs",
];
const BOOLEANS: [&str; 3] = ["no_auto_redirect", "no_auto_retry", "debug"];
const TEXTS: [&str; 3] = ["user_agent", "rawlog_dir", "proxy_url"];

/// A client; clones share its connections.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    attempts: u64,
}

impl Client {
    /// A client with the settings that a script says. Those that Dovecot does not know are passed
    /// over, as there.
    pub(super) fn new(settings: &Table) -> Result<Self, String> {
        let get = |key: &str| {
            settings
                .get::<Value>(key)
                .map_err(|error| error.to_string())
        };
        let number = |key: &str| match get(key)? {
            Value::Nil => Ok(None),
            Value::Integer(number) if number >= 0 => Ok(u64::try_from(number).ok()),
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be whole and not negative; saturates"
            )]
            Value::Number(number) if number >= 0.0 && number.fract() == 0.0 => {
                Ok(Some(number as u64))
            }
            _ => Err(format!("{key}: non-negative number expected")),
        };
        for key in NUMBERS {
            number(key)?;
        }
        for key in BOOLEANS {
            if !matches!(get(key)?, Value::Nil | Value::Boolean(_)) {
                return Err(format!("{key}: boolean expected"));
            }
        }
        for key in TEXTS {
            if !matches!(get(key)?, Value::Nil | Value::String(_)) {
                return Err(format!("{key}: string expected"));
            }
        }
        let milliseconds = |key: &str| number(key).map(|found| found.filter(|ms| *ms > 0));
        let text =
            |key: &str| get(key).map(|value| value.as_string().map(LuaString::to_string_lossy));
        let proxy = match text("proxy_url")? {
            None => None,
            Some(url) => {
                let proxy = ureq::Proxy::new(&url);
                Some(proxy.map_err(|_| "proxy_url is invalid".to_owned())?)
            }
        };
        let is_redirected = !matches!(get("no_auto_redirect")?, Value::Boolean(true));
        let redirects = if is_redirected {
            u32::try_from(number("max_redirects")?.unwrap_or(0)).unwrap_or(u32::MAX)
        } else {
            0
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(redirects)
            .proxy(proxy)
            .user_agent(text("user_agent")?.unwrap_or_default())
            .accept("")
            .accept_encoding("")
            .timeout_per_call(Some(
                milliseconds("request_timeout_msecs")?
                    .map_or(REQUEST_TIMEOUT, Duration::from_millis),
            ))
            .tls_config(tls());
        if let Some(ms) = milliseconds("request_absolute_timeout_msecs")? {
            config = config.timeout_global(Some(Duration::from_millis(ms)));
        }
        if let Some(ms) = milliseconds("connect_timeout_msecs")? {
            config = config.timeout_connect(Some(Duration::from_millis(ms)));
        }
        if let Some(ms) = milliseconds("max_idle_time_msecs")? {
            config = config.max_idle_age(Duration::from_millis(ms));
        }
        Ok(Self {
            agent: config.build().new_agent(),
            attempts: number("max_attempts")?.unwrap_or(1).clamp(1, 10),
        })
    }
}

/// The system's authorities, read once.
fn tls() -> TlsConfig {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        // What of them cannot be read is not trusted.
        let found = rustls_native_certs::load_native_certs();
        let roots = found.certs.iter().map(|der| Certificate::from_der(der));
        let roots: Vec<_> = roots.map(|root| root.to_owned()).collect();
        RootCerts::new_with_certs(&roots)
    });
    TlsConfig::builder()
        .root_certs(roots.clone())
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

impl Request {
    /// Sends it, several times if it has to be, and waits for what comes of it.
    pub(super) fn submit(self) -> Response {
        let mut attempt = 1;
        loop {
            match self.attempt() {
                Err(Error::Io(_) | Error::Timeout(_) | Error::ConnectionFailed)
                    if attempt < self.client.attempts =>
                {
                    attempt += 1;
                }
                Ok(response) => return response,
                Err(error) => return Response::of(&error),
            }
        }
    }

    fn attempt(&self) -> Result<Response, Error> {
        let request = http::Request::builder()
            .method(self.method.clone())
            .uri(self.url.clone());
        let request = self.headers.iter().fold(request, |request, (name, value)| {
            request.header(name.clone(), value.clone())
        });
        let answer = match &self.payload {
            Some(payload) => self.client.agent.run(request.body(&payload[..])?),
            None => self.client.agent.run(request.body(())?),
        }?;
        let (head, mut body) = answer.into_parts();
        let mut payload = Vec::new();
        let mut reader = body.as_reader().take(MAX_PAYLOAD_BYTES);
        reader.read_to_end(&mut payload).map_err(Error::Io)?;
        let headers = head.headers.iter();
        Ok(Response {
            status: head.status.as_u16(),
            reason: head
                .status
                .canonical_reason()
                .unwrap_or_default()
                .to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            payload,
        })
    }
}

impl Response {
    /// A status as Dovecot has it for what is no answer (`enum http_client_request_error`).
    fn of(error: &Error) -> Self {
        let status = match error {
            Error::BadUri(_) => 9001,
            Error::HostNotFound => 9002,
            Error::ConnectionFailed | Error::Tls(_) | Error::Rustls(_) => 9003,
            Error::RedirectFailed | Error::TooManyRedirects => 9004,
            Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => 9003,
            Error::Io(_) => 9005,
            Error::Timeout(_) => 9008,
            _ => 9007,
        };
        Self {
            status,
            reason: error.to_string(),
            headers: Vec::new(),
            payload: Vec::new(),
        }
    }
}

//! What sends requests of scripts: a client with its settings, and what becomes of its errors.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ureq::http::header::{LOCATION, RETRY_AFTER};
use ureq::http::{self, StatusCode};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error, Proxy};

use super::settings::{ProxySettings, Settings, TlsSettings};
use super::{Request, Response};

/// Longest payload of an answer, in bytes; what is above is not read.
const MAX_PAYLOAD_BYTES: u64 = 1024 * 1024;
/// The status of an answer that leads elsewhere, and is not followed.
const INVALID_REDIRECT: u16 = 9004;

/// A client; clones share its connections.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    settings: Arc<Settings>,
}

impl Client {
    /// A client with the settings that a script says.
    pub(super) fn new(settings: Settings) -> Result<Self, String> {
        let redirects = if settings.is_redirected {
            settings.max_redirects
        } else {
            0
        };
        let proxy = settings.proxy.as_ref().map(proxy).transpose()?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(redirects)
            .proxy(proxy)
            .user_agent(settings.user_agent.clone())
            .accept("")
            .accept_encoding("")
            .timeout_connect(settings.connect_timeout)
            .tls_config(tls(&settings.tls)?);
        let config = match settings.max_idle_time {
            Some(time) => config.max_idle_age(time),
            None => config,
        };
        Ok(Self {
            agent: config.build().new_agent(),
            settings: Arc::new(settings),
        })
    }
}

/// The proxy, with its user if the URL has none; an error shows no password.
fn proxy(settings: &ProxySettings) -> Result<Proxy, String> {
    let invalid = |_| "proxy_url is invalid".to_owned();
    let of_url = Proxy::new(&settings.url).map_err(invalid)?;
    if settings.username.is_empty() || of_url.username().is_some() {
        return Ok(of_url);
    }
    let with_user = Proxy::builder(of_url.protocol())
        .host(of_url.host())
        .port(of_url.port())
        .username(&settings.username)
        .password(&settings.password);
    with_user.build().map_err(invalid)
}

fn tls(settings: &TlsSettings) -> Result<TlsConfig, String> {
    let roots = if settings.ca_file.is_empty() {
        system_roots()
    } else {
        let certificates = certificates("ssl_client_ca_file", &settings.ca_file)?;
        RootCerts::new_with_certs(&certificates)
    };
    let own = if settings.cert_file.is_empty() {
        None
    } else {
        let certificates = certificates("ssl_client_cert_file", &settings.cert_file)?;
        let pem = read("ssl_client_key_file", &settings.key_file)?;
        let key = PrivateKey::from_pem(&pem)
            .map_err(|error| format!("ssl_client_key_file={}: {error}", settings.key_file))?;
        Some(ClientCert::new_with_certs(&certificates, key))
    };
    Ok(TlsConfig::builder()
        .root_certs(roots)
        .client_cert(own)
        .disable_verification(!settings.requires_valid_cert)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// The system's authorities, read once.
fn system_roots() -> RootCerts {
    static ROOTS: OnceLock<RootCerts> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        // What of them cannot be read is not trusted.
        let found = rustls_native_certs::load_native_certs();
        let roots = found.certs.iter().map(|der| Certificate::from_der(der));
        let roots: Vec<_> = roots.map(|root| root.to_owned()).collect();
        RootCerts::new_with_certs(&roots)
    });
    roots.clone()
}

/// A file of a setting.
fn read(key: &str, file: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{key}={file}: open({file}) failed: {error}"))
}

/// The certificates of a file; there has to be one.
fn certificates(key: &str, file: &str) -> Result<Vec<Certificate<'static>>, String> {
    let pem = read(key, file)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        let item = item.map_err(|error| format!("{key}={file}: {error}"))?;
        if let PemItem::Certificate(certificate) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(format!("{key}={file}: there is no certificate in it"));
    }
    Ok(found)
}

impl Request {
    /// Sends it, several times if it has to be, and waits for what comes of it: `longest` at most,
    /// whatever the script says.
    pub(super) fn submit(self, longest: Duration) -> Response {
        let settings = &self.client.settings;
        let attempts = settings.attempts(&self.method);
        let longest = settings.absolute_timeout.unwrap_or(longest).min(longest);
        let until = Instant::now() + longest;
        let mut attempt = 1;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.attempt(left);
            let delay = match &answer {
                Ok(response) => self.delay(response),
                Err(Error::Io(_) | Error::Timeout(_) | Error::ConnectionFailed) => {
                    settings.is_retried.then_some(Duration::ZERO)
                }
                Err(_) => None,
            };
            let is_in_time = |delay| Instant::now() + delay < until;
            match delay {
                Some(delay) if attempt < attempts && is_in_time(delay) => {
                    std::thread::sleep(delay);
                    attempt += 1;
                }
                _ => return answer.unwrap_or_else(|error| Response::of(&error)),
            }
        }
    }

    /// How long until it is sent again after an answer that asks for that; `None`: it is not.
    fn delay(&self, response: &Response) -> Option<Duration> {
        match response.status {
            408 => Some(Duration::ZERO),
            503 => {
                let headers = response.headers.iter();
                let mut after = headers.filter(|(name, _)| name == RETRY_AFTER.as_str());
                let (_, seconds) = after.next()?;
                let seconds = std::str::from_utf8(seconds).ok()?.trim().parse().ok()?;
                let delay = Duration::from_secs(seconds);
                let most = self.client.settings.longest_delay(&self.method);
                (delay <= most).then_some(delay)
            }
            _ => None,
        }
    }

    fn attempt(&self, left: Duration) -> Result<Response, Error> {
        let request = http::Request::builder()
            .method(self.method.clone())
            .uri(self.url.clone());
        let request = self.headers.iter().fold(request, |request, (name, value)| {
            request.header(name.clone(), value.clone())
        });
        let Client { agent, settings } = &self.client;
        let timeout = Some(settings.timeout(&self.method));
        let answer = if let Some(payload) = &self.payload {
            let request = agent.configure_request(request.body(&payload[..])?);
            agent.run(
                request
                    .timeout_per_call(timeout)
                    .timeout_global(Some(left))
                    .build(),
            )
        } else {
            let request = agent.configure_request(request.body(())?);
            agent.run(
                request
                    .timeout_per_call(timeout)
                    .timeout_global(Some(left))
                    .build(),
            )
        }?;
        // One that leads elsewhere was followed, unless none may be: Dovecot makes an error of it.
        let is_redirect =
            answer.status().is_redirection() && answer.status() != StatusCode::NOT_MODIFIED;
        if is_redirect && settings.is_redirected && answer.headers().contains_key(LOCATION) {
            return Ok(Response::refused_redirect());
        }
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
    /// What Dovecot makes of an answer that leads elsewhere where no redirect is followed.
    fn refused_redirect() -> Self {
        Self {
            status: INVALID_REDIRECT,
            reason: "Redirect refused".to_owned(),
            headers: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A status as Dovecot has it for what is no answer (`enum http_client_request_error`).
    fn of(error: &Error) -> Self {
        let status = match error {
            Error::BadUri(_) => 9001,
            Error::HostNotFound => 9002,
            Error::ConnectionFailed | Error::Tls(_) | Error::Rustls(_) => 9003,
            Error::RedirectFailed | Error::TooManyRedirects => INVALID_REDIRECT,
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

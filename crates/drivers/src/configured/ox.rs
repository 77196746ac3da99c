//! The driver `ox`: tells an Open-Xchange end-point of each mail that is delivered into the INBOX
//! of a user whose METADATA says so, with the request that Dovecot's driver of this name sends.
//!
//! METADATA and the number of unseen mails come with the event, so the plugin has to be told to add
//! them; while it is not, the log says once a minute what to set. What an answer means is what it
//! means of a webhook, but that no answer switches the driver off.

mod request;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dovecast_dispatch::driver::{
    Answer, Attempt, Boxed, Courier, Delivery, Outcome, Rendered, Target,
};
use dovecast_log::LineLimit;
use url::Url;

use super::event::Event;
use super::options::{OptionError, Options};
use super::{Events, Known, Made, Surroundings};
use crate::guard::{AllowedNetwork, Guard};
use crate::http::sockets::{AccountSockets, Sockets};
use crate::http::{self, BodyLimits, Connection, HeaderNames, HttpError, Origin};
use crate::tls;
use crate::webhook::judged;
use request::{Request, Skipped, Style};

/// The options; those of one meaning are one.
pub(super) const OPTIONS: &[Known] = &[
    ("url", &[]),
    ("user_from_metadata", &[]),
    ("cache_ttl", &["cache_lifetime"]),
    ("max_retries", &[]),
    ("http_client_request_max_attempts", &[]),
    ("http_client_request_timeout", &[]),
    ("timeout_msecs", &[]),
    ("ssl_client_ca_file", &["ca_file"]),
];
/// Longest time of all tries of an attempt: the dispatcher ends one that takes a minute.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(50);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_RETRIES: u32 = 1;
/// Options that say how long the tries of an attempt take.
const TIMES: [&str; 4] = [
    "timeout_msecs",
    "http_client_request_timeout",
    "max_retries",
    "http_client_request_max_attempts",
];
/// How much of an answer's body is read, and dropped, to keep the connection.
const BODY: BodyLimits = BodyLimits {
    bytes: 64 * 1024,
    time: Duration::from_millis(200),
};
/// What the plugin has to be told.
const PLUGIN_OPTIONS: &str = "detail=full metadata=/private/vendor/vendor.dovecot/http-notify";

pub(super) fn make(
    options: &Options<'_>,
    surroundings: &Surroundings,
) -> Result<Made, OptionError> {
    let missing = || OptionError::new("url", "push_notification_ox_url is missing or empty");
    let text = options.text("url")?.ok_or_else(missing)?;
    // What was written may have a password in it.
    let wrong = |why: &str| {
        let reason = format!("Invalid push_notification_ox_url: {why}");
        OptionError::new(options.key("url"), reason)
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    let host = url.host().ok_or_else(|| wrong("it has no host"))?;
    let secure = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong("expected http:// or https://")),
    };
    if options.time("cache_ttl")? == Some(Duration::ZERO) {
        let key = options.key("cache_ttl");
        return Err(OptionError::new(
            key,
            "push_notification_ox_cache_ttl must not be 0",
        ));
    }
    let (timeout, tries) = (timeout(options)?, tries(options)?);
    if timeout.is_zero() || timeout.saturating_mul(tries) > LONGEST_ATTEMPT {
        let longest = LONGEST_ATTEMPT.as_secs();
        let named = TIMES.iter().find(|name| options.has(name));
        let key = options.key(named.copied().unwrap_or(TIMES[0]));
        let reason = format!("all tries together may take {longest} seconds at most, and not 0");
        return Err(OptionError::new(key, reason));
    }
    let origin = Origin {
        host: host.to_owned(),
        port: url.port_or_known_default().unwrap_or(80),
        tls: if secure {
            Some(authorities(options)?)
        } else {
            None
        },
    };
    let ox = Ox {
        authority: format!("{}:{}", origin.host, origin.port),
        request: Request::new(&url, text).map_err(|why| wrong(&why))?,
        origin,
        timeout,
        tries,
        style: Style {
            user_from_metadata: options.truth("user_from_metadata")?,
            escapes_in_upper_case: options.is_in_2_4_spelling("ox", "url"),
        },
        guard: operators()?,
        sockets: surroundings.sockets.clone(),
        has_seen_metadata: AtomicBool::new(false),
        lines: LineLimit::default(),
    };
    Ok(Made::new(Arc::new(ox), Events::NewInInbox))
}

fn timeout(options: &Options<'_>) -> Result<Duration, OptionError> {
    if let Some(ms) = options.number("timeout_msecs")? {
        return Ok(Duration::from_millis(ms.into()));
    }
    Ok(options
        .time("http_client_request_timeout")?
        .unwrap_or(DEFAULT_TIMEOUT))
}

fn tries(options: &Options<'_>) -> Result<u32, OptionError> {
    if let Some(tries) = options.number("http_client_request_max_attempts")? {
        return Ok(tries.max(1));
    }
    let retries = options.number("max_retries")?;
    Ok(retries.unwrap_or(DEFAULT_RETRIES).saturating_add(1))
}

fn authorities(options: &Options<'_>) -> Result<Arc<rustls::ClientConfig>, OptionError> {
    let key = options.key("ssl_client_ca_file");
    let wrong = |why: String| OptionError::new(key, why);
    match options.text("ssl_client_ca_file")? {
        None => tls::system().map_err(|error| wrong(error.to_string())),
        Some(file) => {
            let pem = std::fs::read_to_string(file.trim_start_matches('<'))
                .map_err(|error| wrong(format!("cannot read `{file}`: {error}")))?;
            tls::of_chain(&pem).map_err(|error| wrong(error.to_string()))
        }
    }
}

/// An operator's URL may go anywhere.
fn operators() -> Result<Guard, OptionError> {
    let everywhere = ["0.0.0.0/0", "::/0"].map(str::parse::<AllowedNetwork>);
    let everywhere: Result<Vec<_>, _> = everywhere.into_iter().collect();
    let everywhere = everywhere.map_err(|error| OptionError::new("url", error.to_string()))?;
    Ok(Guard::new(&everywhere))
}

/// An end-point.
struct Ox {
    authority: String,
    origin: Origin,
    request: Request,
    /// For one try.
    timeout: Duration,
    /// How often an end-point is tried in one attempt that does not answer.
    tries: u32,
    style: Style,
    guard: Guard,
    sockets: Sockets,
    /// Whether any event has had METADATA: the plugin adds them, then.
    has_seen_metadata: AtomicBool,
    lines: LineLimit,
}

/// Shows neither path nor user.
impl fmt::Debug for Ox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ox").field(&self.authority).finish()
    }
}

impl Ox {
    /// The body for an event; or why nothing is sent.
    fn body(&self, event: &Event) -> Result<Vec<u8>, Skipped> {
        let made = request::body(event, self.style);
        if !matches!(made, Err(Skipped::NoDetail | Skipped::NotActive)) {
            self.has_seen_metadata.store(true, Ordering::Relaxed);
        }
        let is_blind = match &made {
            Err(Skipped::NoDetail) => true,
            Err(Skipped::NotActive) => !self.has_seen_metadata.load(Ordering::Relaxed),
            _ => false,
        };
        if is_blind && let Some(suppressed) = self.lines.take_counted() {
            tracing::warn!(
                url = self.authority,
                suppressed,
                "the driver ox gets events without METADATA and sends nothing for them: unless no user has enabled it, set `{PLUGIN_OPTIONS}` for the plugin in Dovecot"
            );
        } else if let Err(Skipped::NoUser) = &made
            && let Some(suppressed) = self.lines.take_counted()
        {
            tracing::error!(user = event.user, suppressed, "No user provided in config");
        }
        made
    }
}

impl Target for Ox {
    fn authority(&self) -> Option<&str> {
        Some(&self.authority)
    }

    fn render<'a>(&'a self, delivery: &'a Delivery) -> Boxed<'a, Option<Result<Rendered, String>>> {
        Box::pin(async {
            let event = Event::of(delivery.notifications.first()?);
            let made = event.and_then(|event| {
                request::body(&event, self.style).map_err(|skipped| skipped.to_string())
            });
            Some(made.map(|body| Rendered {
                content_type: request::CONTENT_TYPE.to_owned(),
                body: body.into(),
            }))
        })
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Putter {
            sockets: self.sockets.of_account(&Arc::from("")),
            ox: self,
            connection: None,
        })
    }
}

/// Sends to an end-point, over a connection that is kept.
struct Putter {
    ox: Arc<Ox>,
    sockets: AccountSockets,
    connection: Option<Connection>,
}

impl Putter {
    async fn attempt(&mut self, delivery: &Delivery) -> Attempt {
        let started = Instant::now();
        let mut attempt = None;
        for notification in &delivery.notifications {
            let made = match Event::of(notification) {
                Ok(event) => match self.ox.body(&event) {
                    Ok(body) => self.put(body).await,
                    Err(skipped) => skipped_attempt(skipped),
                },
                Err(reason) => Attempt::refused(reason),
            };
            if attempt.insert(made).outcome != Outcome::Delivered {
                break;
            }
        }
        let attempt = attempt.unwrap_or_else(|| Attempt::refused("there is nothing to deliver"));
        Attempt {
            latency: started.elapsed(),
            ..attempt
        }
    }

    /// Sends a body, again at once where nobody answers.
    async fn put(&mut self, body: Vec<u8>) -> Attempt {
        let mut reason = String::new();
        for _ in 0..self.ox.tries {
            let timeout = self.ox.timeout;
            match tokio::time::timeout(timeout, self.exchange(body.clone())).await {
                Ok(Ok((connection, answer))) => return self.finish(connection, answer).await,
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => reason = format!("no answer within {} ms", timeout.as_millis()),
            }
        }
        Attempt::failed(reason)
    }

    async fn finish(&mut self, mut connection: Connection, answer: http::Answer) -> Attempt {
        let mut attempt = judged(&answer.head);
        if let Outcome::Gone { reason } = attempt.outcome {
            attempt.outcome = Outcome::Refused { reason };
        }
        if connection.finish(answer, BODY).await && self.sockets.may_keep() {
            self.connection = Some(connection);
        }
        attempt
    }

    async fn exchange(&mut self, body: Vec<u8>) -> Result<(Connection, http::Answer), HttpError> {
        let ox = Arc::clone(&self.ox);
        let request = || ox.request.put(body.clone());
        if let Some(mut connection) = self.connection.take().filter(Connection::is_usable) {
            match connection.exchange(request()).await {
                Ok(answer) => return Ok((connection, answer)),
                Err(_) if connection.may_have_been_closed() => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.connect().await?;
        let answer = connection.exchange(request()).await?;
        Ok((connection, answer))
    }

    async fn connect(&mut self) -> Result<Connection, HttpError> {
        let origin = &self.ox.origin;
        let addresses = self.ox.guard.addresses(&origin.host, origin.port).await?;
        let place = self.sockets.place().await;
        let places = (place, &self.sockets);
        Connection::open_with(&addresses, origin, places, HeaderNames::InTitleCase).await
    }
}

/// Nothing is to be sent: that is done.
fn skipped_attempt(skipped: Skipped) -> Attempt {
    Attempt {
        note: None,
        outcome: Outcome::Delivered,
        answer: Some(Answer {
            status: None,
            head: format!("nothing is sent: {skipped}"),
        }),
        latency: Duration::ZERO,
    }
}

impl Courier for Putter {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(self.attempt(delivery))
    }

    fn closed(&mut self) -> Boxed<'_, ()> {
        Box::pin(self.sockets.keep(&mut self.connection))
    }
}

#[cfg(test)]
mod tests;

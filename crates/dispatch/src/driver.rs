//! The port to receivers: what a driver is to the dispatcher.
//!
//! A [`Driver`] knows one kind of receiver and checks the settings of endpoints; a [`Target`] is
//! one endpoint as its settings say; a [`Courier`] makes one attempt after the other, over a
//! connection that it may keep. When a delivery is retried, and what is kept of an attempt, is the
//! dispatcher's business: a driver says only what came of it. A driver that panics or hangs costs
//! its attempt.

use std::fmt;
use std::future::{Future, pending, ready};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_event::brief;
use dovecast_notification::Notification;
pub use dovecast_notification::Part;
use serde_json::{Map, Value};

/// A future whose type is not named.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One kind of receiver.
pub trait Driver: Send + Sync + 'static {
    /// Name of the driver, as endpoints name it.
    fn name(&self) -> &'static str;

    /// Keys of the settings that are secret: sealed in the store, and never shown.
    fn secret_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks what an endpoint says of its receiver.
    fn target(&self, settings: &Settings<'_>) -> Result<Arc<dyn Target>, SettingsError>;

    /// Ends what the targets of the driver share, when no attempt is made any more.
    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(ready(()))
    }
}

/// A receiver, as the settings of an endpoint say.
pub trait Target: fmt::Debug + Send + Sync + 'static {
    /// What several targets have in common that are down together, a host and its port; `None`: it
    /// is down alone.
    fn authority(&self) -> Option<&str>;

    /// How often the receiver may be called in a second, where it says so itself; an endpoint may
    /// have a limit of its own instead.
    fn rate(&self) -> Option<NonZeroU32> {
        None
    }

    /// What the receiver is told at a time. Whole transactions need an endpoint that wants its
    /// deliveries in order.
    fn unit(&self) -> Unit {
        Unit::Notification
    }

    /// Finds out by trying what the settings alone do not show, before an endpoint is saved with
    /// them. Makes no attempt.
    fn check(&self) -> Boxed<'_, Result<(), SettingsError>> {
        Box::pin(ready(Ok(())))
    }

    /// What an attempt would send, where that is a text that a person can read; or why nothing can
    /// be made of the delivery. Nothing is sent.
    fn render<'a>(&'a self, _: &'a Delivery) -> Boxed<'a, Option<Result<Rendered, String>>> {
        Box::pin(ready(None))
    }

    /// Begins to deliver. Connects when there is something to deliver.
    fn open(self: Arc<Self>) -> Box<dyn Courier>;

    /// Ends what is kept open besides what couriers have, when no attempt is made any more. Asked
    /// of drivers of the configuration, whose targets are there from start to stop.
    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(ready(()))
    }

    /// Why nothing can be delivered while settings and configuration are as they are; `None`:
    /// nothing is known against it. Makes no attempt.
    fn objection(&self) -> Boxed<'_, Option<String>> {
        Box::pin(ready(None))
    }
}

/// What is delivered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One notification.
    Notification,
    /// All events of a mailbox transaction; one that is larger than a bound comes in parts, one
    /// after the other.
    Transaction,
}

/// Delivers to one receiver, one delivery after the other.
pub trait Courier: Send {
    /// Makes one attempt. What is dropped on the way leaves nothing behind that the next attempt
    /// could mistake for its own.
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt>;

    /// Waits until the receiver closes what was kept open; for ever if there is nothing.
    fn closed(&mut self) -> Boxed<'_, ()> {
        Box::pin(pending())
    }
}

/// What is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Id of the delivery in each attempt, after a restart, on each node: what the receiver
    /// de-duplicates by.
    pub id: String,
    /// Number of the attempt, from 1.
    pub number: u32,
    /// What is delivered together, in order; never empty. With `part.is_end_only` it was delivered
    /// before.
    pub notifications: Vec<Arc<Notification>>,
    /// Which part of a mailbox transaction these are; the whole, where the receiver is told of
    /// notifications one by one.
    pub part: Part,
}

/// What an attempt would send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Type of the body.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whether the delivery is done.
    pub outcome: Outcome,
    /// What the receiver has said; `None`: it was not there.
    pub answer: Option<Answer>,
    /// How long it took.
    pub latency: Duration,
}

/// What a receiver has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Status of HTTP, where it speaks that.
    pub status: Option<u16>,
    /// The head of the answer, cut.
    pub head: String,
}

/// Whether a delivery is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The attempt failed, and a later one may succeed.
    Failed {
        /// Why it did not now.
        reason: String,
        /// Not before this time has passed, as the receiver says.
        retry_after: Option<Duration>,
    },
    /// What is sent could not be made: a later attempt may succeed, and nothing is known of the
    /// receiver, which was asked nothing.
    NotMade {
        /// Why.
        reason: String,
    },
    /// The receiver will never take it.
    Refused {
        /// Why.
        reason: String,
    },
    /// The receiver is gone, and says so itself: it is sent nothing more.
    Gone {
        /// What it has said.
        reason: String,
    },
}

impl Outcome {
    /// Why the delivery is not done; `None`: it is.
    pub fn into_reason(self) -> Option<String> {
        match self {
            Self::Delivered => None,
            Self::Failed { reason, .. }
            | Self::NotMade { reason }
            | Self::Refused { reason }
            | Self::Gone { reason } => Some(reason),
        }
    }
}

impl Attempt {
    /// An attempt without an answer, which may go well later. A long reason loses its
    /// middle: what errors cite, such as the names of a certificate, may be as long as it likes.
    pub fn failed(reason: impl AsRef<str>) -> Self {
        Self::unanswered(Outcome::Failed {
            reason: brief(reason.as_ref()),
            retry_after: None,
        })
    }

    /// An attempt for which nothing could be made that is sent; a long reason loses its middle.
    pub fn not_made(reason: impl AsRef<str>) -> Self {
        Self::unanswered(Outcome::NotMade {
            reason: brief(reason.as_ref()),
        })
    }

    /// An attempt that could not be made, and never can; a long reason loses its middle.
    pub fn refused(reason: impl AsRef<str>) -> Self {
        Self::unanswered(Outcome::Refused {
            reason: brief(reason.as_ref()),
        })
    }

    fn unanswered(outcome: Outcome) -> Self {
        Self {
            outcome,
            answer: None,
            latency: Duration::ZERO,
        }
    }

    /// Status of HTTP, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref()?.status
    }
}

/// What an endpoint says of its receiver.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Number of the account: what it may take of what all share is bounded.
    pub account: &'a Arc<str>,
    /// What is shown to all who may see the endpoint.
    pub open: &'a Map<String, Value>,
    /// What is never shown, and never part of an error.
    pub secret: &'a Map<String, Value>,
}

/// Why a driver cannot use the settings of an endpoint. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {reason}")]
pub struct SettingsError {
    /// Key of the setting.
    pub key: String,
    /// What is wrong with it, to be read behind the key.
    pub reason: String,
}

impl SettingsError {
    /// What is wrong with a key.
    pub fn new(key: &str, reason: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

impl<'a> Settings<'a> {
    /// Refuses keys that the driver does not know.
    pub fn known(&self, open: &[&str], secret: &[&str]) -> Result<(), SettingsError> {
        let unknown = |all: &'a Map<String, Value>, known: &[&str]| {
            all.keys().find(|key| !known.contains(&key.as_str()))
        };
        match unknown(self.open, open).or_else(|| unknown(self.secret, secret)) {
            Some(key) => Err(SettingsError::new(key, "is not known to this driver")),
            None => Ok(()),
        }
    }

    /// A text that must be there.
    pub fn text(&self, key: &str) -> Result<&'a str, SettingsError> {
        let found = self.optional_text(key)?;
        found.ok_or_else(|| SettingsError::new(key, "is missing"))
    }

    /// A text that may be there.
    pub fn optional_text(&self, key: &str) -> Result<Option<&'a str>, SettingsError> {
        match self.open.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(SettingsError::new(key, "is not a text")),
        }
    }

    /// A number of seconds that may be there.
    pub fn seconds(&self, key: &str) -> Result<Option<Duration>, SettingsError> {
        match self.open.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
                _ => Err(SettingsError::new(key, "is not a number of seconds")),
            },
        }
    }
}

/// Shows keys, and no values.
impl fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |of: &Map<String, Value>| of.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Settings")
            .field("account", self.account)
            .field("open", &keys(self.open))
            .field("secret", &keys(self.secret))
            .finish()
    }
}

/// A receiver that is never there.
#[cfg(test)]
pub(crate) fn nowhere() -> Arc<dyn Target> {
    tests::Nowhere::target()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    pub(super) struct Nowhere;

    impl Nowhere {
        pub(super) fn target() -> Arc<dyn Target> {
            Arc::new(Self)
        }
    }

    impl Target for Nowhere {
        fn authority(&self) -> Option<&str> {
            None
        }

        fn open(self: Arc<Self>) -> Box<dyn Courier> {
            Box::new(Self)
        }
    }

    impl Courier for Nowhere {
        fn deliver<'a>(&'a mut self, _: &'a Delivery) -> Boxed<'a, Attempt> {
            Box::pin(ready(Attempt::failed("nobody is there")))
        }
    }

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_no_secret_is_shown() {
        let (open, secret) = (
            map(json!({"url": 1, "name": "n", "wait": 3, "never": 0})),
            map(json!({"token": "s3cret"})),
        );
        let account = Arc::from("7");
        let settings = Settings {
            account: &account,
            open: &open,
            secret: &secret,
        };
        let told = |error: Result<(), SettingsError>| error.expect_err("wrong").to_string();
        assert_eq!(told(settings.text("url").map(drop)), "`url` is not a text");
        assert_eq!(told(settings.text("to").map(drop)), "`to` is missing");
        assert_eq!(settings.text("name"), Ok("n"));
        assert_eq!(settings.optional_text("to"), Ok(None));
        assert_eq!(settings.seconds("wait"), Ok(Some(Duration::from_secs(3))));
        assert_eq!(
            told(settings.seconds("never").map(drop)),
            "`never` is not a number of seconds"
        );
        let known = ["url", "name", "wait", "never"];
        assert_eq!(settings.known(&known, &["token"]), Ok(()));
        assert_eq!(
            told(settings.known(&known[1..], &["token"])),
            "`url` is not known to this driver"
        );
        let unknown = told(settings.known(&known, &[]));
        assert_eq!(unknown, "`token` is not known to this driver");
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}

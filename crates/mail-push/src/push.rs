//! Pushes, and the port to what brings them to devices.
//!
//! A [`Transport`] makes one attempt and says what came of it; when an attempt is made again, and
//! what is dropped, is the engine's business. The port is implemented by `drivers`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;

use crate::subscription::{DeviceAddress, Urgency};
use crate::{Person, Tag, Topic};

/// A future whose type is not named.
pub type Sending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A push to one device, as it is sent.
#[derive(Clone, PartialEq)]
pub struct Push {
    /// Whose mail it is of; who has the device was compared with it.
    pub person: Person,
    /// Topic of the message.
    pub topic: Topic,
    /// What the device is to show it as: tag, Topic and collapse id. Another push of the same tag
    /// replaces it.
    pub tag: Tag,
    /// What is told.
    pub message: Value,
    /// How soon it matters.
    pub urgency: Urgency,
    /// Unseen mails, where that is known.
    pub badge: Option<u32>,
    /// Time for which the service may keep it, from now.
    pub time_to_live: Duration,
    /// When the event was told, in milliseconds since 1970.
    pub time_ms: i64,
}

/// What a mail is to a push is never logged.
impl fmt::Debug for Push {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            person, topic, tag, ..
        } = self;
        write!(out, "Push({person}, {topic}, {tag})")
    }
}

/// What a service has answered to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushAnswer {
    /// What it means.
    pub verdict: PushVerdict,
    /// Status of the answer; `None`: there was none.
    pub status: Option<u16>,
    /// The reason that the service gives, or why there is no answer; short, and without tokens.
    pub reason: String,
    /// Whether the service may have the push without having said so.
    pub may_have_come: bool,
}

/// What an answer means for the push and its subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushVerdict {
    /// The service has it.
    Accepted,
    /// The device is gone for good: the subscription is removed.
    Gone,
    /// The push is too large: sent again at once with `ids` alone.
    TooLarge,
    /// The push may be accepted later, by all of this host not before the time named.
    Later(Option<Duration>),
    /// The push may be accepted later, by this device not before this.
    LaterAlone(Duration),
    /// The push is never accepted: dropped and counted, the subscription stays.
    Refused,
}

/// What brings pushes to devices of one kind.
pub trait Transport: Send + Sync + 'static {
    /// Checks an address when it is registered; the text says what is wrong with which of its
    /// fields, as in `keys/p256dh` and `is no point of the curve P-256`.
    fn check(&self, address: &DeviceAddress) -> Result<(), AddressFault>;

    /// The host that is asked to wait when one of its answers says so.
    fn host(&self, address: &DeviceAddress) -> String;

    /// Makes one attempt.
    fn send<'a>(&'a self, address: &'a DeviceAddress, push: &'a Push) -> Sending<'a, PushAnswer>;
}

/// What is wrong with the address of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {detail}")]
pub struct AddressFault {
    /// Field below the transport's name, `token` or `keys/auth`.
    pub field: &'static str,
    /// What is wrong, without the value.
    pub detail: String,
}

impl PushAnswer {
    /// No answer: the push is sent again later.
    pub fn none(reason: impl Into<String>) -> Self {
        Self {
            may_have_come: true,
            ..Self::unsent(PushVerdict::Later(None), reason)
        }
    }

    /// Nothing was sent.
    pub fn unsent(verdict: PushVerdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            status: None,
            reason: reason.into(),
            may_have_come: false,
        }
    }

    /// Whether the service has it.
    pub fn is_accepted(&self) -> bool {
        self.verdict == PushVerdict::Accepted
    }
}

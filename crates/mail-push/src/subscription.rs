//! Subscriptions: a person's wish to be told on one device.

mod address;
mod fields;
mod filter;
mod quiet_hours;
mod stored;

use std::str::FromStr;

pub use address::{DeviceAddress, TransportKind};
pub use fields::{BadFields, FieldFault, SubscriptionFields};
pub use filter::PushFilter;
pub use quiet_hours::{BadQuietHours, QuietHours};
pub use stored::BadStored;

use crate::{Person, PushContent, Topics};

/// Names a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub uuid::Uuid);

/// A subscription, without the address of its device.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Name of the subscription.
    pub id: SubscriptionId,
    /// Whose mail is told.
    pub person: Person,
    /// Client that has asked for it, as `allowed_clients` names it.
    pub client: String,
    /// What brings pushes to the device.
    pub transport: TransportKind,
    /// What may be changed of it.
    pub wishes: Wishes,
    /// When it ends, in milliseconds since 1970, if it does.
    pub expires_ms: Option<i64>,
}

/// What a subscription asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wishes {
    /// What is told.
    pub topics: Topics,
    /// How much of a mail is told.
    pub content: PushContent,
    /// Which mails are told of.
    pub filter: PushFilter,
    /// How soon it matters.
    pub urgency: Urgency,
    /// When nothing is to be told.
    pub quiet_hours: Option<QuietHours>,
    /// Condition of what passes quiet hours, in CEL.
    pub critical: Option<String>,
}

/// Urgency of a push (RFC 8030 section 5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of RFC 8030")]
pub enum Urgency {
    VeryLow,
    Low,
    #[default]
    Normal,
    High,
}

impl Urgency {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::VeryLow, Self::Low, Self::Normal, Self::High];

    /// The word for it, as the header `Urgency` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VeryLow => "very-low",
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// What the word stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

impl SubscriptionId {
    /// A new one; later ones are greater.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl std::fmt::Display for SubscriptionId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for SubscriptionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        uuid::Uuid::try_parse(text).map(Self)
    }
}

//! The port to receivers: what a driver is to the dispatcher.
//!
//! A [`Driver`] knows one kind of receiver and checks the settings of endpoints; a [`Target`] is
//! one endpoint as its settings say; a [`Courier`] makes one attempt after the other, over a
//! connection that it may keep. When a delivery is retried, and what is kept of an attempt, is the
//! dispatcher's business: a driver says only what came of it. A driver that panics or hangs costs
//! its attempt.

mod settings;

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

pub use settings::{Settings, SettingsError};

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
    /// What the driver has noted of the delivery at an earlier attempt, on whichever node; empty:
    /// nothing.
    pub note: String,
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
    /// What the next attempt at the delivery has to know, also after a restart; `None`: what was
    /// noted before.
    pub note: Option<String>,
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
            note: None,
        }
    }

    /// Status of HTTP, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref()?.status
    }
}

/// A receiver that is never there.
#[cfg(test)]
pub(crate) fn nowhere() -> Arc<dyn Target> {
    tests::Nowhere::target()
}

#[cfg(test)]
mod tests {
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
}

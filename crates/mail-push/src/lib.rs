//! Mail push: whose mail it is, how a mailbox is heard, and what is told to a person's devices.
//!
//! [`person`] says who a login is, [`imap`] asks mail servers, [`sources`] hear mailboxes;
//! [`topic`] and [`message`] are what is told of an event, and in which form; [`subscription`] what
//! a device asks for; [`listener`] whether a mailbox is heard without a session, [`placement`] on
//! which node; [`plan`] what is pushed where; [`push`] and [`log_in`] are ports. The REST API and
//! SQL are left out: the server wires both.

#![forbid(unsafe_code)]

mod glob;
#[cfg(feature = "sources")]
pub mod imap;
pub mod lanes;
pub mod listener;
pub mod log_in;
pub mod mail_event;
pub mod message;
pub mod person;
pub mod placement;
pub mod plan;
pub mod push;
pub mod retry;
#[cfg(feature = "sources")]
pub mod sources;
pub mod subscription;
pub mod tag;
pub mod topic;

pub use log_in::{LogIn, LogInAnswer, LogInSecret};
pub use mail_event::{BadMailEvent, MailEvent, MailSender};
pub use message::PushContent;
pub use person::{BadPerson, Person};
pub use plan::{EventPlan, PlannedPush};
pub use push::{AddressFault, Push, PushAnswer, PushVerdict, Transport};
pub use subscription::{DeviceAddress, Subscription, SubscriptionId, TransportKind, Wishes};
pub use tag::Tag;
pub use topic::{BadTopics, Topic, Topics};

/// An error with all of its causes, for a line of the log.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

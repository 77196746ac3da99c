//! Sources: how a mailbox is heard that none of our plugins tells of.
//!
//! What a source hears is [`Heard`]; it goes to a [`HeardSink`], which the server makes of its log,
//! and is the same event as that of the plugin. Which source is active for whom is not said here.

pub mod back_off;
pub mod dovecot;
pub mod event_ids;
pub mod heard;
pub mod imap_idle;
pub mod mail_notify;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

pub use dovecot::{Doveadm, HttpNotify, NotifyWay, Registered, RegistrationError};
pub use event_ids::{EventId, EventIds};
pub use heard::{Heard, NewMail, What};
pub use imap_idle::{Ended, IdleOptions, IdleStats, ImapIdle, Other, Snapshot};
pub use mail_notify::{MailNotify, Names, NotifyOptions, NotifySink, NotifyStats, WhoseName};

use crate::Person;

/// A future whose type is not named.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What counters say now, by name.
fn read<const N: usize>(counts: [(&'static str, &AtomicU64); N]) -> [(&'static str, u64); N] {
    counts.map(|(name, count)| (name, count.load(Ordering::Relaxed)))
}

/// Whether this node may act for a person still: another one may have been given the listener.
pub trait Fence: Send + Sync {
    /// Whether the lease of the person's listener is good now.
    fn holds<'a>(&'a self, person: &'a Person) -> Boxed<'a, bool>;
}

/// Where what was heard goes.
pub trait HeardSink: Send + Sync {
    /// Takes what was heard of a person's mailbox, in its order, and what is known of it now.
    /// `true` when the events are durable; otherwise they are heard again later. Events that are
    /// there already, by their ids, are as good.
    fn take<'a>(
        &'a self,
        person: &'a Person,
        heard: &'a [Heard],
        snapshot: &'a Snapshot,
    ) -> Boxed<'a, bool>;

    /// What keeps the mailbox from being heard now; `None`: nothing does.
    fn fares(&self, _: &Person, _: Option<&str>) {}
}

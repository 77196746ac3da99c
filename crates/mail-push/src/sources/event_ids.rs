//! Events that two sources tell of are one: who has told first is remembered, for a while and up to
//! a number.
//!
//! An event is told from another by user, mailbox, UIDVALIDITY and UID, and by its kind and the
//! flags it is about: a mail comes once and goes once, but may be read several times. So flags
//! count only within [`EventIds::forget_after`]. Memory of what was long ago is the log's, which
//! drops ids it has seen.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;
use std::time::{Duration, Instant};

use dovecast_event::EventKind;

use super::heard::{Heard, What};

/// Events that were told a short time ago. There are two generations: when the younger is full or
/// old, the elder is forgotten. What is in memory is two generations of 24 bytes an event.
#[derive(Debug)]
pub struct EventIds {
    per_generation: usize,
    forget_after: Duration,
    hasher: RandomState,
    younger: HashSet<u128>,
    elder: HashSet<u128>,
    began: Instant,
}

/// What an event is told from another by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId<'a> {
    /// User of the event.
    pub user: &'a str,
    /// Name of the mailbox.
    pub mailbox: &'a str,
    /// UIDVALIDITY of the mailbox.
    pub uidvalidity: u32,
    /// UID of the mail.
    pub uid: u32,
    /// Kind of the event; MessageNew and MessageAppend are the same, as IMAP knows no difference.
    pub kind: EventKind,
    /// Flags it is about, as bits.
    pub flags: u8,
}

impl<'a> EventId<'a> {
    /// The id of what a source has heard of a user's mailbox.
    pub fn of(user: &'a str, heard: &'a Heard) -> Self {
        Self {
            user,
            mailbox: &heard.mailbox,
            uidvalidity: heard.uidvalidity,
            uid: heard.uid(),
            kind: heard.kind(),
            flags: match &heard.what {
                What::FlagsSet { flags, .. } | What::FlagsClear { flags, .. } => flags.bits(),
                What::Came(_) | What::Went { .. } => 0,
            },
        }
    }
}

impl EventIds {
    /// Remembers so many events at least, if not that long; twice as many at most.
    pub fn new(events: usize, forget_after: Duration) -> Self {
        Self {
            per_generation: events.max(1),
            forget_after,
            hasher: RandomState::new(),
            younger: HashSet::new(),
            elder: HashSet::new(),
            began: Instant::now(),
        }
    }

    /// Whether the event is told for the first time; from now on it is not.
    pub fn is_first(&mut self, id: &EventId<'_>) -> bool {
        self.is_first_at(id, Instant::now())
    }

    /// Takes back that an event was told, because it could not be stored.
    pub fn forget(&mut self, id: &EventId<'_>) {
        let name = self.name(id);
        self.younger.remove(&name);
        self.elder.remove(&name);
    }

    fn is_first_at(&mut self, id: &EventId<'_>, now: Instant) -> bool {
        let is_first = self.enters(id, now);
        // Flags that are set after they were cleared are set anew, however soon.
        let opposite = match id.kind {
            EventKind::FlagsSet => Some(EventKind::FlagsClear),
            EventKind::FlagsClear => Some(EventKind::FlagsSet),
            _ => None,
        };
        if let Some(kind) = opposite.filter(|_| is_first) {
            self.forget(&EventId { kind, ..*id });
        }
        is_first
    }

    fn enters(&mut self, id: &EventId<'_>, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.began);
        if age >= self.forget_after || self.younger.len() >= self.per_generation {
            self.elder = mem::take(&mut self.younger);
            if age >= self.forget_after.saturating_mul(2) {
                self.elder.clear();
            }
            self.began = now;
        }
        let name = self.name(id);
        !self.elder.contains(&name) && self.younger.insert(name)
    }

    /// A name of 128 bits: two events have the same by chance only, and nobody outside knows the
    /// keys by which to make one.
    fn name(&self, id: &EventId<'_>) -> u128 {
        let kind = match id.kind {
            EventKind::MessageAppend => EventKind::MessageNew,
            other => other,
        };
        let id = EventId { kind, ..*id };
        let half = |salt: u8| u128::from(self.hasher.hash_one((salt, Hashed(&id))));
        half(0) << 64 | half(1)
    }
}

/// An id whose texts are hashed with their ends.
struct Hashed<'a>(&'a EventId<'a>);

impl Hash for Hashed<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let id = self.0;
        (id.user, id.mailbox, id.uidvalidity, id.uid, id.flags).hash(state);
        id.kind.name().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(user: &str, uid: u32, kind: EventKind) -> EventId<'_> {
        EventId {
            user,
            mailbox: "INBOX",
            uidvalidity: 7,
            uid,
            kind,
            flags: 0,
        }
    }

    #[test]
    fn an_event_is_told_once() {
        let mut ids = EventIds::new(100, Duration::from_mins(1));
        let new = id("alice", 1, EventKind::MessageNew);
        assert!(ids.is_first(&new));
        assert!(!ids.is_first(&new));
        assert!(!ids.is_first(&id("alice", 1, EventKind::MessageAppend)));
        for other in [
            id("bob", 1, EventKind::MessageNew),
            id("alice", 2, EventKind::MessageNew),
            id("alice", 1, EventKind::MessageExpunge),
            EventId {
                mailbox: "Work",
                ..new
            },
            EventId {
                uidvalidity: 8,
                ..new
            },
            EventId { flags: 1, ..new },
        ] {
            assert!(ids.is_first(&other), "{other:?}");
        }
        ids.forget(&new);
        assert!(ids.is_first(&new));
    }

    #[test]
    fn flags_that_are_set_cleared_and_set_are_told_three_times() {
        let mut ids = EventIds::new(100, Duration::from_mins(1));
        let (set, cleared) = (EventKind::FlagsSet, EventKind::FlagsClear);
        for kind in [set, cleared, set, cleared] {
            assert!(ids.is_first(&id("alice", 1, kind)), "{kind:?}");
            assert!(!ids.is_first(&id("alice", 1, kind)), "{kind:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let mut ids = EventIds::new(100, Duration::from_mins(1));
        for uid in 1..10_000 {
            assert!(ids.is_first(&id("alice", uid, EventKind::MessageNew)));
            assert!(ids.younger.len() + ids.elder.len() <= 200);
        }
        let last = id("alice", 9_950, EventKind::MessageNew);
        assert!(!ids.is_first(&last));
        let later = Instant::now() + Duration::from_mins(3);
        assert!(ids.is_first_at(&last, later));
        assert!(ids.elder.is_empty());
    }
}

//! The twelve kinds of event that Dovecot's push-notification framework knows, and sets of them.

use std::fmt;

/// A kind of mail-store event (RFC 5423 section 4), spelled as Dovecot spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventKind {
    /// Flags or keywords were removed from a message.
    FlagsClear,
    /// Flags or keywords were set on a message.
    FlagsSet,
    /// A mailbox was created.
    MailboxCreate,
    /// A mailbox was deleted.
    MailboxDelete,
    /// A mailbox was renamed; its children have no event of their own.
    MailboxRename,
    /// A mailbox was subscribed to.
    MailboxSubscribe,
    /// A mailbox was unsubscribed from.
    MailboxUnsubscribe,
    /// A message was appended, copied or moved into a mailbox by a mail client.
    MessageAppend,
    /// A message was expunged.
    MessageExpunge,
    /// A message was delivered by an MTA.
    MessageNew,
    /// A message got the flag `\Seen`.
    MessageRead,
    /// A message got the flag `\Deleted`.
    MessageTrash,
}

impl EventKind {
    /// Every kind, in the order of [`EventKind`]'s discriminants (which is alphabetical).
    pub const ALL: [Self; 12] = [
        Self::FlagsClear,
        Self::FlagsSet,
        Self::MailboxCreate,
        Self::MailboxDelete,
        Self::MailboxRename,
        Self::MailboxSubscribe,
        Self::MailboxUnsubscribe,
        Self::MessageAppend,
        Self::MessageExpunge,
        Self::MessageNew,
        Self::MessageRead,
        Self::MessageTrash,
    ];

    /// The name as Dovecot and the JSON spell it, for example `MessageNew`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlagsClear => "FlagsClear",
            Self::FlagsSet => "FlagsSet",
            Self::MailboxCreate => "MailboxCreate",
            Self::MailboxDelete => "MailboxDelete",
            Self::MailboxRename => "MailboxRename",
            Self::MailboxSubscribe => "MailboxSubscribe",
            Self::MailboxUnsubscribe => "MailboxUnsubscribe",
            Self::MessageAppend => "MessageAppend",
            Self::MessageExpunge => "MessageExpunge",
            Self::MessageNew => "MessageNew",
            Self::MessageRead => "MessageRead",
            Self::MessageTrash => "MessageTrash",
        }
    }

    /// The kind of that name; letter case does not matter, as in Dovecot's own lookup.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name in a list of events that is none of the twelve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown event `{0}` (known: {known})", known = EventSet::ALL)]
pub struct UnknownEvent(pub String);

/// A set of event kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EventSet(u16);

impl EventSet {
    /// No kind at all.
    pub const NONE: Self = Self(0);
    /// All twelve kinds.
    pub const ALL: Self = Self((1 << EventKind::ALL.len()) - 1);

    /// Reads a list of names separated by commas or white space; empty parts are skipped, an empty
    /// list is all kinds.
    pub fn parse(list: &str) -> Result<Self, UnknownEvent> {
        let mut names = list
            .split([',', ' ', '\t'])
            .filter(|name| !name.is_empty())
            .peekable();
        if names.peek().is_none() {
            return Ok(Self::ALL);
        }
        names.try_fold(Self::NONE, |set, name| {
            let kind = EventKind::from_name(name).ok_or_else(|| UnknownEvent(name.to_owned()))?;
            Ok(set.with(kind))
        })
    }

    /// The set with `kind` added.
    #[must_use]
    pub const fn with(self, kind: EventKind) -> Self {
        Self(self.0 | kind.bit())
    }

    /// Whether `kind` is in the set.
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// The kinds in the set, in the order of [`EventKind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL
            .into_iter()
            .filter(move |kind| self.contains(*kind))
    }
}

impl fmt::Display for EventSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, kind) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_follow_all() {
        for (i, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
            assert_eq!(EventKind::from_name(kind.name()), Some(kind));
        }
    }

    #[test]
    fn a_list_is_read_whatever_its_case_and_spacing() {
        let set = EventSet::parse("flagsset, MESSAGENEW,,MessageTrash").expect("all are known");
        assert_eq!(set.to_string(), "FlagsSet, MessageNew, MessageTrash");
        assert_eq!(EventSet::parse(" , "), Ok(EventSet::ALL));
        assert_eq!(EventSet::ALL.iter().count(), 12);
    }

    #[test]
    fn an_unknown_name_is_named() {
        let error = EventSet::parse("FlagsSet,MessageGone").expect_err("unknown");
        assert!(
            error
                .to_string()
                .starts_with("unknown event `MessageGone` (known: FlagsClear, FlagsSet, ")
        );
    }
}

//! What an event holds, borrowed from whoever observed it.
//!
//! Text is bytes: what Dovecot hands out comes from mails and may be anything. Rendering makes
//! valid UTF-8 of it.

use crate::{EventKind, Flags, UnixMillis};

/// One mail-store event of one user.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The user whose mailbox it is; also the record's key.
    pub user: &'a [u8],
    /// Fields of the user that the configuration asks for; absent from the JSON if empty.
    pub userdb: &'a [Field],
    /// The mailbox, UTF-8 with the namespace's separator.
    pub mailbox: &'a [u8],
    /// The kind and what belongs to it.
    pub details: Details<'a>,
    /// What `detail=full` adds to every event.
    pub context: Option<&'a Context<'a>>,
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, as the configuration spells it.
    pub name: Vec<u8>,
    /// Value, as Dovecot holds it.
    pub value: Vec<u8>,
}

/// The kind of an event with what only that kind has.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are those of `EventKind`")]
pub enum Details<'a> {
    FlagsClear(FlagChange<'a>),
    FlagsSet(FlagChange<'a>),
    MailboxCreate {
        /// UIDVALIDITY of the new mailbox; 0 where the storage does not know it yet.
        uidvalidity: u32,
    },
    MailboxDelete,
    MailboxRename {
        /// The mailbox's name before; [`Event::mailbox`] is the new one.
        old_mailbox: &'a [u8],
    },
    MailboxSubscribe,
    MailboxUnsubscribe,
    MessageAppend(NewMessage<'a>),
    MessageExpunge(MessageId),
    MessageNew(NewMessage<'a>),
    MessageRead(MessageId),
    MessageTrash(MessageId),
}

impl Details<'_> {
    /// The kind alone.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::FlagsClear(_) => EventKind::FlagsClear,
            Self::FlagsSet(_) => EventKind::FlagsSet,
            Self::MailboxCreate { .. } => EventKind::MailboxCreate,
            Self::MailboxDelete => EventKind::MailboxDelete,
            Self::MailboxRename { .. } => EventKind::MailboxRename,
            Self::MailboxSubscribe => EventKind::MailboxSubscribe,
            Self::MailboxUnsubscribe => EventKind::MailboxUnsubscribe,
            Self::MessageAppend(_) => EventKind::MessageAppend,
            Self::MessageExpunge(_) => EventKind::MessageExpunge,
            Self::MessageNew(_) => EventKind::MessageNew,
            Self::MessageRead(_) => EventKind::MessageRead,
            Self::MessageTrash(_) => EventKind::MessageTrash,
        }
    }
}

/// What identifies a mail within its mailbox (RFC 9051 section 2.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId {
    /// UIDVALIDITY of the mailbox.
    pub uidvalidity: u32,
    /// UID of the mail.
    pub uid: u32,
}

/// A mail that came into a mailbox.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// Which mail.
    pub id: MessageId,
    /// The mail's Date header; MessageAppend renders it with `detail=full` only.
    pub date: Option<MailDate>,
    /// First From header, raw.
    pub from: Option<&'a [u8]>,
    /// The beginning of the text, as Dovecot cuts it.
    pub snippet: Option<&'a [u8]>,
    /// First Subject header, raw.
    pub subject: Option<&'a [u8]>,
    /// First To header, raw.
    pub to: Option<&'a [u8]>,
    /// What `detail=full` adds.
    pub full: Option<FullMessage<'a>>,
}

/// The instant of a Date header and the offset it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailDate {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix_seconds: i64,
    /// Minutes east of UTC.
    pub tz_minutes: i32,
}

/// Fields of a new mail with `detail=full`.
#[derive(Clone, Copy, Debug, Default)]
pub struct FullMessage<'a> {
    /// Message-ID header, raw.
    pub message_id: Option<&'a [u8]>,
    /// Size of the mail in bytes, as it is stored.
    pub size: Option<u64>,
    /// Address of the first From mailbox.
    pub from_address: Option<&'a [u8]>,
    /// Display name of the first From mailbox, decoded.
    pub from_display_name: Option<&'a [u8]>,
    /// Address of the first To mailbox.
    pub to_address: Option<&'a [u8]>,
    /// Display name of the first To mailbox, decoded.
    pub to_display_name: Option<&'a [u8]>,
    /// Subject, decoded.
    pub subject_decoded: Option<&'a [u8]>,
    /// Flags the mail came with.
    pub flags: Flags,
    /// Keywords the mail came with.
    pub keywords: &'a [&'a [u8]],
}

/// Flags and keywords that a change set or cleared.
#[derive(Clone, Copy, Debug)]
pub struct FlagChange<'a> {
    /// Which mail.
    pub id: MessageId,
    /// The flags that changed; absent from the JSON if empty.
    pub flags: Flags,
    /// The keywords that changed and are to be shown; `None` if no keyword changed at all.
    pub keywords: Option<&'a [&'a [u8]]>,
    /// What was set before (`detail=full`, FlagsClear only).
    pub old: Option<OldFlags<'a>>,
}

impl FlagChange<'_> {
    /// Whether nothing is left to tell: neither a flag nor a keyword.
    pub const fn is_empty(&self) -> bool {
        let no_keywords = match self.keywords {
            Some(keywords) => keywords.is_empty(),
            None => true,
        };
        self.flags.is_empty() && no_keywords
    }
}

/// Flags and keywords of a mail before a change.
#[derive(Clone, Copy, Debug)]
pub struct OldFlags<'a> {
    /// System flags.
    pub flags: Flags,
    /// Keywords, only those with the configured prefix.
    pub keywords: &'a [&'a [u8]],
}

/// What `detail=full` adds to every event: what a consumer outside the mail process cannot know.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// When the event was observed.
    pub timestamp: UnixMillis,
    /// Dovecot's service: imap, lmtp, lda, ...
    pub service: &'a [u8],
    /// Dovecot's session id.
    pub session: Option<&'a [u8]>,
    /// The client's IP address.
    pub client_ip: Option<&'a [u8]>,
    /// GUID of the mailbox in hexadecimal (RFC 8474 MAILBOXID); unknown once the mailbox is gone.
    pub mailbox_id: Option<&'a [u8]>,
    /// Status after the transaction; unknown once the mailbox is gone.
    pub status: Option<MailboxStatus>,
    /// METADATA entries that the configuration asks for and the user has.
    pub metadata: &'a [Field],
}

/// Status of a mailbox (RFC 9051 section 6.3.11, RFC 7162).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxStatus {
    /// HIGHESTMODSEQ
    pub modseq: u64,
    /// MESSAGES
    pub messages: u32,
    /// UNSEEN
    pub unseen: u32,
    /// RECENT
    pub recent: u32,
    /// UIDNEXT
    pub uidnext: u32,
}

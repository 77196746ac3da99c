//! What a source hears of a mailbox, and the events that are made of it.
//!
//! IMAP does not say how a mail came: one that is read when it comes was moved or copied, and is a
//! `MessageAppend`; any other is a `MessageNew`. Keywords are left out.

mod snippet;

use std::sync::Arc;

use dovecast_event::{
    Details, Event, EventKind, FlagChange, Flags, MessageId, render, replace_invalid_utf8,
};
use dovecast_mail_header::{decode_text, first_mailbox};
use serde::Serialize;

pub use snippet::snippet;

/// Something that happened in a mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Name of the mailbox, in UTF-8.
    pub mailbox: Arc<str>,
    /// UIDVALIDITY of the mailbox.
    pub uidvalidity: u32,
    /// What has happened.
    pub what: What,
    /// Unread mails of the mailbox; `None` if it is too large to know.
    pub unseen: Option<u32>,
}

/// What happened to a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The mail came.
    Came(Box<NewMail>),
    /// The mail went.
    Went {
        /// UID of the mail.
        uid: u32,
    },
    /// Flags were set that were not.
    FlagsSet {
        /// UID of the mail.
        uid: u32,
        /// Flags that are new.
        flags: Flags,
    },
    /// Flags were cleared.
    FlagsClear {
        /// UID of the mail.
        uid: u32,
        /// Flags that are no more.
        flags: Flags,
    },
}

/// A mail that came, as far as it was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMail {
    /// UID of the mail.
    pub uid: u32,
    /// Flags it came with.
    pub flags: Flags,
    /// First From header, raw.
    pub from: Option<String>,
    /// First Subject header, raw.
    pub subject: Option<String>,
    /// Beginning of the text.
    pub snippet: Option<String>,
}

impl Heard {
    /// UID of the mail.
    pub const fn uid(&self) -> u32 {
        match &self.what {
            What::Came(mail) => mail.uid,
            What::Went { uid } | What::FlagsSet { uid, .. } | What::FlagsClear { uid, .. } => *uid,
        }
    }

    /// Kind of the event.
    pub fn kind(&self) -> EventKind {
        match &self.what {
            What::Came(mail) if mail.flags.contains(Flags::SEEN) => EventKind::MessageAppend,
            What::Came(_) => EventKind::MessageNew,
            What::Went { .. } => EventKind::MessageExpunge,
            What::FlagsSet { .. } => EventKind::FlagsSet,
            What::FlagsClear { .. } => EventKind::FlagsClear,
        }
    }

    /// JSON of the event, as the plugin writes it.
    pub fn event(&self, user: &str) -> Vec<u8> {
        let id = MessageId {
            uidvalidity: self.uidvalidity,
            uid: self.uid(),
        };
        let change = |flags| FlagChange {
            id,
            flags,
            keywords: None,
            old: None,
        };
        let details = match &self.what {
            What::Came(mail) => return self.event_of_mail(user, mail),
            What::Went { .. } => Details::MessageExpunge(id),
            What::FlagsSet { flags, .. } => Details::FlagsSet(change(*flags)),
            What::FlagsClear { flags, .. } => Details::FlagsClear(change(*flags)),
        };
        let mut out = Vec::new();
        let event = Event {
            user: user.as_bytes(),
            userdb: &[],
            mailbox: self.mailbox.as_bytes(),
            details,
            context: None,
        };
        render(&event, &mut out);
        // The brace that closes the event, behind which nothing is written.
        if let Some(unseen) = self.unseen
            && out.pop().is_some()
        {
            out.extend_from_slice(format!(",\"unseen\":{unseen}}}").as_bytes());
        }
        out
    }

    fn event_of_mail(&self, user: &str, mail: &NewMail) -> Vec<u8> {
        let from = mail.from.as_deref().map(str::as_bytes);
        let from = from.map(first_mailbox).unwrap_or_default();
        let subject = mail.subject.as_deref();
        let event = MailEvent {
            user,
            mailbox: &self.mailbox,
            event: self.kind().name(),
            uidvalidity: self.uidvalidity,
            uid: mail.uid,
            from: mail.from.as_deref(),
            snippet: mail.snippet.as_deref(),
            subject,
            unseen: self.unseen,
            from_address: from.address,
            from_display_name: from.display_name,
            subject_decoded: subject.map(|subject| decode_text(subject.as_bytes())),
        };
        // Text and numbers: nothing in it can fail.
        serde_json::to_vec(&event).unwrap_or_default()
    }
}

/// The event of a mail that came, its fields in the order of `docs/events.md`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MailEvent<'a> {
    user: &'a str,
    mailbox: &'a str,
    event: &'static str,
    uidvalidity: u32,
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_decoded: Option<String>,
}

/// Text of a mail as events have it: UTF-8 without NUL, which PostgreSQL does not store.
pub(super) fn text(bytes: &[u8]) -> String {
    replace_invalid_utf8(bytes).replace('\0', "\u{fffd}")
}

/// The first field of this name in a header block, folded as it is, line ends as LF.
pub(super) fn field(header: &[u8], name: &str) -> Option<String> {
    let header = text(header).replace("\r\n", "\n");
    let mut found: Option<String> = None;
    for line in header.split('\n') {
        let is_folded = line.starts_with([' ', '\t']);
        match &mut found {
            Some(value) if is_folded => {
                value.push('\n');
                value.push_str(line);
            }
            Some(_) => break,
            None => {
                let value = line.split_once(':');
                let value = value.filter(|(field, _)| field.trim_end().eq_ignore_ascii_case(name));
                found = value.map(|(_, value)| value.trim_start().to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;

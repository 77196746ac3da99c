//! Events of a mailbox as mail push sees them: whose they are, of which mail, and what may be told.

use dovecast_event::{EventKind, ParseError, ParsedEvent};
use dovecast_mail_header::{Mailbox, decode_text, first_mailbox};
use dovecast_notification::EventAccount;

use crate::person::BadPerson;
use crate::{Person, Tag};

/// Longest subject, name or address that is handed on, in characters: more fits on no device, and
/// a push has 4 KiB.
const MAX_TEXT_CHARS: usize = 300;
/// Longest snippet, in characters; Dovecot makes 200.
const MAX_SNIPPET_CHARS: usize = 300;

/// An event of one person's mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailEvent {
    /// Whose mailbox it is.
    pub person: Person,
    /// Kind of the event.
    pub kind: EventKind,
    /// The mailbox, UTF-8 with the namespace's separator.
    pub mailbox: String,
    /// UIDVALIDITY and UID of the mail, where the source knows them.
    pub mail: Option<(u32, u32)>,
    /// Name of the mailbox before it was renamed.
    pub old_mailbox: Option<String>,
    /// From whom the mail is.
    pub sender: Option<MailSender>,
    /// Subject, decoded.
    pub subject: Option<String>,
    /// First words of the text.
    pub snippet: Option<String>,
    /// Unseen mails of the mailbox after the event.
    pub unseen: Option<u32>,
    /// Flags, then keywords, that were set or cleared.
    pub flags: Vec<String>,
}

/// The author of a mail, as its From header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailSender {
    /// Whole header, decoded.
    pub text: String,
    /// First address; the whole header where it has none.
    pub address: String,
    /// Name that stands with it.
    pub display_name: Option<String>,
}

/// Why a record is no event of a person.
#[derive(Debug, thiserror::Error)]
pub enum BadMailEvent {
    /// The value is no event.
    #[error(transparent)]
    Event(#[from] ParseError),
    /// The user of the event is no person.
    #[error("the user of the event is no person: {0}")]
    Person(#[from] BadPerson),
}

impl MailEvent {
    /// Reads the JSON of an event.
    pub fn parse(json: &[u8], account: &EventAccount) -> Result<Self, BadMailEvent> {
        let event = dovecast_event::parse(json)?;
        let person = Person::of_login(&event.user, account)?;
        Ok(Self::of(person, event))
    }

    fn of(person: Person, event: ParsedEvent) -> Self {
        let said = Mailbox {
            address: event.from_address,
            display_name: event.from_display_name,
        };
        let sender = MailSender::of(event.from.as_deref(), said);
        let subject = event.subject_decoded.or_else(|| {
            let raw = event.subject?;
            Some(decode_text(raw.as_bytes()))
        });
        let mut flags = event.flags.unwrap_or_default();
        flags.extend(event.keywords.unwrap_or_default());
        Self {
            person,
            kind: event.kind,
            mailbox: event.mailbox,
            mail: event.uidvalidity.zip(event.uid),
            old_mailbox: event.old_mailbox,
            sender,
            subject: subject.map(|text| cut(&text, MAX_TEXT_CHARS)),
            snippet: event.snippet.map(|text| cut(&text, MAX_SNIPPET_CHARS)),
            unseen: event.unseen,
            flags,
        }
    }

    /// New mail in a mailbox, of which the source knows nothing else (`mailnotify`).
    pub fn something_new(person: Person, mailbox: &str) -> Self {
        Self {
            person,
            kind: EventKind::MessageNew,
            mailbox: mailbox.to_owned(),
            mail: None,
            old_mailbox: None,
            sender: None,
            subject: None,
            snippet: None,
            unseen: None,
            flags: Vec::new(),
        }
    }

    /// Name of what devices show of the mail; `None`: the event is of no mail.
    pub fn tag(&self) -> Option<Tag> {
        match self.mail {
            Some((uidvalidity, uid)) => {
                let Self {
                    person, mailbox, ..
                } = self;
                Some(Tag::of_mail(person, mailbox, uidvalidity, uid))
            }
            None if self.kind == EventKind::MessageNew => {
                Some(Tag::of_mailbox(&self.person, &self.mailbox))
            }
            None => None,
        }
    }

    /// Whether what is shown of the mail is to go: it was read, or is gone from this mailbox.
    pub fn is_take_back(&self) -> bool {
        let has = |flag: &str| self.flags.iter().any(|one| one.eq_ignore_ascii_case(flag));
        match self.kind {
            EventKind::MessageRead | EventKind::MessageTrash | EventKind::MessageExpunge => true,
            EventKind::FlagsSet => has("\\Seen") || has("\\Deleted"),
            _ => false,
        }
    }
}

impl MailSender {
    /// The sender as the source of the event has read the header, which may be cut in the event; as
    /// the header in the event says where the source tells nothing else.
    fn of(header: Option<&str>, said: Mailbox) -> Option<Self> {
        let is_said = said != Mailbox::default();
        let mailbox = match header {
            Some(header) if !is_said => first_mailbox(header.as_bytes()),
            None if !is_said => return None,
            _ => said,
        };
        let short = |text: String| cut(&text, MAX_TEXT_CHARS);
        let (address, display_name) = (mailbox.address.map(short), mailbox.display_name.map(short));
        let text = match (header, &display_name, &address) {
            (Some(header), ..) => cut(&decode_text(header.as_bytes()), MAX_TEXT_CHARS),
            (None, Some(name), Some(address)) => {
                cut(&format!("{name} <{address}>"), MAX_TEXT_CHARS)
            }
            (None, name, address) => name.as_ref().or(address.as_ref()).cloned()?,
        };
        Some(Self {
            address: address.unwrap_or_else(|| text.clone()),
            display_name,
            text,
        })
    }
}

/// The beginning of a text, with an ellipsis where it goes on.
fn cut(text: &str, chars: usize) -> String {
    if text.char_indices().nth(chars).is_none() {
        return text.to_owned();
    }
    let end = text.char_indices().nth(chars - 1).map_or(0, |(at, _)| at);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> MailEvent {
        MailEvent::parse(json.as_bytes(), &EventAccount::User).expect(json)
    }

    #[test]
    fn a_new_mail_has_its_person_and_decoded_headers() {
        let new = event(
            r#"{"user":"11@3","mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":9,
            "from":"=?utf-8?q?=C3=84?= <alice@barfoo.org>","subject":"=?utf-8?q?gr=C3=BCn?=","snippet":"s","unseen":4}"#,
        );
        assert_eq!(format!("{}", new.person), "11@3");
        let sender = new.sender.as_ref().expect("a sender");
        assert_eq!(sender.text, "Ä <alice@barfoo.org>");
        assert_eq!(sender.address, "alice@barfoo.org");
        assert_eq!(sender.display_name.as_deref(), Some("Ä"));
        assert_eq!(new.subject.as_deref(), Some("grün"));
        assert_eq!((new.mail, new.unseen), (Some((7, 9)), Some(4)));
        assert!(new.tag().is_some() && !new.is_take_back());
    }

    #[test]
    fn what_is_read_trashed_or_expunged_is_taken_back() {
        for (name, more, expected) in [
            ("MessageRead", "", true),
            ("MessageTrash", "", true),
            ("MessageExpunge", "", true),
            ("FlagsSet", r#","flags":["\\Seen"]"#, true),
            (
                "FlagsSet",
                r#","flags":["\\Flagged"],"keywords":["$Todo"]"#,
                false,
            ),
            ("FlagsClear", r#","flags":["\\Seen"]"#, false),
            ("MessageNew", "", false),
        ] {
            let json = format!(
                r#"{{"user":"u","mailbox":"m","event":"{name}","uidvalidity":1,"uid":2{more}}}"#
            );
            assert_eq!(event(&json).is_take_back(), expected, "{json}");
        }
        let renamed =
            event(r#"{"user":"u","mailbox":"b","event":"MailboxRename","oldMailbox":"a"}"#);
        assert_eq!(renamed.tag(), None);
    }

    #[test]
    fn the_sender_is_whom_the_source_has_read_though_the_header_is_cut() {
        let name = format!("x <ceo@bank.example> {}", "x ".repeat(20_000));
        let from = &format!("\\\"{name}\\\" <real@evil.example>")[..32_768];
        let said = r#""fromAddress":"real@evil.example","fromDisplayName":"x""#;
        for (fields, text) in [
            (format!(r#""from":"{from}",{said}"#), None),
            (said.to_owned(), Some("x <real@evil.example>")),
        ] {
            let json = format!(
                r#"{{"user":"u","mailbox":"m","event":"MessageNew","uidvalidity":1,"uid":2,{fields}}}"#
            );
            let sender = event(&json).sender.expect("a sender");
            assert_eq!(sender.address, "real@evil.example");
            assert_eq!(sender.display_name.as_deref(), Some("x"));
            assert!(
                text.is_none_or(|text| sender.text == text),
                "{}",
                sender.text
            );
        }
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "ä".repeat(10_000);
        let json = format!(
            r#"{{"user":"u","mailbox":"m","event":"MessageNew","uidvalidity":1,"uid":2,
            "from":"{long}","subject":"{long}","snippet":"{long}"}}"#
        );
        let new = event(&json);
        let subject = new.subject.expect("a subject");
        assert_eq!(subject.chars().count(), MAX_TEXT_CHARS);
        assert!(subject.ends_with('…'));
        assert_eq!(
            new.sender.expect("a sender").text.chars().count(),
            MAX_TEXT_CHARS
        );
    }
}

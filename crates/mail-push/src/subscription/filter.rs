//! Filters of subscriptions: which mails a device is told of.

use crate::{MailEvent, glob};

/// Most patterns of each kind in one filter.
pub(super) const MAX_PATTERNS: usize = 100;
/// Longest pattern, in bytes.
pub(super) const MAX_PATTERN_BYTES: usize = 255;

/// Which mails are told of: those that every part of it lets pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushFilter {
    /// Mailboxes, with `*` and `?`; `None`: all.
    pub mailboxes: Option<Vec<String>>,
    /// Addresses of senders, with `*` and `?`; `None`: all.
    pub senders: Option<Vec<String>>,
    /// Condition over the notification, in CEL.
    pub condition: Option<String>,
}

impl PushFilter {
    /// How many steps it takes at most to find out whether mailbox and sender pass.
    pub fn steps(&self, event: &MailEvent) -> u64 {
        let of = |patterns: &Option<Vec<String>>, text: &str| {
            let patterns = patterns.iter().flatten();
            let bytes: u64 = patterns.map(|pattern| pattern.len() as u64 + 1).sum();
            bytes.saturating_mul(text.len() as u64 + 1)
        };
        let sender = event.sender.as_ref();
        let sender = sender.map_or("", |sender| &sender.address);
        of(&self.mailboxes, &event.mailbox).saturating_add(of(&self.senders, sender))
    }

    /// Whether mailbox and sender pass; the condition is evaluated by whoever has compiled it. What
    /// tells no sender passes no list of senders: a filter lets through only what it names.
    pub fn passes(&self, event: &MailEvent) -> bool {
        let is_among = |patterns: &[String], text: &str| {
            patterns.iter().any(|pattern| glob::matches(pattern, text))
        };
        let mailbox = self.mailboxes.as_deref();
        let mailbox = mailbox.is_none_or(|patterns| is_among(patterns, &event.mailbox));
        let sender = self.senders.as_deref();
        mailbox
            && sender.is_none_or(|patterns| {
                let sender = event.sender.as_ref();
                sender.is_some_and(|sender| is_among(patterns, &sender.address))
            })
    }
}

#[cfg(test)]
mod tests {
    use dovecast_notification::EventAccount;

    use super::*;

    #[test]
    fn a_mail_passes_what_names_its_mailbox_and_its_sender() {
        let new = r#"{"user":"u","mailbox":"Lists/rust","event":"MessageNew","uidvalidity":1,"uid":2,"from":"Bob <bob@Example.org>"}"#;
        let read =
            r#"{"user":"u","mailbox":"INBOX","event":"MessageRead","uidvalidity":1,"uid":2}"#;
        for (event, mailboxes, senders, expected) in [
            (new, None, None, true),
            (new, Some(&["INBOX"][..]), None, false),
            (new, Some(&["INBOX", "lists/*"]), None, true),
            (new, None, Some(&["*@example.org"][..]), true),
            (new, None, Some(&["*@example.net"]), false),
            (new, Some(&[]), None, false),
            (read, Some(&["inbox"]), None, true),
            (read, None, Some(&["*"]), false),
        ] {
            let event = MailEvent::parse(event.as_bytes(), &EventAccount::User).expect("an event");
            let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            let filter = PushFilter {
                mailboxes: mailboxes.map(texts),
                senders: senders.map(texts),
                condition: None,
            };
            assert_eq!(filter.passes(&event), expected, "{filter:?} {event:?}");
        }
    }
}

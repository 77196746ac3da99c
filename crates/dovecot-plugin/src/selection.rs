//! Which events of a message or a mailbox an instance shows, and what it shows of them.
//!
//! The framework's event data is shared by all drivers, so nothing is taken from it that this
//! instance did not ask for; a keyword stands there once per driver that subscribed. Addresses and
//! decoded texts are made of the raw headers here, not taken from the framework, which stops at a
//! NUL and takes the name of a group, or a part of a display name, for an address.

use dovecast_dovecot_sys::{Content, FlagChange as RawFlagChange, MailboxEvent, Message, Strings};
use dovecast_event::{
    Details, EventKind, FlagChange, Flags, FullMessage, MailDate, MessageId, NewMessage, OldFlags,
};

use dovecast_mail_header::{Mailbox, decode_text, first_mailbox, whole_mailboxes};
use dovecast_options::InstanceOptions;

/// The order in which one message's events are sent.
const MESSAGE_ORDER: [EventKind; 7] = [
    EventKind::MessageNew,
    EventKind::MessageAppend,
    EventKind::FlagsClear,
    EventKind::FlagsSet,
    EventKind::MessageRead,
    EventKind::MessageTrash,
    EventKind::MessageExpunge,
];

/// Calls `send` for each event of the message that this instance shows, in order.
pub(crate) fn message_events(
    options: &InstanceOptions,
    message: &Message<'_>,
    mut send: impl FnMut(Details<'_>),
) {
    let id = MessageId {
        uidvalidity: message.uidvalidity(),
        uid: message.uid(),
    };
    for kind in MESSAGE_ORDER {
        if message.kinds() & (1 << kind as u32) == 0 || !options.events.contains(kind) {
            continue;
        }
        match kind {
            EventKind::MessageNew => {
                new_message(options, id, message, |new| send(Details::MessageNew(new)));
            }
            EventKind::MessageAppend => new_message(options, id, message, |new| {
                send(Details::MessageAppend(new));
            }),
            EventKind::FlagsClear => flag_change(options, id, &message.cleared(), |change| {
                let before = message.old().filter(|_| options.full);
                let keywords = before
                    .map(|(_, keywords)| with_prefix(options, keywords))
                    .unwrap_or_default();
                let old = before.map(|(flags, _)| OldFlags {
                    flags: Flags::from_dovecot(flags),
                    keywords: &keywords,
                });
                send(Details::FlagsClear(FlagChange { old, ..change }));
            }),
            EventKind::FlagsSet => flag_change(options, id, &message.set(), |change| {
                send(Details::FlagsSet(change));
            }),
            EventKind::MessageRead => send(Details::MessageRead(id)),
            EventKind::MessageTrash => send(Details::MessageTrash(id)),
            _ => send(Details::MessageExpunge(id)),
        }
    }
}

/// Calls `send` for each event of the mailbox that this instance shows.
pub(crate) fn mailbox_events(
    options: &InstanceOptions,
    event: &MailboxEvent<'_>,
    mut send: impl FnMut(Details<'_>),
) {
    for kind in options
        .events
        .iter()
        .filter(|kind| event.kinds() & (1 << *kind as u32) != 0)
    {
        match kind {
            EventKind::MailboxCreate => send(Details::MailboxCreate {
                uidvalidity: event.uidvalidity(),
            }),
            EventKind::MailboxDelete => send(Details::MailboxDelete),
            EventKind::MailboxRename => send(Details::MailboxRename {
                old_mailbox: event.old_mailbox(),
            }),
            EventKind::MailboxSubscribe => send(Details::MailboxSubscribe),
            EventKind::MailboxUnsubscribe => send(Details::MailboxUnsubscribe),
            _ => {}
        }
    }
}

fn new_message(
    options: &InstanceOptions,
    id: MessageId,
    message: &Message<'_>,
    send: impl FnOnce(NewMessage<'_>),
) {
    let content = message.content();
    // Another driver may have asked for what this one must not show.
    let text = |value| cut(options.max_field_bytes, value).filter(|_| options.content);
    let mailboxes = |value| whole_list(options.max_field_bytes, value).filter(|_| options.content);
    let readable = (options.full && options.content).then(|| Readable::of(&content));
    let keywords = if options.full {
        with_prefix(options, content.keywords())
    } else {
        Vec::new()
    };
    send(NewMessage {
        id,
        date: content.date().map(|(unix_seconds, tz_minutes)| MailDate {
            unix_seconds,
            tz_minutes,
        }),
        from: mailboxes(content.from()),
        snippet: text(content.snippet()),
        subject: text(content.subject()),
        to: mailboxes(content.to()),
        full: options
            .full
            .then(|| full_message(options, message, readable.as_ref(), &keywords)),
    });
}

/// Headers of a new mail as people read them.
#[derive(Default)]
struct Readable {
    from: Mailbox,
    to: Mailbox,
    subject: Option<String>,
}

impl Readable {
    fn of(content: &Content<'_>) -> Self {
        Self {
            from: content.from().map(first_mailbox).unwrap_or_default(),
            to: content.to().map(first_mailbox).unwrap_or_default(),
            subject: content.subject().map(decode_text),
        }
    }
}

fn full_message<'a>(
    options: &InstanceOptions,
    message: &Message<'a>,
    readable: Option<&'a Readable>,
    keywords: &'a [&'a [u8]],
) -> FullMessage<'a> {
    let content = message.content();
    let max_bytes = options.max_field_bytes;
    let (from, to) = (readable.map(|it| &it.from), readable.map(|it| &it.to));
    let address = |mailbox: Option<&'a Mailbox>| whole(max_bytes, bytes(mailbox?.address.as_ref()));
    let name = |mailbox: Option<&'a Mailbox>| cut(max_bytes, bytes(mailbox?.display_name.as_ref()));
    FullMessage {
        message_id: cut(max_bytes, content.message_id()),
        size: message.size(),
        from_address: address(from),
        from_display_name: name(from),
        to_address: address(to),
        to_display_name: name(to),
        subject_decoded: readable.and_then(|it| cut(max_bytes, bytes(it.subject.as_ref()))),
        flags: Flags::from_dovecot(content.flags()),
        keywords,
    }
}

fn bytes(text: Option<&String>) -> Option<&[u8]> {
    text.map(String::as_bytes)
}

fn flag_change(
    options: &InstanceOptions,
    id: MessageId,
    raw: &RawFlagChange<'_>,
    send: impl FnOnce(FlagChange<'_>),
) {
    let flags = if options.send_flags {
        Flags::from_dovecot(raw.flags())
    } else {
        Flags::default()
    };
    let keywords = with_prefix(options, raw.keywords());
    let change = FlagChange {
        id,
        flags,
        keywords: (!raw.keywords().is_empty()).then_some(&keywords),
        old: None,
    };
    if !change.is_empty() {
        send(change);
    }
}

/// The keywords with the configured prefix, each once, in Dovecot's order.
fn with_prefix<'a>(options: &InstanceOptions, keywords: Strings<'a>) -> Vec<&'a [u8]> {
    let mut shown: Vec<&[u8]> = Vec::new();
    for keyword in keywords
        .iter()
        .filter(|keyword| keyword.starts_with(&options.keyword_prefix))
    {
        if !shown.contains(&keyword) {
            shown.push(keyword);
        }
    }
    shown
}

/// At most so many bytes of a text, if there is one.
pub(crate) fn cut(max_bytes: usize, text: Option<&[u8]>) -> Option<&[u8]> {
    text.map(|text| cut_bytes(max_bytes, text))
}

/// The address, unless it is longer than that: cut it would be the address of somebody else.
pub(crate) fn whole(max_bytes: usize, address: Option<&[u8]>) -> Option<&[u8]> {
    address.filter(|address| address.len() <= max_bytes)
}

/// At most so many bytes of a list of addresses, cut behind a mailbox: cut elsewhere it could say
/// that the mail is of somebody else.
pub(crate) fn whole_list(max_bytes: usize, list: Option<&[u8]>) -> Option<&[u8]> {
    whole_mailboxes(list?, max_bytes)
}

/// At most so many bytes of a text, not cut inside a character.
pub(crate) fn cut_bytes(max_bytes: usize, text: &[u8]) -> &[u8] {
    if text.len() <= max_bytes {
        return text;
    }
    let is_continuation = |at: usize| text[at] & 0xc0 == 0x80;
    let end = (max_bytes - 3..=max_bytes)
        .rev()
        .find(|at| !is_continuation(*at))
        .unwrap_or(max_bytes);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_whole_or_left_out() {
        let address = format!("bob@{}", "bank.example.".repeat(8));
        let address = address.as_bytes();
        assert_eq!(whole(address.len(), Some(address)), Some(address));
        assert_eq!(whole(address.len() - 1, Some(address)), None);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let check = |text: &str, expected_bytes: usize| {
            let cut = cut(64, Some(text.as_bytes())).expect("some");
            assert_eq!(cut.len(), expected_bytes);
            assert!(std::str::from_utf8(cut).is_ok());
        };
        check(&"a".repeat(64), 64);
        check(&"a".repeat(65), 64);
        check(&"é".repeat(40), 64);
        check(&format!("a{}", "é".repeat(40)), 63);
        check(&format!("a{}", "📧".repeat(20)), 61);
        assert_eq!(cut(64, Some(&[0x80; 100])).expect("some").len(), 64);
        assert_eq!(cut(64, None), None);
    }
}

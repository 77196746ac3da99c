//! Keeps an event as small as Kafka takes it by default: what is too large would be lost as a
//! whole.

use dovecast_event::{
    Context, Details, Event, Field, FlagChange, FullMessage, NewMessage, OldFlags, render,
};

use crate::selection;

/// The largest event: Kafka's producers take records of 1,000,000 bytes by default, with their key
/// and headers.
const MAX_EVENT_BYTES: usize = 900_000;
/// Where texts are cut first when an event is too large; a byte may become six in JSON, and ten
/// texts are in an event.
const FIRST_FIELD_BYTES: usize = MAX_EVENT_BYTES / 8;
/// Texts are cut no shorter than `max_field_bytes` can say.
const LAST_FIELD_BYTES: usize = 64;

/// What a keyword takes in JSON beside its text: quotes and a comma.
const KEYWORD_FRAMING_BYTES: usize = 3;

/// The JSON of an event. Where it is too large its texts and lists are cut, all at the same length.
/// Names of users and mailboxes are not: cut they would be others, and Dovecot bounds them.
pub(crate) fn render_within(event: &Event<'_>) -> Vec<u8> {
    let mut value = Vec::with_capacity(256);
    render(event, &mut value);
    let mut max_bytes = FIRST_FIELD_BYTES;
    while value.len() > MAX_EVENT_BYTES && max_bytes >= LAST_FIELD_BYTES {
        value.clear();
        let metadata = event
            .context
            .map(|context| short_fields(context.metadata, max_bytes));
        let context = event.context.zip(metadata.as_deref());
        let context = context.map(|(context, metadata)| Context {
            metadata,
            ..*context
        });
        let short = Event {
            context: context.as_ref(),
            userdb: &short_fields(event.userdb, max_bytes),
            ..shortened(event, max_bytes)
        };
        render(&short, &mut value);
        max_bytes /= 2;
    }
    value
}

/// Values are the users' own: METADATA is written over IMAP.
fn short_fields(fields: &[Field], max_bytes: usize) -> Vec<Field> {
    let short = |field: &Field| Field {
        name: field.name.clone(),
        value: selection::cut_bytes(max_bytes, &field.value).to_vec(),
    };
    fields.iter().map(short).collect()
}

fn shortened<'a>(event: &Event<'a>, max_bytes: usize) -> Event<'a> {
    let details = match event.details {
        Details::MessageNew(message) => Details::MessageNew(short(message, max_bytes)),
        Details::MessageAppend(message) => Details::MessageAppend(short(message, max_bytes)),
        Details::FlagsSet(change) => Details::FlagsSet(short_change(change, max_bytes)),
        Details::FlagsClear(change) => Details::FlagsClear(short_change(change, max_bytes)),
        other => other,
    };
    Event { details, ..*event }
}

fn short(message: NewMessage<'_>, max_bytes: usize) -> NewMessage<'_> {
    let text = |text| selection::cut(max_bytes, text);
    let list = |list| selection::whole_list(max_bytes, list);
    let address = |address| selection::whole(max_bytes, address);
    NewMessage {
        from: list(message.from),
        snippet: text(message.snippet),
        subject: text(message.subject),
        to: list(message.to),
        full: message.full.map(|full| FullMessage {
            message_id: text(full.message_id),
            from_address: address(full.from_address),
            from_display_name: text(full.from_display_name),
            to_address: address(full.to_address),
            to_display_name: text(full.to_display_name),
            subject_decoded: text(full.subject_decoded),
            keywords: first_keywords(full.keywords, max_bytes),
            ..full
        }),
        ..message
    }
}

fn short_change(change: FlagChange<'_>, max_bytes: usize) -> FlagChange<'_> {
    let first = |keywords| first_keywords(keywords, max_bytes);
    FlagChange {
        keywords: change.keywords.map(first),
        old: change.old.map(|old| OldFlags {
            keywords: first(old.keywords),
            ..old
        }),
        ..change
    }
}

/// As many keywords as take so many bytes, each whole: an IMAP user may set any number.
fn first_keywords<'a>(keywords: &'a [&'a [u8]], max_bytes: usize) -> &'a [&'a [u8]] {
    let mut left = max_bytes;
    let has_room = |keyword: &&[u8]| {
        let room = left.checked_sub(keyword.len() + KEYWORD_FRAMING_BYTES);
        left = room.unwrap_or(0);
        room.is_some()
    };
    let count = keywords.iter().copied().take_while(has_room).count();
    &keywords[..count]
}

#[cfg(test)]
mod tests {
    use dovecast_event::{Flags, MessageId, ParsedEvent, UnixMillis};

    use super::*;

    fn check(text: &str, is_cut: bool) {
        let bytes = Some(text.as_bytes());
        let full = FullMessage {
            message_id: bytes,
            size: Some(1),
            from_address: bytes,
            from_display_name: bytes,
            to_address: bytes,
            to_display_name: bytes,
            subject_decoded: bytes,
            flags: Flags::default(),
            keywords: &[],
        };
        let message = NewMessage {
            id: MessageId {
                uidvalidity: 1,
                uid: 2,
            },
            date: None,
            from: bytes,
            snippet: bytes,
            subject: bytes,
            to: bytes,
            full: Some(full),
        };
        let event = Event {
            user: b"u",
            userdb: &[],
            mailbox: b"INBOX",
            details: Details::MessageNew(message),
            context: None,
        };
        let value = render_within(&event);
        assert!(value.len() <= MAX_EVENT_BYTES, "{} bytes", value.len());
        // Something of each text is left, apart from what names nobody.
        assert!(!is_cut || value.len() > MAX_EVENT_BYTES / 4);
        let mut whole = Vec::new();
        render(&event, &mut whole);
        assert_eq!(value != whole, is_cut, "{} bytes", whole.len());
        let parsed = dovecast_event::parse(&value).expect("an event");
        assert_eq!(parsed.uid, Some(2));
    }

    #[test]
    fn metadata_is_cut_as_other_texts_are() {
        let field = |name: &str| Field {
            name: name.as_bytes().to_vec(),
            value: vec![b'"'; 1024 * 1024],
        };
        let context = Context {
            timestamp: UnixMillis(0),
            service: b"imap",
            session: None,
            client_ip: None,
            mailbox_id: None,
            status: None,
            metadata: &[field("/private/a"), field("/private/b")],
        };
        let event = Event {
            user: b"u",
            userdb: &[],
            mailbox: b"INBOX",
            details: Details::MailboxDelete,
            context: Some(&context),
        };
        let value = render_within(&event);
        assert!(value.len() <= MAX_EVENT_BYTES, "{} bytes", value.len());
        assert!(value.len() > MAX_EVENT_BYTES / 4, "{} bytes", value.len());
    }

    #[test]
    fn keywords_and_fields_of_the_user_are_cut_as_texts_are() {
        let context = Context {
            timestamp: UnixMillis(0),
            service: b"imap",
            session: None,
            client_ip: None,
            mailbox_id: None,
            status: None,
            metadata: &[],
        };
        let names: Vec<Vec<u8>> = (0..100_000)
            .map(|number| format!("{number:050}").into_bytes())
            .collect();
        let keywords: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let change = FlagChange {
            id: MessageId {
                uidvalidity: 1,
                uid: 2,
            },
            flags: Flags::default(),
            keywords: Some(&keywords),
            old: Some(OldFlags {
                flags: Flags::default(),
                keywords: &keywords,
            }),
        };
        let event = Event {
            user: b"u",
            userdb: &[Field {
                name: b"quota".to_vec(),
                value: vec![b'x'; 1024 * 1024],
            }],
            mailbox: b"INBOX",
            details: Details::FlagsClear(change),
            context: Some(&context),
        };
        let value = render_within(&event);
        assert!(value.len() <= MAX_EVENT_BYTES, "{} bytes", value.len());
        let ParsedEvent {
            userdb,
            keywords: changed,
            old_keywords: old,
            ..
        } = dovecast_event::parse(&value).expect("an event");
        for shown in [changed, old] {
            let shown = shown.expect("keywords");
            assert!(shown.len() > 1000, "only {} are left", shown.len());
            let are_whole = shown
                .iter()
                .zip(&names)
                .all(|(one, name)| one.as_bytes() == name);
            assert!(are_whole, "{:?}", shown.last());
        }
        assert!(userdb[0].1.len() > 50_000, "{} bytes", userdb[0].1.len());
    }

    #[test]
    fn an_event_that_is_too_large_is_cut_until_kafka_takes_it() {
        check("short", false);
        check(&"a".repeat(80_000), false);
        check(&"a".repeat(1024 * 1024), true);
        check(&"\"".repeat(400_000), true);
        check(&"\u{fc}\"".repeat(300_000), true);
    }
}

//! The JSON of an event: as `dovecast_event` reads it, and as the dispatcher makes a notification
//! of it.

use dovecast_event::{
    Context, Details, Event, EventKind, Field, FlagChange, Flags, FullMessage, MailDate,
    MailboxStatus, MessageId, NewMessage, OldFlags, ParseError, ParsedEvent, UnixMillis, parse,
    render,
};
use dovecast_notification::{BadNotification, Notification};
use dovecast_notification::{DOVECOT, EventAccount};

use crate::expect::{readable_error, within};
use crate::outbox::record;
use crate::{Outcome, Target, json};

/// See the module.
pub const TARGET: Target = Target { name: "event", run };

fn run(bytes: &[u8]) -> Outcome {
    // A list of empty texts is what grows most: 24 bytes for 3, in a list that has doubled and is
    // copied.
    let read = within(bytes.len() * 32 + 8192, || parse(bytes));
    let notification = within(bytes.len() * 4 + 8192, || {
        Notification::from_event(&record(bytes), &EventAccount::User)
    });
    match &notification {
        Ok(notification) => is_delivered_as_it_is(notification, bytes),
        Err(error) => readable_error(error),
    }
    match read {
        Ok(event) => {
            is_the_same_again(&event);
            agree(&event, &notification);
            Outcome::Read
        }
        Err(error) => {
            readable_error(&error);
            if let ParseError::Json(_) = &error {
                assert_says_where(&error);
            }
            Outcome::Refused
        }
    }
}

fn assert_says_where(error: &ParseError) {
    let cause = std::error::Error::source(error).expect("its cause");
    assert!(cause.to_string().contains(" at line "), "{cause}");
}

/// What endpoints get is JSON, and the event is in it byte for byte.
fn is_delivered_as_it_is(notification: &Notification, bytes: &[u8]) {
    assert_eq!(&*notification.application, DOVECOT);
    assert!(EventKind::from_name(&notification.event_type).is_some());
    assert_eq!(notification.message, bytes);
    let body = notification.body();
    assert!(json::is_json(&body), "{}", body.escape_ascii());
}

/// The reader of events is the stricter one; what both take they take for the same.
fn agree(event: &ParsedEvent, notification: &Result<Notification, BadNotification>) {
    let notification = match notification {
        Ok(notification) => notification,
        Err(error) => panic!("an event is no notification: {error}"),
    };
    assert_eq!(&*notification.event_type, event.kind.name());
    assert_eq!(&*notification.account, event.user);
    let value = json::value(&notification.message);
    if let Some(user) = value.as_ref().and_then(|value| value.get("user")) {
        assert_eq!(user, &event.user);
    }
}

/// Written by the plugin's renderer and read again it is the same, in what its kind has.
fn is_the_same_again(event: &ParsedEvent) {
    let first = rendered(event);
    let again = parse(&first).expect("what was rendered");
    assert_eq!(again.user, event.user);
    assert_eq!(again.userdb, event.userdb);
    assert_eq!(again.mailbox, event.mailbox);
    assert_eq!(again.kind, event.kind);
    if again.uid.is_some() {
        assert_eq!(again.uid, event.uid);
        assert_eq!(again.uidvalidity, event.uidvalidity);
    }
    if let EventKind::MessageNew | EventKind::MessageAppend = event.kind {
        assert_eq!(again.from, event.from);
        assert_eq!(again.snippet, event.snippet);
        assert_eq!(again.subject, event.subject);
        assert_eq!(again.to, event.to);
    }
    if let EventKind::FlagsSet | EventKind::FlagsClear = event.kind {
        assert_eq!(again.keywords, event.keywords);
    }
    if event.kind == EventKind::MailboxRename {
        assert_eq!(again.old_mailbox, event.old_mailbox);
    }
    let second = rendered(&again);
    assert_eq!(
        first.escape_ascii().to_string(),
        second.escape_ascii().to_string()
    );
}

/// As the plugin would have rendered it. What its kind does not have is left out.
fn rendered(event: &ParsedEvent) -> Vec<u8> {
    let keywords = borrowed(event.keywords.as_ref());
    let old_keywords = borrowed(event.old_keywords.as_ref());
    let (userdb, metadata) = (fields(&event.userdb), fields(&event.metadata));
    let time = event.timestamp.as_deref().and_then(milliseconds);
    let context = time.map(|timestamp| context(event, timestamp, &metadata));
    let event = Event {
        user: event.user.as_bytes(),
        userdb: &userdb,
        mailbox: event.mailbox.as_bytes(),
        details: details(event, &keywords, &old_keywords),
        context: context.as_ref(),
    };
    let mut out = Vec::new();
    render(&event, &mut out);
    out
}

fn details<'a>(
    event: &'a ParsedEvent,
    keywords: &'a [&'a [u8]],
    old_keywords: &'a [&'a [u8]],
) -> Details<'a> {
    let id = MessageId {
        uidvalidity: event.uidvalidity.unwrap_or_default(),
        uid: event.uid.unwrap_or_default(),
    };
    let change = FlagChange {
        id,
        flags: flags(event.flags.as_ref()),
        keywords: event.keywords.as_ref().map(|_| keywords),
        old: event.old_keywords.as_ref().map(|_| OldFlags {
            flags: flags(event.old_flags.as_ref()),
            keywords: old_keywords,
        }),
    };
    match event.kind {
        EventKind::FlagsClear => Details::FlagsClear(change),
        EventKind::FlagsSet => Details::FlagsSet(change),
        EventKind::MailboxCreate => Details::MailboxCreate {
            uidvalidity: id.uidvalidity,
        },
        EventKind::MailboxDelete => Details::MailboxDelete,
        EventKind::MailboxRename => Details::MailboxRename {
            old_mailbox: event.old_mailbox.as_deref().unwrap_or_default().as_bytes(),
        },
        EventKind::MailboxSubscribe => Details::MailboxSubscribe,
        EventKind::MailboxUnsubscribe => Details::MailboxUnsubscribe,
        EventKind::MessageAppend => Details::MessageAppend(new_message(event, id, keywords)),
        EventKind::MessageExpunge => Details::MessageExpunge(id),
        EventKind::MessageNew => Details::MessageNew(new_message(event, id, keywords)),
        EventKind::MessageRead => Details::MessageRead(id),
        EventKind::MessageTrash => Details::MessageTrash(id),
    }
}

fn new_message<'a>(
    event: &'a ParsedEvent,
    id: MessageId,
    keywords: &'a [&'a [u8]],
) -> NewMessage<'a> {
    NewMessage {
        id,
        date: event.date.as_deref().and_then(date),
        from: text(event.from.as_ref()),
        snippet: text(event.snippet.as_ref()),
        subject: text(event.subject.as_ref()),
        to: text(event.to.as_ref()),
        full: event.keywords.as_ref().map(|_| FullMessage {
            message_id: text(event.message_id.as_ref()),
            size: event.message_size,
            from_address: text(event.from_address.as_ref()),
            from_display_name: text(event.from_display_name.as_ref()),
            to_address: text(event.to_address.as_ref()),
            to_display_name: text(event.to_display_name.as_ref()),
            subject_decoded: text(event.subject_decoded.as_ref()),
            flags: flags(event.flags.as_ref()),
            keywords,
        }),
    }
}

fn context<'a>(
    event: &'a ParsedEvent,
    timestamp: UnixMillis,
    metadata: &'a [Field],
) -> Context<'a> {
    let status = event.modseq.map(|modseq| MailboxStatus {
        modseq,
        messages: event.messages.unwrap_or_default(),
        unseen: event.unseen.unwrap_or_default(),
        recent: event.recent.unwrap_or_default(),
        uidnext: event.uidnext.unwrap_or_default(),
    });
    Context {
        timestamp,
        service: event.service.as_deref().unwrap_or_default().as_bytes(),
        session: text(event.session.as_ref()),
        client_ip: text(event.client_ip.as_ref()),
        mailbox_id: text(event.mailbox_id.as_ref()),
        status,
        metadata,
    }
}

fn text(text: Option<&String>) -> Option<&[u8]> {
    text.map(String::as_bytes)
}

fn borrowed(texts: Option<&Vec<String>>) -> Vec<&[u8]> {
    texts.into_iter().flatten().map(String::as_bytes).collect()
}

fn fields(pairs: &[(String, String)]) -> Vec<Field> {
    let field = |(name, value): &(String, String)| Field {
        name: name.clone().into_bytes(),
        value: value.clone().into_bytes(),
    };
    pairs.iter().map(field).collect()
}

fn flags(names: Option<&Vec<String>>) -> Flags {
    let known = names
        .into_iter()
        .flatten()
        .filter_map(|name| Flags::from_name(name));
    known.fold(Flags::default(), |all, flag| all | flag)
}

fn milliseconds(text: &str) -> Option<UnixMillis> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(UnixMillis)
}

/// A time with an offset in minutes, which is what a Date header holds.
fn date(text: &str) -> Option<MailDate> {
    let pieces = jiff::fmt::temporal::DateTimeParser::new()
        .parse_pieces(text)
        .ok()?;
    let seconds = pieces.to_numeric_offset()?.seconds();
    let time: jiff::Timestamp = text.parse().ok()?;
    (seconds % 60 == 0).then_some(MailDate {
        unix_seconds: time.as_second(),
        tz_minutes: seconds / 60,
    })
}

//! A record as a line for people: time, user, mailbox, kind, uid, and what the kind has.
//!
//! Whatever a mail says, no byte of it reaches the terminal as a control character.

use dovecast_event::{EventKind, ParsedEvent};
use dovecast_log::Record;

use crate::headers::event_time_ms;

const RESET: &str = "\x1b[0m";
const DIM: &str = "\x1b[2m";
/// How much of a value is shown that is no event.
const VALUE_CHARS: usize = 200;

/// The line, without its end.
pub(super) fn line(record: &Record, event: Option<&ParsedEvent>, has_colours: bool) -> String {
    let paint = |code: &str, text: String| {
        if has_colours {
            format!("{code}{text}{RESET}")
        } else {
            text
        }
    };
    let time = paint(DIM, time(event_time_ms(record)));
    let Some(event) = event else {
        let key = record.key.as_deref().map(String::from_utf8_lossy);
        let key = printable(&key.unwrap_or_default());
        let value = printable(&String::from_utf8_lossy(&record.value));
        let place = paint(DIM, format!("{}/{}", record.partition, record.offset));
        let shown: String = value.chars().take(VALUE_CHARS).collect();
        return format!("{time}  {key:<24}  {place}  {shown}")
            .trim_end()
            .to_owned();
    };
    let kind = paint(colour(event.kind), format!("{:<18}", event.kind.name()));
    let uid = event.uid.map(|uid| uid.to_string()).unwrap_or_default();
    let line = format!(
        "{time}  {:<24}  {:<20}  {kind}  {uid:>6}  {}",
        printable(&event.user),
        printable(&event.mailbox),
        printable(&details(event)),
    );
    line.trim_end().to_owned()
}

/// What comes after the columns.
fn details(event: &ParsedEvent) -> String {
    let mut parts = Vec::new();
    for list in [&event.flags, &event.keywords].into_iter().flatten() {
        parts.extend(list.iter().cloned());
    }
    if let Some(old) = &event.old_mailbox {
        parts.push(format!("from {old}"));
    }
    let from = event.from_address.as_ref().or(event.from.as_ref());
    let subject = event.subject_decoded.as_ref().or(event.subject.as_ref());
    parts.extend(from.cloned());
    let mut details = parts.join(" ");
    if let Some(subject) = subject {
        if !details.is_empty() {
            details.push_str(": ");
        }
        details.push_str(subject);
    }
    details
}

/// RFC 3339 in UTC with milliseconds, or nothing where the record has no time.
fn time(timestamp_ms: i64) -> String {
    let timestamp = jiff::Timestamp::from_millisecond(timestamp_ms).ok();
    let text = timestamp.filter(|_| timestamp_ms >= 0);
    let text = text.map(|timestamp| format!("{timestamp:.3}"));
    format!("{:<24}", text.unwrap_or_default())
}

fn colour(kind: EventKind) -> &'static str {
    match kind {
        EventKind::MessageNew | EventKind::MessageAppend => "\x1b[32m",
        EventKind::MessageExpunge | EventKind::MessageTrash | EventKind::MailboxDelete => {
            "\x1b[31m"
        }
        EventKind::FlagsClear | EventKind::FlagsSet | EventKind::MessageRead => "\x1b[36m",
        EventKind::MailboxCreate
        | EventKind::MailboxRename
        | EventKind::MailboxSubscribe
        | EventKind::MailboxUnsubscribe => "\x1b[33m",
    }
}

/// White space becomes a blank, other control characters and what changes the direction of a line
/// U+FFFD.
pub(super) fn printable(text: &str) -> String {
    let of = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => '\u{fffd}',
        _ if c.is_control() => '\u{fffd}',
        _ => c,
    };
    text.chars().map(of).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn check(value: &str, has_colours: bool, expected: &str) {
        let record = Record {
            topic: "dovecot".into(),
            partition: 2,
            offset: 40,
            key: Some(Bytes::from_static(b"u")),
            value: Bytes::copy_from_slice(value.as_bytes()),
            headers: Vec::new(),
            timestamp_ms: 1_795_210_528_120,
        };
        let event = dovecast_event::parse(value.as_bytes()).ok();
        assert_eq!(line(&record, event.as_ref(), has_colours), expected);
    }

    #[test]
    fn events_stand_in_columns() {
        check(
            r#"{"user":"u","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":7,"from":"A <a@x>","subject":"Hi"}"#,
            false,
            "2026-11-20T21:35:28.120Z  u                         INBOX                 MessageNew               7  A <a@x>: Hi",
        );
        check(
            r#"{"user":"u","mailbox":"INBOX","event":"FlagsSet","uidvalidity":1,"uid":123456,"flags":["\\Seen"],"keywords":["$x"]}"#,
            false,
            r"2026-11-20T21:35:28.120Z  u                         INBOX                 FlagsSet            123456  \Seen $x",
        );
        check(
            r#"{"user":"u","mailbox":"B","event":"MailboxRename","oldMailbox":"A"}"#,
            true,
            "\x1b[2m2026-11-20T21:35:28.120Z\x1b[0m  u                         B                     \x1b[33mMailboxRename     \x1b[0m          from A",
        );
    }

    #[test]
    fn the_time_is_that_of_the_event_and_not_that_of_shipping() {
        for (header, expected) in [
            ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02T05:04:05.678+02:00", "2026-01-02T03:04:05.678Z"),
            ("yesterday", "2026-11-20T21:35:28.120Z"),
        ] {
            let record = Record {
                topic: "t".into(),
                partition: 0,
                offset: 0,
                key: None,
                value: Bytes::new(),
                headers: vec![crate::headers::header("dovecast-time", header.as_bytes())],
                timestamp_ms: 1_795_210_528_120,
            };
            let line = line(&record, None, false);
            assert!(line.starts_with(expected), "{header}: {line}");
        }
    }

    #[test]
    fn another_value_is_shown_as_text_and_never_as_control_characters() {
        check(
            "a\x1b[31m\u{202e}b\n\0",
            false,
            "2026-11-20T21:35:28.120Z  u                         2/40  a\u{fffd}[31m\u{fffd}b \u{fffd}",
        );
        check(
            r#"{"user":"u","mailbox":"B","event":"MessageNew","uidvalidity":1,"uid":7,"subject":"\u001b]0;x\u0007"}"#,
            false,
            "2026-11-20T21:35:28.120Z  u                         B                     MessageNew               7  \u{fffd}]0;x\u{fffd}",
        );
    }
}

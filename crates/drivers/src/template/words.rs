//! A notification in words: what a person reads of it in a chat, on a phone, in an alert.

use dovecast_notification::DOVECOT;
use serde_json::Value;

use super::filters::{ELLIPSIS, cut};

/// Longest title, in characters.
const TITLE_CHARACTERS: usize = 250;
/// Longest text, in characters.
const TEXT_CHARACTERS: usize = 4_000;

/// What a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// One line.
    pub(super) title: String,
    /// The rest, if there is any.
    pub(super) text: String,
}

/// Which notification is put into words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) application: &'a str,
    pub(super) event_type: &'a str,
    pub(super) level: Option<&'a str>,
    pub(super) message: &'a Value,
}

/// Puts a notification into words, with what may be seen of it.
pub(super) fn words(told: Told<'_>) -> Words {
    let (title, text) = match told.application {
        DOVECOT => mail(told),
        _ => other(told),
    };
    Words {
        title: cut(&one_line(&title), TITLE_CHARACTERS, ELLIPSIS),
        text: cut(text.trim(), TEXT_CHARACTERS, ELLIPSIS),
    }
}

/// How bad a level is: `critical`, `error`, `warning` or `info`, by the names that are usual.
pub(super) fn severity(level: Option<&str>) -> &'static str {
    match level.unwrap_or_default().to_ascii_lowercase().as_str() {
        "alert" | "critical" | "emergency" | "fatal" | "panic" => "critical",
        "error" | "high" | "important" | "severe" => "error",
        "medium" | "moderate" | "warn" | "warning" => "warning",
        _ => "info",
    }
}

fn mail(told: Told<'_>) -> (String, String) {
    let field = |name: &str| told.message[name].as_str().filter(|text| !text.is_empty());
    let any = |names: &[&str]| names.iter().find_map(|name| field(name));
    let mailbox = field("mailbox").unwrap_or("a mailbox");
    let place = match field("user") {
        Some(user) => format!("{mailbox} of {user}"),
        None => mailbox.to_owned(),
    };
    let is_mail = matches!(told.event_type, "MessageNew" | "MessageAppend");
    if is_mail {
        let from = any(&["fromDisplayName", "fromAddress", "from"]);
        let subject = any(&["subjectDecoded", "subject"]);
        let title = match (from, subject) {
            (Some(from), Some(subject)) => format!("{from}: {subject}"),
            (Some(from), None) => format!("Mail from {from}"),
            (None, Some(subject)) => subject.to_owned(),
            (None, None) => format!("New mail in {place}"),
        };
        return (title, field("snippet").unwrap_or_default().to_owned());
    }
    let list = |name: &str| {
        let values = told.message[name].as_array().into_iter().flatten();
        values.filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let flags = [list("flags"), list("keywords")].concat().join(" ");
    (format!("{}: {place}", told.event_type), flags)
}

fn other(told: Told<'_>) -> (String, String) {
    let level = told.level.map(|level| format!(" ({level})"));
    let level = level.unwrap_or_default();
    let title = format!("{}: {}{level}", told.application, told.event_type);
    let text = match told.message {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (title, text)
}

/// A text without ends of lines: folded headers have some.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(application: &str, event_type: &str, message: &Value, expected: (&str, &str)) {
        let words = words(Told {
            application,
            event_type,
            level: (application != DOVECOT).then_some("high"),
            message,
        });
        assert_eq!((&*words.title, &*words.text), expected, "{message}");
    }

    #[test]
    fn a_person_reads_what_may_be_seen() {
        let mut mail = json!({
            "user": "ann@example.org", "mailbox": "INBOX", "from": "=?utf-8?q?B?= <b@x>",
            "fromAddress": "b@x", "fromDisplayName": "B", "subject": "=?u?=",
            "subjectDecoded": "Lunch\n on Friday?", "snippet": " At noon. ",
        });
        check(
            DOVECOT,
            "MessageNew",
            &mail,
            ("B: Lunch on Friday?", "At noon."),
        );
        for name in ["fromDisplayName", "snippet", "subjectDecoded", "subject"] {
            mail.as_object_mut().expect("an object").remove(name);
        }
        check(DOVECOT, "MessageNew", &mail, ("Mail from b@x", ""));
        let mail = json!({"user": "ann", "mailbox": "INBOX"});
        check(
            DOVECOT,
            "MessageAppend",
            &mail,
            ("New mail in INBOX of ann", ""),
        );
        let seen = json!({"mailbox": "a", "flags": ["\\Seen"], "keywords": ["$x"]});
        check(DOVECOT, "FlagsSet", &seen, ("FlagsSet: a", "\\Seen $x"));
        check(
            DOVECOT,
            "MessageNew",
            &json!(1),
            ("New mail in a mailbox", ""),
        );
        check(
            "billing",
            "overdue",
            &json!("Pay."),
            ("billing: overdue (high)", "Pay."),
        );
        check(
            "billing",
            "overdue",
            &json!({"a": 1}),
            ("billing: overdue (high)", r#"{"a":1}"#),
        );
    }

    #[test]
    fn whatever_a_mail_says_its_words_are_of_a_length_that_people_read() {
        let long = "ü".repeat(TEXT_CHARACTERS + 1);
        let mail = json!({"fromDisplayName": long, "subjectDecoded": long, "snippet": long});
        for (application, message) in [(DOVECOT, &mail), ("billing", &json!(long))] {
            let words = words(Told {
                application,
                event_type: "MessageNew",
                level: Some(&long),
                message,
            });
            assert_eq!(words.title.chars().count(), TITLE_CHARACTERS);
            assert_eq!(words.text.chars().count(), TEXT_CHARACTERS);
            assert!(words.title.ends_with(ELLIPSIS) && words.text.ends_with(ELLIPSIS));
        }
    }

    #[test]
    fn levels_are_one_of_four() {
        for (level, expected) in [
            (None, "info"),
            (Some("Critical"), "critical"),
            (Some("HIGH"), "error"),
            (Some("warn"), "warning"),
            (Some("3"), "info"),
        ] {
            assert_eq!(severity(level), expected);
        }
    }
}

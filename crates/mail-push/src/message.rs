//! Messages: what a person's devices get of an event, in the form of its topic.
//!
//! `content` says how much of a mail is in it; what it leaves out is absent.

use dovecast_event::EventKind;
use serde_json::{Map, Value, json};

use crate::{MailEvent, Person, Tag, Topic};

/// Folder of the primary mail account, as Open-Xchange names it.
const OX_ACCOUNT: &str = "default0/";

/// How much of a mail a message has; each has all of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushContent {
    /// Which mail it is.
    Ids,
    /// From whom, and what about.
    #[default]
    Envelope,
    /// The first words of its text.
    Snippet,
}

impl PushContent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ids, Self::Envelope, Self::Snippet];

    /// The word for it in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Envelope => "envelope",
            Self::Snippet => "snippet",
        }
    }

    /// What the word stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|content| content.name() == name)
    }
}

/// The message of an event in the form of a topic, which is one that its kind has.
pub fn message(event: &MailEvent, topic: Topic, content: PushContent) -> Value {
    let mut out = match topic {
        Topic::OxMailNew => return ox_mail_new(event, content),
        _ => of_mail(event),
    };
    match topic {
        Topic::MailNew | Topic::MailAppend => add_content(&mut out, event, content),
        Topic::MailFlags => {
            let is_set = event.kind == EventKind::FlagsSet;
            let (set, cleared): (&[String], &[String]) = if is_set {
                (&event.flags, &[])
            } else {
                (&[], &event.flags)
            };
            out.insert("set".to_owned(), json!(set));
            out.insert("cleared".to_owned(), json!(cleared));
        }
        Topic::MailMailbox => {
            // A mailbox that was created has a UIDVALIDITY, which says nothing to a device.
            out.remove("uidvalidity");
            out.insert("change".to_owned(), json!(change(event.kind)));
            put(&mut out, "old", event.old_mailbox.as_deref());
        }
        Topic::OxMailNew | Topic::MailExpunge | Topic::MailChanges | Topic::MailClose => {}
    }
    Value::Object(out)
}

/// A mailbox as the original names it.
pub fn ox_folder(mailbox: &str) -> String {
    format!("{OX_ACCOUNT}{mailbox}")
}

/// The message that closes what a device shows of a mail.
pub fn closing(tag: &Tag, badge: Option<u32>) -> Value {
    let mut out = Map::new();
    out.insert("topic".to_owned(), json!(Topic::MailClose.name()));
    out.insert("id".to_owned(), json!(tag.as_str()));
    out.insert("close".to_owned(), json!(true));
    if let Some(badge) = badge {
        out.insert("badge".to_owned(), json!(badge));
    }
    Value::Object(out)
}

/// Gathered messages as one, each with its topic.
pub fn changes(messages: &[Value]) -> Value {
    json!({ "topic": Topic::MailChanges.name(), "changes": messages })
}

/// One of the messages of [`changes`].
pub fn gathered(topic: Topic, message: &Value) -> Value {
    json!({ "topic": topic.name(), "message": message })
}

/// Person as messages name one.
pub fn person(person: &Person) -> Value {
    json!({ "context": &*person.context, "user": &*person.user })
}

fn of_mail(event: &MailEvent) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("person".to_owned(), person(&event.person));
    out.insert("mailbox".to_owned(), json!(event.mailbox));
    if let Some((uidvalidity, uid)) = event.mail {
        out.insert("uidvalidity".to_owned(), json!(uidvalidity));
        out.insert("uid".to_owned(), json!(uid));
    }
    out
}

fn add_content(out: &mut Map<String, Value>, event: &MailEvent, content: PushContent) {
    if content != PushContent::Ids {
        let from = event.sender.as_ref().map(|sender| &*sender.text);
        put(out, "from", from);
        put(out, "subject", event.subject.as_deref());
    }
    if content == PushContent::Snippet {
        put(out, "snippet", event.snippet.as_deref());
    }
    if let Some(unseen) = event.unseen {
        out.insert("unseen".to_owned(), json!(unseen));
    }
}

fn ox_mail_new(event: &MailEvent, content: PushContent) -> Value {
    let mut out = Map::new();
    let folder = ox_folder(&event.mailbox);
    out.insert("folder".to_owned(), json!(folder));
    let id = event.mail.map(|(_, uid)| uid.to_string());
    put(&mut out, "id", id.as_deref());
    if content != PushContent::Ids {
        let sender = event.sender.as_ref();
        put(&mut out, "email", sender.map(|sender| &*sender.address));
        let name = sender.and_then(|sender| sender.display_name.as_deref());
        put(&mut out, "displayname", name);
        put(&mut out, "subject", event.subject.as_deref());
    }
    if let Some(unseen) = event.unseen {
        out.insert("unread".to_owned(), json!(unseen));
    }
    if content == PushContent::Snippet {
        put(&mut out, "teaser", event.snippet.as_deref());
    }
    Value::Object(out)
}

fn put(out: &mut Map<String, Value>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        out.insert(name.to_owned(), json!(text));
    }
}

fn change(kind: EventKind) -> &'static str {
    match kind {
        EventKind::MailboxCreate => "created",
        EventKind::MailboxDelete => "deleted",
        EventKind::MailboxRename => "renamed",
        EventKind::MailboxSubscribe => "subscribed",
        _ => "unsubscribed",
    }
}

#[cfg(test)]
mod tests {
    use dovecast_notification::EventAccount;

    use super::*;

    const NEW: &str = r#"{"user":"11@3","mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":113,
        "from":"Alice <alice@barfoo.org>","subject":"Test","snippet":"Hello","unseen":4}"#;

    #[track_caller]
    fn check(event: &str, topic: Topic, content: PushContent, expected: &str) {
        let event = MailEvent::parse(event.as_bytes(), &EventAccount::User).expect(event);
        let expected: Value = serde_json::from_str(expected).expect(expected);
        assert_eq!(message(&event, topic, content), expected);
    }

    #[test]
    fn a_new_mail_has_what_its_content_says() {
        for (content, expected) in [
            (PushContent::Ids, ""),
            (
                PushContent::Envelope,
                r#","from":"Alice <alice@barfoo.org>","subject":"Test""#,
            ),
            (
                PushContent::Snippet,
                r#","from":"Alice <alice@barfoo.org>","subject":"Test","snippet":"Hello""#,
            ),
        ] {
            let expected = format!(
                r#"{{"person":{{"context":"3","user":"11"}},"mailbox":"INBOX","uidvalidity":7,"uid":113,"unseen":4{expected}}}"#
            );
            check(NEW, Topic::MailNew, content, &expected);
            check(NEW, Topic::MailAppend, content, &expected);
        }
    }

    #[test]
    fn the_form_of_open_xchange_has_its_fields() {
        for (content, expected) in [
            (
                PushContent::Ids,
                r#"{"folder":"default0/INBOX","id":"113","unread":4}"#,
            ),
            (
                PushContent::Snippet,
                r#"{"folder":"default0/INBOX","id":"113","email":"alice@barfoo.org","displayname":"Alice","subject":"Test","unread":4,"teaser":"Hello"}"#,
            ),
        ] {
            check(NEW, Topic::OxMailNew, content, expected);
        }
    }

    #[test]
    fn changes_say_what_has_changed() {
        let person = r#""person":{"context":"u","user":"u"}"#;
        let flags = r#"{"user":"u","mailbox":"m","event":"FlagsSet","uidvalidity":1,"uid":2,"flags":["\\Seen"],"keywords":["$Todo"]}"#;
        let mail = format!(r#"{{{person},"mailbox":"m","uidvalidity":1,"uid":2"#);
        let set = format!(r#"{mail},"set":["\\Seen","$Todo"],"cleared":[]}}"#);
        check(flags, Topic::MailFlags, PushContent::Snippet, &set);
        let cleared = flags.replace("FlagsSet", "FlagsClear");
        let expected = format!(r#"{mail},"set":[],"cleared":["\\Seen","$Todo"]}}"#);
        check(&cleared, Topic::MailFlags, PushContent::Ids, &expected);
        let gone = flags.replace("FlagsSet", "MessageExpunge");
        check(
            &gone,
            Topic::MailExpunge,
            PushContent::Ids,
            &format!("{mail}}}"),
        );
        let renamed = r#"{"user":"u","mailbox":"m","event":"MailboxRename","oldMailbox":"n"}"#;
        let expected = format!(r#"{{{person},"mailbox":"m","change":"renamed","old":"n"}}"#);
        check(renamed, Topic::MailMailbox, PushContent::Ids, &expected);
        for (event, more, change) in [
            ("MailboxCreate", r#","uidvalidity":1"#, "created"),
            ("MailboxDelete", "", "deleted"),
            ("MailboxSubscribe", "", "subscribed"),
            ("MailboxUnsubscribe", "", "unsubscribed"),
        ] {
            let event = format!(r#"{{"user":"u","mailbox":"m","event":"{event}"{more}}}"#);
            let expected = format!(r#"{{{person},"mailbox":"m","change":"{change}"}}"#);
            check(&event, Topic::MailMailbox, PushContent::Ids, &expected);
        }
    }

    #[test]
    fn a_closing_message_has_the_tag_and_a_badge_that_is_known() {
        let tag = Tag::from_text("t");
        for (badge, expected) in [
            (None, r#"{"topic":"mail:close","id":"t","close":true}"#),
            (
                Some(3),
                r#"{"topic":"mail:close","id":"t","close":true,"badge":3}"#,
            ),
        ] {
            let expected: Value = serde_json::from_str(expected).expect("JSON");
            assert_eq!(closing(&tag, badge), expected);
        }
    }
}

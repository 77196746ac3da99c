//! Which records a user may send: to which topics, and, where each user has a user id of his own,
//! about whom.
//!
//! A relay knows of a client no more than the user id that the kernel tells: everything else that
//! it sends is what it says of itself.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::wire::WireRecord;

/// Stands for any text in the name of a topic.
const ANY: char = '*';
/// Topics of Kafka's own and of what comes with it begin so: `__consumer_offsets`, `_schemas`.
const INTERNAL: char = '_';
/// Ids that the server makes of what it takes in, so that it takes it in once (RFC 9562 section
/// 5.8). Who could send one before would keep the server's own record out of the log.
const OWN_ID_VERSION: usize = 8;
/// The longest part of what a client has sent that is shown, in bytes.
const SHOWN_BYTES: usize = 100;

/// Topics that clients may write to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    exact: HashSet<String>,
    patterns: Vec<String>,
    reserved: HashSet<String>,
}

impl Topics {
    /// These topics; `*` stands for any text, and then for no topic that is reserved or that begins
    /// with `_`.
    pub fn new(
        names: impl IntoIterator<Item = String>,
        reserved: impl IntoIterator<Item = String>,
    ) -> Self {
        let (patterns, exact): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| name.contains(ANY));
        Self {
            exact: exact.into_iter().collect(),
            patterns,
            reserved: reserved.into_iter().collect(),
        }
    }

    /// Names and patterns, in order, as an operator reads them.
    pub(super) fn names(&self) -> Vec<&str> {
        let all = self.exact.iter().chain(&self.patterns);
        let mut names: Vec<&str> = all.map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Whether clients might have written to a topic, and may not now.
    pub(super) fn is_closed(&self, topic: &str) -> bool {
        !self.allow(topic) && !self.reserved.contains(topic) && !topic.starts_with(INTERNAL)
    }

    /// Whether clients may write to a topic.
    pub fn allow(&self, topic: &str) -> bool {
        if self.exact.contains(topic) {
            return true;
        }
        let is_open = !topic.starts_with(INTERNAL) && !self.reserved.contains(topic);
        is_open && self.patterns.iter().any(|pattern| matches(pattern, topic))
    }
}

/// Whether a text is what a pattern stands for, in which `*` is any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once(ANY) else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once(ANY).unwrap_or(("", rest));
    let Some(mut between) = text.strip_suffix(last) else {
        return false;
    };
    middle.split(ANY).all(|part| {
        let found = between.find(part);
        between = found.map_or("", |at| &between[at + part.len()..]);
        found.is_some()
    })
}

/// The name of a user id on this host; `None`: there is no such user.
type UserName = dyn Fn(u32) -> io::Result<Option<String>> + Send + Sync;

/// How names of users are found, where records are bound to them.
#[derive(Clone)]
pub struct UserNames(Arc<UserName>);

impl UserNames {
    /// Names as this function tells them; it may block.
    pub fn new(
        name_of: impl Fn(u32) -> io::Result<Option<String>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(name_of))
    }

    /// The name of a user id; blocks.
    pub(super) fn look_up(&self, uid: u32) -> io::Result<Option<String>> {
        (self.0)(uid)
    }
}

impl fmt::Debug for UserNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserNames")
    }
}

/// Why a record is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// The record is never taken, whatever the configuration says.
    Lasting(String),
    /// The record is taken where the configuration allows it.
    Configured(String),
}

impl Objection {
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Lasting(reason) | Self::Configured(reason) => reason,
        }
    }
}

/// Who sends: a user id, and the name that its records have to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    pub(super) uid: u32,
    bound: Option<Bound>,
}

/// The name of a user id that speaks for itself alone; `None`: it has none, and speaks for no one.
type Bound = Option<String>;

impl Sender {
    /// A user id that speaks for everybody.
    pub(super) fn unbound(uid: u32) -> Self {
        Self { uid, bound: None }
    }

    /// A user id that speaks for the user of this name alone.
    pub(super) fn bound(uid: u32, name: Option<String>) -> Self {
        let bound = Some(name);
        Self { uid, bound }
    }

    /// Why a record is not taken; `None`: it is.
    pub(super) fn objection(&self, topics: &Topics, record: &WireRecord<'_>) -> Option<Objection> {
        let topic = record.topic;
        if !is_topic(topic) {
            let reason = format!("`{}` is no topic", shown(topic));
            return Some(Objection::Lasting(reason));
        }
        if record.id.get_version_num() == OWN_ID_VERSION {
            let reason = format!("the id {} is one of dovecast's own", record.id);
            return Some(Objection::Lasting(reason));
        }
        if !topics.allow(topic) {
            let reason = format!("the topic `{}` is not in `topics` of [relay]", shown(topic));
            return Some(Objection::Configured(reason));
        }
        let name = self.bound.as_ref()?.as_deref();
        (!is_about(record, name)).then(|| {
            let (uid, name) = (self.uid, name.unwrap_or_default());
            Objection::Configured(format!(
                "uid {uid} may send events of the user `{name}` only (`bind_user` of [relay])"
            ))
        })
    }
}

/// Whether a record is an event of this user, in its key and in what it says.
fn is_about(record: &WireRecord<'_>, name: Option<&str>) -> bool {
    let Some(name) = name else {
        return false;
    };
    record.key == name.as_bytes()
        && dovecast_event::parse(record.value).is_ok_and(|event| event.user == name)
}

/// Kafka's rule for topic names.
fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}

fn shown(text: &str) -> impl fmt::Display {
    text[..text.floor_char_boundary(SHOWN_BYTES)].escape_debug()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn record(topic: &'static str, key: &'static str, value: &'static str) -> WireRecord<'static> {
        WireRecord {
            topic,
            key: key.as_bytes(),
            value: value.as_bytes(),
            time_ms: 0,
            id: Uuid::nil(),
            txn: Uuid::nil(),
            txn_seq: 0,
            txn_last: true,
        }
    }

    #[test]
    fn only_topics_that_are_named_are_allowed_and_a_star_allows_no_reserved_one() {
        let reserved = ["hooks.outbox"];
        for (topics, topic, expected) in [
            (&["dovecot"][..], "dovecot", true),
            (&["dovecot"], "dovecot2", false),
            (&["dovecot"], "hooks.outbox", false),
            (&[], "dovecot", false),
            (&["mail.*"], "mail.", true),
            (&["mail.*"], "mail.a.b", true),
            (&["mail.*"], "mail", false),
            (&["*.mail"], "a.mail", true),
            (&["a*b*c"], "a-b-c", true),
            (&["a*b*c"], "a-c-b", false),
            (&["ab*bc"], "abc", false),
            (&["*"], "anything", true),
            (&["*", "hooks*"], "hooks.outbox", false),
            (&["*"], "__consumer_offsets", false),
            (&["*"], "_schemas", false),
            (&["hooks.outbox"], "hooks.outbox", true),
            (&["_own"], "_own", true),
        ] {
            let allowed = Topics::new(names(topics), names(&reserved)).allow(topic);
            assert_eq!(allowed, expected, "{topics:?} and {topic}");
        }
    }

    #[test]
    fn topics_that_are_taken_no_more_are_known_from_those_of_others() {
        let topics = Topics::new(names(&["mail.*", "dovecot"]), names(&["hooks.outbox"]));
        assert_eq!(topics.names(), ["dovecot", "mail.*"]);
        for (topic, is_closed) in [
            ("mail-events", true),
            ("dovecot", false),
            ("mail.x", false),
            ("hooks.outbox", false),
            ("_schemas", false),
        ] {
            assert_eq!(topics.is_closed(topic), is_closed, "{topic}");
        }
    }

    #[test]
    fn an_id_of_the_servers_own_is_not_taken() {
        let topics = Topics::new(names(&["dovecot"]), []);
        let sender = Sender::unbound(5000);
        let mut record = record("dovecot", "joe", "{}");
        assert_eq!(sender.objection(&topics, &record), None);
        record.id = uuid::Builder::from_custom_bytes([7; 16]).into_uuid();
        let Some(Objection::Lasting(reason)) = sender.objection(&topics, &record) else {
            panic!("it is taken");
        };
        assert!(reason.ends_with("is one of dovecast's own"), "{reason}");
    }

    #[test]
    fn who_is_bound_sends_about_himself_only() {
        let topics = Topics::new(names(&["dovecot"]), []);
        let event = r#"{"user":"joe","mailbox":"INBOX","event":"MailboxCreate","uidvalidity":1}"#;
        let of_ceo = r#"{"user":"ceo","mailbox":"INBOX","event":"MailboxCreate","uidvalidity":1}"#;
        let may = |name: Option<&str>, key, value| {
            let sender = Sender::bound(10_001, name.map(str::to_owned));
            sender.objection(&topics, &record("dovecot", key, value))
        };
        let joe = Some("joe");
        let only = Some(Objection::Configured(
            "uid 10001 may send events of the user `joe` only (`bind_user` of [relay])".to_owned(),
        ));
        assert_eq!(may(joe, "joe", event), None);
        assert_eq!(may(joe, "ceo", of_ceo), only);
        assert_eq!(may(joe, "joe", of_ceo), only);
        assert_eq!(may(joe, "ceo", event), only);
        assert_eq!(may(joe, "joe", "{}"), only);
        assert!(may(None, "", event).is_some(), "has no name");
        let unbound = Sender::unbound(10_001);
        let objection = unbound.objection(&topics, &record("dovecot", "ceo", of_ceo));
        assert_eq!(objection, None, "not bound");
    }
}

//! Topics: those that mail processes may write to, and those that are there from the start.

use std::collections::BTreeSet;

use dovecast_relay::server::Topics;
use serde::{Deserialize, Deserializer, de};

use super::{Config, Role};

impl Config {
    /// Topics that mail processes may write to.
    pub(crate) fn relay_topics(&self) -> Topics {
        let of_relay = self.relay.topics.as_ref();
        let names = of_relay.unwrap_or(&self.dispatch.event_topics).clone();
        Topics::new(names, [self.dispatch.outbox_topic.clone()])
    }

    /// Topics that this server knows by name: they are there before a record comes for them, so
    /// that they do not depend on how many others there are.
    pub(crate) fn known_topics(&self) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        if self.has(Role::Dispatch) {
            known.insert(self.dispatch.outbox_topic.clone());
        }
        known.extend(self.dispatch.event_topics.iter().cloned());
        let of_relay = self.relay.topics.iter().flatten();
        known.extend(of_relay.filter(|name| !name.contains('*')).cloned());
        known
    }
}

/// Longest name of a topic, in bytes: what Kafka takes, and the log too.
const MAX_TOPIC_BYTES: usize = 249;

/// The name of a topic.
pub(super) fn topic<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let topic = String::deserialize(deserializer)?;
    check(&topic, false).map_err(de::Error::custom)?;
    Ok(topic)
}

/// Names of topics.
pub(super) fn topics<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let topics: Vec<String> = Vec::deserialize(deserializer)?;
    let checked = topics.iter().try_for_each(|topic| check(topic, false));
    checked.map_err(de::Error::custom)?;
    Ok(topics)
}

/// Names of topics, or texts with `*` in them that stand for several.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    let topics: Vec<String> = Vec::deserialize(deserializer)?;
    let checked = topics.iter().try_for_each(|topic| check(topic, true));
    checked.map_err(de::Error::custom)?;
    Ok(Some(topics))
}

/// What stands for the number of an account in topics of a cluster.
const ACCOUNT: &str = "{account}";

/// Names of topics, or texts with `*` or `{account}` in them that stand for several.
pub(super) fn of_accounts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    let topics: Vec<String> = Vec::deserialize(deserializer)?;
    let mut checked = topics.iter().map(|topic| {
        let of_one = topic.replace(ACCOUNT, "7");
        check(&of_one, true).map_err(|error| de::Error::custom(format!("{error}, and `{ACCOUNT}`")))
    });
    checked.try_for_each(|one| one)?;
    Ok(topics)
}

/// Says what is wrong with the name of a topic.
pub(crate) fn check_topic(topic: &str) -> Result<(), String> {
    check(topic, false)
}

/// As the log and Kafka have it; what is wrong here would end the start otherwise.
fn check(topic: &str, may_be_pattern: bool) -> Result<(), String> {
    let legal = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'-')
            || (may_be_pattern && byte == b'*')
    };
    let has_length = (1..=MAX_TOPIC_BYTES).contains(&topic.len());
    if has_length && topic.bytes().all(legal) && topic != "." && topic != ".." {
        return Ok(());
    }
    let star = if may_be_pattern {
        ", and `*` for any text"
    } else {
        ""
    };
    Err(format!(
        "`{}` is not a topic, expected 1 to {MAX_TOPIC_BYTES} of letters, digits, `.`, `_`, `-`{star}",
        dovecast_event::brief(topic).escape_debug()
    ))
}

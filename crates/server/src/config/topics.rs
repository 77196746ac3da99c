//! Topics: those that mail processes may write to, and those that are there from the start.

use std::collections::BTreeSet;

use dovecast_relay::server::Topics;
use serde::{Deserialize, Deserializer, de};

use super::{Config, Role};

impl Config {
    /// Topics that mail processes may write to.
    pub(super) fn relay_topics(&self) -> Topics {
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

/// Names of topics, or texts with `*` in them that stand for several.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    let topics: Vec<String> = Vec::deserialize(deserializer)?;
    let legal =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*');
    let wrong = topics.iter().find(|topic| {
        let is_legal = (1..=249).contains(&topic.len()) && topic.bytes().all(legal);
        !is_legal || *topic == "." || *topic == ".."
    });
    match wrong {
        None => Ok(Some(topics)),
        Some(wrong) => Err(de::Error::custom(format!(
            "`{}` is not a topic, expected 1 to 249 of letters, digits, `.`, `_`, `-`, and `*` for any text",
            wrong.escape_debug()
        ))),
    }
}

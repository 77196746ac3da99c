//! `[dispatch]`: what is dispatched, and how much at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use dovecast_dispatch::{Clock, DispatchOptions, EvaluatorLimits, Source};
use dovecast_drivers::guard::AllowedNetwork;
use dovecast_notification::EventAccount;
use dovecast_operations::account_number;
use serde::{Deserialize, Deserializer, de};

use super::limits::Bounded;
use super::topics;

/// How long an attempt may hang before the dispatcher ends it: longer than the longest timeout that
/// an endpoint may have, which its driver keeps by itself.
const LONGEST_ATTEMPT: Duration = Duration::from_mins(1);

/// Longest name of a consumer group, in bytes: as long as that of a topic.
const MAX_GROUP_BYTES: usize = 249;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Dispatch {
    #[serde(deserialize_with = "group")]
    pub(crate) group: String,
    #[serde(deserialize_with = "topics::topic")]
    pub(crate) outbox_topic: String,
    #[serde(deserialize_with = "topics::topics")]
    pub(crate) event_topics: Vec<String>,
    #[serde(deserialize_with = "account")]
    pub(crate) event_account: EventAccount,
    #[serde(deserialize_with = "networks")]
    pub(crate) allowed_networks: Vec<AllowedNetwork>,
    pub(crate) timeout_seconds: Bounded<1, 45>,
    pub(crate) concurrency: Bounded<1, 1000>,
    /// Most connections to endpoints, those that are idle included.
    pub(crate) max_connections: Bounded<4, 100_000>,
    pub(crate) max_in_flight: Bounded<100, 1_000_000>,
    pub(crate) max_in_flight_mb: Bounded<16, 4000>,
    pub(crate) max_readers: Bounded<1, 10_000>,
    pub(crate) disable_after_hours: Bounded<0, 8760>,
    pub(crate) attempts_hours: Bounded<1, 8760>,
    pub(crate) dead_letters_days: Bounded<1, 3650>,
    /// Most dead letters of one account ...
    pub(crate) account_dead_letters: Bounded<0, 1_000_000>,
    /// ... and of what they are of, in MiB.
    pub(crate) account_dead_letters_mb: Bounded<0, 1_000_000>,
    pub(crate) account_templates: bool,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            group: "dovecast-dispatch".to_owned(),
            outbox_topic: "hooks.outbox".to_owned(),
            event_topics: vec!["dovecot".to_owned()],
            event_account: EventAccount::User,
            allowed_networks: Vec::new(),
            timeout_seconds: Bounded::new(10),
            concurrency: Bounded::new(16),
            max_connections: Bounded::new(8192),
            max_in_flight: Bounded::new(10_000),
            max_in_flight_mb: Bounded::new(256),
            max_readers: Bounded::new(16),
            disable_after_hours: Bounded::new(120),
            attempts_hours: Bounded::new(72),
            dead_letters_days: Bounded::new(30),
            account_dead_letters: Bounded::new(100_000),
            account_dead_letters_mb: Bounded::new(256),
            account_templates: true,
        }
    }
}

impl Dispatch {
    pub(crate) fn options(&self) -> DispatchOptions {
        let mut sources = BTreeMap::new();
        for topic in &self.event_topics {
            sources.insert(topic.clone(), Source::Events(self.event_account.clone()));
        }
        sources.insert(self.outbox_topic.clone(), Source::Outbox);
        DispatchOptions {
            group: self.group.clone(),
            sources,
            in_flight: self.max_in_flight.get(),
            in_flight_bytes: self.max_in_flight_mb.get() * 1024 * 1024,
            readers: self.max_readers.get_usize(),
            longest_attempt: LONGEST_ATTEMPT,
            conditions: EvaluatorLimits::default(),
            clock: Clock::default(),
        }
    }
}

/// The section, in which no topic is of two kinds.
pub(super) fn checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dispatch, D::Error> {
    let dispatch = Dispatch::deserialize(deserializer)?;
    if dispatch.event_topics.contains(&dispatch.outbox_topic) {
        return Err(de::Error::custom(format!(
            "`event_topics` names `{}`, which is `outbox_topic`: notifications are no events, and mail processes may write to topics of events",
            dispatch.outbox_topic
        )));
    }
    Ok(dispatch)
}

/// The name of a consumer group, to which mail push puts an ending.
fn group<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_name = (1..=MAX_GROUP_BYTES).contains(&text.len())
        && text.trim() == text
        && !text.contains(char::is_control);
    if is_name {
        return Ok(text);
    }
    Err(de::Error::custom(format!(
        "`{}` is not a name of a consumer group, expected 1 to {MAX_GROUP_BYTES} bytes without control characters, and no blank at either end",
        dovecast_event::brief(&text).escape_debug()
    )))
}

fn account<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventAccount, D::Error> {
    let text = String::deserialize(deserializer)?;
    match (text.as_str(), text.strip_prefix("fixed:")) {
        ("user", _) => Ok(EventAccount::User),
        ("domain", _) => Ok(EventAccount::Domain),
        // A number that the API takes, or nobody could have an endpoint.
        (_, Some(account)) => match account_number(account) {
            Ok(number) => Ok(EventAccount::Fixed(number.into())),
            Err(problem) => Err(de::Error::custom(format!(
                "the number of the account behind `fixed:` {problem}"
            ))),
        },
        _ => Err(de::Error::custom(format!(
            "`{text}` is none of `user`, `domain` and `fixed:ACCOUNT`"
        ))),
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AllowedNetwork>, D::Error> {
    let texts: Vec<String> = Vec::deserialize(deserializer)?;
    let networks = texts.iter().map(|text| text.parse());
    networks
        .collect::<Result<_, _>>()
        .map_err(de::Error::custom)
}

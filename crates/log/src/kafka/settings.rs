//! What the cluster's settings of topics say, and from that the largest record that a topic takes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, ConfigResourceResult, ResourceSpecifier,
};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::assigned::Context;
use super::{KafkaOptions, REQUEST, blocking};
use crate::{LogError, NewRecord};

/// librdkafka's default of `message.max.bytes`, which is what the producer takes.
const MESSAGE_MAX_BYTES: usize = 1_000_000;
/// What a record takes besides its key, value and headers: its own framing, that of its batch, and
/// a header that is added when it is shipped; rather too much.
const FRAMING_BYTES: usize = 1024;
/// What a header takes besides its name and value.
const HEADER_FRAMING_BYTES: usize = 10;

/// Settings of a topic, by name, as Kafka's documentation calls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings(BTreeMap<String, String>);

impl TopicSettings {
    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a setting that is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for TopicSettings {
    fn from(settings: [(&str, &str); N]) -> Self {
        let owned = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(owned.into())
    }
}

/// Asks the cluster. An error only where nothing is answered at all.
pub(super) async fn of_topics(
    options: &KafkaOptions,
    topics: &[String],
) -> Result<DescribedTopics, LogError> {
    let admin: AdminClient<Context> = options
        .client_config(&[])
        .create_with_context(Context::new(&Arc::default()))
        .map_err(|error| options.io("make a client of", &error))?;
    let asked: Vec<ResourceSpecifier<'_>> = topics
        .iter()
        .map(|topic| ResourceSpecifier::Topic(topic))
        .collect();
    let request = AdminOptions::new().request_timeout(Some(REQUEST));
    let answered = admin.describe_configs(&asked, &request).await;
    // Its end waits for a thread of librdkafka.
    blocking(move || {
        drop(admin);
        Ok(())
    })
    .await?;
    let answered = answered.map_err(|error| options.io("ask", &error))?;
    Ok(DescribedTopics::of(topics, answered))
}

/// What the cluster says of the settings of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedTopics {
    /// Topics that are there, with their settings.
    pub found: BTreeMap<String, TopicSettings>,
    /// Topics that are not there.
    pub missing: BTreeSet<String>,
    /// Topics that the cluster does not describe to us, each with its reason.
    pub refused: BTreeMap<String, String>,
}

impl DescribedTopics {
    /// A topic that cannot be described hides no other: whoever may write to the log names topics.
    fn of(topics: &[String], answered: Vec<ConfigResourceResult>) -> Self {
        let mut described = Self::default();
        for (topic, answer) in topics.iter().zip(answered) {
            match answer {
                Ok(resource) if !resource.entries.is_empty() => {
                    described.found.insert(topic.clone(), settings(resource));
                }
                // A topic that is not there has no settings.
                Ok(_) | Err(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                    described.missing.insert(topic.clone());
                }
                Err(code) => {
                    described.refused.insert(topic.clone(), code.to_string());
                }
            }
        }
        described
    }
}

/// Topics of which it was logged that the cluster does not describe them; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Undescribed(Arc<Mutex<BTreeSet<String>>>);

impl Undescribed {
    /// Logs those that are new, in one line; one that was described meanwhile is new again.
    pub(super) fn note(&self, described: &DescribedTopics) {
        let new = self.new_ones(described);
        if let Some((topic, reason)) = new.first() {
            tracing::warn!(
                topics = new.len(),
                first = topic,
                reason,
                "kafka does not describe topics: the most bytes of their records are not known; allow `DescribeConfigs` on them"
            );
        }
    }

    fn new_ones<'a>(&self, described: &'a DescribedTopics) -> Vec<(&'a str, &'a str)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|topic| !described.found.contains_key(topic));
        let refused = described.refused.iter();
        let new = refused.filter(|(topic, _)| known.insert((*topic).clone()));
        new.map(|(topic, reason)| (topic.as_str(), reason.as_str()))
            .collect()
    }
}

fn settings(resource: ConfigResource) -> TopicSettings {
    let entries = resource.entries.into_iter();
    let known = entries.filter_map(|entry| Some((entry.name, entry.value?)));
    TopicSettings(known.collect())
}

/// How large a record may be, by topic; clones are the same.
#[derive(Clone, Debug)]
pub struct RecordLimits {
    producer: usize,
    topics: Arc<Mutex<HashMap<String, usize>>>,
}

impl RecordLimits {
    /// What the producer takes, until a topic is known to take less.
    pub(super) fn of(options: &KafkaOptions) -> Self {
        let set = options
            .properties
            .iter()
            .rfind(|(name, _)| name == "message.max.bytes");
        let set = set.and_then(|(_, value)| value.trim().parse().ok());
        Self {
            producer: set.unwrap_or(MESSAGE_MAX_BYTES),
            topics: Arc::default(),
        }
    }

    /// What a topic says of itself.
    pub(super) fn learn(&self, topic: &str, settings: &TopicSettings) {
        let bytes = settings.number("max.message.bytes");
        if let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
            topics.insert(topic.to_owned(), bytes);
        }
    }

    /// The most bytes that key, value and headers of a record may have together.
    pub fn max_bytes(&self, topic: &str) -> usize {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.get(topic).copied().unwrap_or(usize::MAX);
        topic.min(self.producer).saturating_sub(FRAMING_BYTES)
    }
}

/// What a record counts against [`RecordLimits::max_bytes`].
pub fn record_bytes(record: &NewRecord) -> usize {
    let headers = record.headers.iter();
    let headers =
        headers.map(|header| header.name.len() + header.value.len() + HEADER_FRAMING_BYTES);
    record.key.as_ref().map_or(0, bytes::Bytes::len) + record.value.len() + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;

    fn described(topic: &str) -> ConfigResource {
        ConfigResource {
            specifier: OwnedResourceSpecifier::Topic(topic.to_owned()),
            entries: vec![ConfigEntry {
                name: "max.message.bytes".to_owned(),
                value: Some("20000".to_owned()),
                source: ConfigSource::DynamicTopic,
                is_read_only: false,
                is_default: false,
                is_sensitive: false,
            }],
        }
    }

    #[test]
    fn a_topic_that_cannot_be_described_hides_no_other_and_is_logged_once() {
        let topics = ["dovecot", "hidden", "gone", "hooks"].map(str::to_owned);
        let denied = Code::TopicAuthorizationFailed;
        let undescribed = Undescribed::default();
        for (hidden, new) in [
            (Err(denied), vec!["hidden"]),
            (Err(denied), vec![]),
            (Ok(described("hidden")), vec![]),
            (Err(denied), vec!["hidden"]),
        ] {
            let is_described = hidden.is_ok();
            let answered = vec![
                Ok(described("dovecot")),
                hidden,
                Err(Code::UnknownTopicOrPartition),
                Ok(described("hooks")),
            ];
            let answers = DescribedTopics::of(&topics, answered);
            let new_ones = undescribed.new_ones(&answers).into_iter();
            assert_eq!(new_ones.map(|(topic, _)| topic).collect::<Vec<_>>(), new);
            assert_eq!(answers.missing, BTreeSet::from(["gone".to_owned()]));
            assert_eq!(answers.refused.contains_key("hidden"), !is_described);
            let found: Vec<&str> = answers.found.keys().map(String::as_str).collect();
            if is_described {
                assert_eq!(found, ["dovecot", "hidden", "hooks"]);
            } else {
                assert_eq!(found, ["dovecot", "hooks"]);
            }
        }
    }

    #[test]
    fn a_limit_is_what_both_producer_and_topic_take_less_the_framing() {
        let check = |properties: &[(&str, &str)], topic: &str, expected: usize| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let limits = RecordLimits::of(&KafkaOptions {
                brokers: String::new(),
                properties: properties.iter().map(owned).collect(),
            });
            assert_eq!(limits.max_bytes("t"), limits.max_bytes("another"));
            limits.learn("t", &TopicSettings::from([("max.message.bytes", topic)]));
            assert_eq!(limits.max_bytes("t"), expected, "{properties:?}, {topic}");
        };
        check(&[], "1048588", 1_000_000 - FRAMING_BYTES);
        check(&[], "20000", 20_000 - FRAMING_BYTES);
        check(
            &[("message.max.bytes", "5000")],
            "20000",
            5_000 - FRAMING_BYTES,
        );
        check(
            &[("message.max.bytes", "5000000")],
            "1048588",
            1_048_588 - FRAMING_BYTES,
        );
        check(
            &[("message.max.bytes", "2000000")],
            "unknown",
            2_000_000 - FRAMING_BYTES,
        );
        check(&[], "10", 0);
    }
}

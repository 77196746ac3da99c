//! `dovecast doctor`, about the topics in Kafka: whether what is shipped stays there until it is
//! read.

use std::time::Duration;

use dovecast_doctor::{Finding, Severity};
use dovecast_log::kafka::{DescribedTopics, KafkaLog, TopicSettings};

use crate::config::{Config, LogKind};

/// How long a topic should keep records at least: a dispatcher may be down over a weekend.
const RETENTION: Duration = Duration::from_hours(72);
/// What a topic should take: librdkafka's default of what a producer sends.
const RECORD_BYTES: i64 = 1_000_000;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// What is wrong with the topics that the configuration names; nothing without Kafka.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    if config.log.kind != LogKind::Kafka {
        return Vec::new();
    }
    let topics: Vec<String> = config.dispatch.options().sources.into_keys().collect();
    match described(config, &topics).await {
        Ok(described) => of_topics(&described),
        Err(error) => vec![warning(format!(
            "Kafka cannot be asked for the settings of its topics: {error:#}"
        ))],
    }
}

async fn described(config: &Config, topics: &[String]) -> anyhow::Result<DescribedTopics> {
    let kafka = KafkaLog::connect(&config.kafka_options()?)?;
    Ok(kafka.topic_settings(topics).await?)
}

fn of_topics(described: &DescribedTopics) -> Vec<Finding> {
    let refused = described.refused.iter().map(|(topic, reason)| {
        warning(format!(
            "topic `{topic}` cannot be checked: Kafka does not describe it ({reason}); allow `DescribeConfigs` on it"
        ))
    });
    let missing = described.missing.iter().map(|topic| {
        warning(format!(
            "topic `{topic}` does not exist: create it; unless Kafka creates topics by itself, nothing is shipped to it"
        ))
    });
    let found = described.found.iter();
    let found = found.flat_map(|(topic, settings)| of_topic(topic, settings));
    refused.chain(missing).chain(found).collect()
}

fn of_topic(topic: &str, settings: &TopicSettings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let policy = settings.get("cleanup.policy").unwrap_or("delete");
    if policy.contains("compact") {
        findings.push(Finding {
            severity: Severity::Problem,
            text: format!(
                "topic `{topic}` has cleanup.policy={policy}: Kafka keeps only the last event of each user, set `delete`"
            ),
        });
    }
    let retention_ms = settings.number("retention.ms");
    let wanted_ms = i64::try_from(RETENTION.as_millis()).unwrap_or(i64::MAX);
    if let Some(ms) = retention_ms.filter(|ms| (0..wanted_ms).contains(ms)) {
        findings.push(warning(format!(
            "topic `{topic}` has retention.ms={ms}: records that are not read within {} hours are lost, set {} at least",
            ms / HOUR_MS,
            wanted_ms
        )));
    }
    // Without an end it does not matter from when on it counts.
    if settings.get("message.timestamp.type") == Some("CreateTime") && retention_ms != Some(-1) {
        findings.push(warning(format!(
            "topic `{topic}` has message.timestamp.type=CreateTime: Kafka removes records by the clock of their sender, set `LogAppendTime`"
        )));
    }
    let bytes = settings.number("max.message.bytes");
    if let Some(bytes) = bytes.filter(|bytes| *bytes < RECORD_BYTES) {
        findings.push(warning(format!(
            "topic `{topic}` has max.message.bytes={bytes}: larger notifications are refused, and larger events are lost, set {RECORD_BYTES} at least"
        )));
    }
    findings
}

fn warning(text: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const N: usize>(settings: [(&str, &str); N], expected: &[&str]) {
        let findings = of_topic("t", &TopicSettings::from(settings));
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_topic_that_is_missing_or_not_described_is_named_beside_what_is_wrong_with_others() {
        let described = DescribedTopics {
            found: [(
                "short".to_owned(),
                TopicSettings::from([("retention.ms", "7200000")]),
            )]
            .into(),
            missing: ["gone".to_owned()].into(),
            refused: [("hidden".to_owned(), "not authorized".to_owned())].into(),
        };
        let findings = of_topics(&described);
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "warning: topic `hidden` cannot be checked: Kafka does not describe it (not authorized); allow `DescribeConfigs` on it",
                "warning: topic `gone` does not exist: create it; unless Kafka creates topics by itself, nothing is shipped to it",
                "warning: topic `short` has retention.ms=7200000: records that are not read within 2 hours are lost, set 259200000 at least",
            ]
        );
    }

    #[test]
    fn a_topic_that_loses_events_before_they_are_read_is_named() {
        check(
            [
                ("cleanup.policy", "delete"),
                ("retention.ms", "604800000"),
                ("message.timestamp.type", "LogAppendTime"),
                ("max.message.bytes", "1048588"),
            ],
            &[],
        );
        check(
            [
                ("retention.ms", "-1"),
                ("message.timestamp.type", "CreateTime"),
            ],
            &[],
        );
        check([], &[]);
        check(
            [
                ("cleanup.policy", "compact,delete"),
                ("retention.ms", "7200000"),
                ("message.timestamp.type", "CreateTime"),
                ("max.message.bytes", "20000"),
            ],
            &[
                "problem: topic `t` has cleanup.policy=compact,delete: Kafka keeps only the last event of each user, set `delete`",
                "warning: topic `t` has retention.ms=7200000: records that are not read within 2 hours are lost, set 259200000 at least",
                "warning: topic `t` has message.timestamp.type=CreateTime: Kafka removes records by the clock of their sender, set `LogAppendTime`",
                "warning: topic `t` has max.message.bytes=20000: larger notifications are refused, and larger events are lost, set 1000000 at least",
            ],
        );
    }
}

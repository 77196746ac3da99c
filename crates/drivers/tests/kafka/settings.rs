//! Settings of endpoints and of clusters, without any broker.

use anyhow::{Context, Result, ensure};
use dovecast_drivers::kafka::{ClusterOptions, KafkaDriver};
use dovecast_log::kafka::KafkaOptions;
use serde_json::json;

use crate::{Case, SHORT, cluster, open, owned};

pub(crate) const CASES: &[(&str, Case)] = &[
    (
        "an_endpoint_names_a_cluster_and_a_topic_that_its_account_may_use",
        an_endpoint_names_a_cluster_and_a_topic_that_its_account_may_use,
    ),
    (
        "a_cluster_that_cannot_be_used_is_named_and_no_value_is_shown",
        a_cluster_that_cannot_be_used_is_named_and_no_value_is_shown,
    ),
];

fn an_endpoint_names_a_cluster_and_a_topic_that_its_account_may_use() -> Result<Option<()>> {
    let nowhere = || owned(&[("bootstrap.servers", "127.0.0.1:1")]);
    let of = |name: &str, accounts: &[&str], topics: &[&str]| ClusterOptions {
        accounts: accounts.iter().map(ToString::to_string).collect(),
        topics: topics.iter().map(ToString::to_string).collect(),
        ..cluster(name, nowhere())
    };
    let driver = KafkaDriver::new(
        &[
            of("mine", &["7"], &["mail.{account}.*", "all"]),
            of("everybody", &["*"], &["*"]),
            of("nobody", &[], &["*"]),
            of("nothing", &["7"], &[]),
        ],
        SHORT,
    )?;
    let no_cluster = |name: &str| {
        format!("`cluster` names `{name}`, which is no cluster that this account may use")
    };
    let no_topic =
        |name: &str| format!("`topic` names `{name}`, which this account may not write to");
    for (account, settings, expected) in [
        ("7", json!({"cluster": "mine", "topic": "mail.7.new"}), None),
        ("7", json!({"cluster": "mine", "topic": "all"}), None),
        ("8", json!({"cluster": "everybody", "topic": "any"}), None),
        (
            "8",
            json!({"cluster": "mine", "topic": "all"}),
            Some(no_cluster("mine")),
        ),
        (
            "7",
            json!({"cluster": "nobody", "topic": "t"}),
            Some(no_cluster("nobody")),
        ),
        (
            "7",
            json!({"cluster": "gone", "topic": "t"}),
            Some(no_cluster("gone")),
        ),
        (
            "7",
            json!({"cluster": "mine", "topic": "mail.8.new"}),
            Some(no_topic("mail.8.new")),
        ),
        (
            "7",
            json!({"cluster": "nothing", "topic": "t"}),
            Some(no_topic("t")),
        ),
        (
            "7",
            json!({"cluster": "everybody", "topic": "a b"}),
            Some("`topic` names `a b`, which is no name of a topic: letters, digits, `.`, `_` and `-` are".to_owned()),
        ),
        ("7", json!({"topic": "t"}), Some("`cluster` is missing".to_owned())),
        (
            "7",
            json!({"cluster": "everybody"}),
            Some("`topic` is missing".to_owned()),
        ),
        (
            "7",
            json!({"cluster": 1, "topic": "t"}),
            Some("`cluster` is not a text".to_owned()),
        ),
        (
            "7",
            json!({"cluster": "everybody", "topic": "t", "acks": "0"}),
            Some("`acks` is not known to this driver".to_owned()),
        ),
    ] {
        let opened = open(&driver, account, &settings);
        let error = opened.err().map(|error| error.to_string());
        ensure!(error == expected, "{account} {settings}: {error:?}");
    }
    Ok(Some(()))
}

fn a_cluster_that_cannot_be_used_is_named_and_no_value_is_shown() -> Result<Option<()>> {
    for (property, expected) in [
        ("acks", "`acks` of the kafka cluster `c` is set by dovecast"),
        (
            "message.timeout.ms",
            "`message.timeout.ms` of the kafka cluster `c` is set by dovecast",
        ),
        (
            "no.such.property",
            "the kafka cluster `c` cannot be used: unknown librdkafka property `no.such.property`",
        ),
        (
            "linger.ms",
            "the kafka cluster `c` cannot be used: invalid value of the librdkafka property `linger.ms`; it is not shown, as it may be a password",
        ),
    ] {
        let options = ClusterOptions {
            kafka: KafkaOptions {
                brokers: "127.0.0.1:1".to_owned(),
                properties: owned(&[(property, "s3cret")]),
            },
            ..cluster("c", Vec::new())
        };
        let error = KafkaDriver::new(&[options], SHORT).err();
        let error = error.context("it is taken")?.to_string();
        ensure!(error == expected, "{error}");
    }
    Ok(Some(()))
}

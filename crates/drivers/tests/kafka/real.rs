//! What a real broker does. Cases share one, which makes no topic by itself and has access rules;
//! the one that takes its broker away has its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use dovecast_dispatch::driver::{Attempt, Outcome};
use dovecast_drivers::kafka::KafkaDriver;
use dovecast_event::Header;
use dovecast_notification::Notification;
use dovecast_testkit::kafka::{RealKafka, Unavailable};
use dovecast_testkit::topic::TopicReader;

use crate::{Case, LONG, SHORT, cluster, deliver, notification, run, topic};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[(&str, Case)] = &[$((stringify!($name), $name)),*];
    };
}

cases![
    a_record_arrives_with_its_key_headers_and_value_byte_for_byte,
    a_record_that_is_too_large_is_refused_and_no_other_one_with_it,
    a_topic_that_is_not_there_is_waited_for,
    a_topic_that_may_not_be_written_to_is_told_from_one_that_is_not_there,
    a_password_that_is_wrong_is_told_and_not_shown,
    a_cluster_that_is_away_is_a_failure_with_its_reason_until_it_is_back,
];

/// Names and values.
type Headers<'a> = &'a [(&'a str, &'a [u8])];

const ODD: Headers<'static> = &[("x", b"1"), ("x", b""), ("y", b"\xff\0")];
const WITH_ID: Headers<'static> = &[
    ("x", b"1"),
    ("dovecast-id", b"00000000-0000-0000-0000-000000000002"),
];

type Broker = Result<Arc<RealKafka>, Unavailable>;

static SHARED: Mutex<Option<Broker>> = Mutex::new(None);

/// The broker that cases share; `None`: this machine has none, which is said.
fn shared(case: &str) -> Result<Option<Arc<RealKafka>>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        *shared = Some(RealKafka::start_strict()?.map(Arc::new));
    }
    Ok(shared.clone().and_then(|broker| found(case, broker)))
}

fn found<T>(case: &str, broker: Result<T, Unavailable>) -> Option<T> {
    broker
        .inspect_err(|unavailable| println!("\n*** {case} SKIPPED: {unavailable}\n"))
        .ok()
}

/// Ends the broker that cases share.
pub(crate) fn stop() {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn failed(attempt: &Attempt) -> Result<&str> {
    match &attempt.outcome {
        Outcome::Failed { reason, .. } => Ok(reason),
        _ => bail!("{attempt:?}"),
    }
}

fn delivered(attempt: &Attempt) -> Result<()> {
    ensure!(attempt.outcome == Outcome::Delivered, "{attempt:?}");
    Ok(())
}

/// As the log hands it out.
fn read(key: Option<&'static [u8]>, headers: &[(&str, &'static [u8])]) -> Notification {
    let header = |(name, value): &(&str, &'static [u8])| Header {
        name: Arc::from(*name),
        value: Bytes::from_static(value),
    };
    Notification {
        key: key.map(Bytes::from_static),
        headers: headers.iter().map(header).collect(),
        ..notification("f\u{fc}r \"dich\"")
    }
}

fn a_record_arrives_with_its_key_headers_and_value_byte_for_byte() -> Result<Option<()>> {
    let Some(broker) = shared("a_record_arrives")? else {
        return Ok(None);
    };
    let settings = broker.client_settings_plaintext();
    let driver = KafkaDriver::new(&[cluster("c", settings.clone())], LONG)?;
    broker.create_topic("bytes", 1)?;
    let id: (&str, &[u8]) = ("dovecast-id", b"00000000-0000-0000-0000-000000000001");
    // Key, headers, and whether the id is among them.
    let cases: [(Option<&'static [u8]>, Headers<'static>, bool); 4] = [
        (None, &[], false),
        (Some(b"u@example.org"), ODD, false),
        (Some(b""), WITH_ID, true),
        (Some(b"\xff\0"), &[], false),
    ];
    run(async {
        let mut courier = topic(&driver, "c", "bytes")?;
        for (offset, (key, headers, _)) in cases.iter().enumerate() {
            let attempt = deliver(&mut courier, read(*key, headers)).await;
            delivered(&attempt)?;
            let said = attempt.answer.context("no answer")?.head;
            ensure!(said == format!("partition 0, offset {offset}"), "{said}");
        }
        Ok(())
    })?;
    let value = "{\"application\":\"a\",\"event_type\":\"e\",\"level\":null,\"timestamp\":1,\"message\":\"f\u{fc}r \\\"dich\\\"\",\"account_id\":\"7\"}";
    let records = TopicReader::new(&settings, "bytes")?.read(cases.len(), LONG)?;
    for (record, (key, headers, has_id)) in records.iter().zip(cases) {
        ensure!(record.key.as_deref() == key, "{record:?}");
        ensure!(record.value == value.as_bytes(), "{record}");
        let more = (!has_id).then_some(&id);
        let expected: Vec<_> = headers.iter().chain(more).collect();
        let expected = expected.iter().map(|(name, value)| (*name, *value));
        let found = record.headers.iter();
        let found = found.map(|(name, value)| (&**name, &**value));
        ensure!(found.eq(expected), "{record:?}");
    }
    Ok(Some(()))
}

fn a_record_that_is_too_large_is_refused_and_no_other_one_with_it() -> Result<Option<()>> {
    let Some(broker) = shared("a_record_that_is_too_large")? else {
        return Ok(None);
    };
    let settings = broker.client_settings_plaintext();
    // So that records of several deliveries are in one batch.
    let mut together = settings.clone();
    together.push(("linger.ms".to_owned(), "200".to_owned()));
    let driver = KafkaDriver::new(&[cluster("c", together)], LONG)?;
    broker.create_topic_with("small", 1, &[("max.message.bytes", "5000")])?;
    let small = 20;
    run(async {
        let mut attempts = tokio::task::JoinSet::new();
        for number in 0..=small {
            let mut courier = topic(&driver, "c", "small")?;
            attempts.spawn(async move {
                let text = "x".repeat(if number == small { 6000 } else { 1000 });
                (number, deliver(&mut courier, notification(&text)).await)
            });
        }
        while let Some(made) = attempts.join_next().await {
            let (number, attempt) = made?;
            if number < small {
                delivered(&attempt)?;
                continue;
            }
            let Outcome::Refused { reason } = &attempt.outcome else {
                bail!("{attempt:?}");
            };
            ensure!(
                reason.contains("is larger than the cluster takes"),
                "{reason}"
            );
            ensure!(attempt.answer.is_some(), "the cluster has answered");
        }
        // What is too large for librdkafka already.
        let mut courier = topic(&driver, "c", "small")?;
        let attempt = deliver(&mut courier, notification(&"x".repeat(2_000_000))).await;
        let is_refused = matches!(attempt.outcome, Outcome::Refused { .. });
        ensure!(is_refused, "{attempt:?}");
        Ok(())
    })?;
    let stored = TopicReader::new(&settings, "small")?.read(small, LONG)?;
    ensure!(stored.len() == small);
    Ok(Some(()))
}

fn a_topic_that_is_not_there_is_waited_for() -> Result<Option<()>> {
    let Some(broker) = shared("a_topic_that_is_not_there")? else {
        return Ok(None);
    };
    let settings = broker.client_settings_plaintext();
    let driver = KafkaDriver::new(&[cluster("c", settings)], LONG)?;
    run(async {
        let mut courier = topic(&driver, "c", "later")?;
        for _ in 0..2 {
            let attempt = deliver(&mut courier, notification("early")).await;
            let reason = failed(&attempt)?;
            ensure!(reason.contains("the cluster has no such topic"), "{reason}");
            ensure!(attempt.answer.is_some(), "the cluster has answered");
        }
        broker.create_topic("later", 1)?;
        delivered(&deliver(&mut courier, notification("there")).await)
    })
}

fn a_topic_that_may_not_be_written_to_is_told_from_one_that_is_not_there() -> Result<Option<()>> {
    let Some(broker) = shared("a_topic_that_may_not_be_written_to")? else {
        return Ok(None);
    };
    broker.create_topic("closed", 1)?;
    let driver = KafkaDriver::new(&[cluster("c", broker.client_settings_sasl_ssl())], LONG)?;
    run(async {
        let mut courier = topic(&driver, "c", "closed")?;
        for _ in 0..2 {
            let attempt = deliver(&mut courier, notification("no")).await;
            let reason = failed(&attempt)?;
            let expected = "the cluster does not let dovecast write to the topic";
            ensure!(reason.contains(expected), "{reason}");
            ensure!(attempt.answer.is_some(), "the cluster has answered");
        }
        Ok(())
    })
}

fn a_password_that_is_wrong_is_told_and_not_shown() -> Result<Option<()>> {
    let Some(broker) = shared("a_password_that_is_wrong")? else {
        return Ok(None);
    };
    let mut settings = broker.client_settings_sasl_ssl();
    settings.retain(|(name, _)| name != "sasl.password");
    settings.push(("sasl.password".to_owned(), "s3cret".to_owned()));
    let driver = KafkaDriver::new(&[cluster("c", settings)], LONG)?;
    run(async {
        let mut courier = topic(&driver, "c", "closed")?;
        let attempt = deliver(&mut courier, notification("no")).await;
        let reason = failed(&attempt)?;
        ensure!(reason.contains("Authentication"), "{reason}");
        ensure!(attempt.answer.is_none(), "the cluster has not answered");
        ensure!(!format!("{attempt:?}").contains("s3cret"), "{attempt:?}");
        Ok(())
    })
}

fn a_cluster_that_is_away_is_a_failure_with_its_reason_until_it_is_back() -> Result<Option<()>> {
    let name = "a_cluster_that_is_away";
    let Some(mut broker) = found(name, RealKafka::start()?) else {
        return Ok(None);
    };
    let settings = broker.client_settings_plaintext();
    broker.create_topic("t", 1)?;
    let patient = KafkaDriver::new(&[cluster("c", settings.clone())], LONG)?;
    let hasty = KafkaDriver::new(&[cluster("c", settings.clone())], SHORT)?;
    run(async {
        let mut courier = topic(&patient, "c", "t")?;
        delivered(&deliver(&mut courier, notification("before")).await)?;
        broker.kill()?;
        let mut hasty = topic(&hasty, "c", "t")?;
        let expected = "the cluster cannot be reached: BrokerTransportFailure";
        // On a machine that is busy the time may be over before anything has failed.
        let begun = Instant::now();
        loop {
            let attempt = deliver(&mut hasty, notification("away")).await;
            ensure!(attempt.answer.is_none(), "the cluster has not answered");
            let reason = failed(&attempt)?;
            if reason.contains(expected) {
                break;
            }
            ensure!(begun.elapsed() < LONG, "{reason}");
        }
        broker.restart()?;
        delivered(&deliver(&mut courier, notification("after")).await)
    })?;
    let stored = TopicReader::new(&settings, "t")?.drain()?;
    let values: Vec<_> = stored.iter().map(ToString::to_string).collect();
    let is_there = |text: &str| values.iter().any(|value| value.contains(text));
    ensure!(is_there("before") && is_there("after"), "{values:?}");
    Ok(Some(()))
}

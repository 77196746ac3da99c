//! A real Kafka, started, written to and read over both listeners, frozen, killed and started
//! again.
//!
//! Where no Kafka can be had the test says so, past the test harness's capture, and passes.

use std::io::Write;
use std::time::{Duration, Instant};

use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::topic::{Record, TopicReader};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const TIMEOUT: Duration = dovecast_testkit::PATIENCE;

type Settings = Vec<(String, String)>;

/// A line on the real standard output, which `cargo test` does not swallow as it does `println!`.
fn announce(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}

fn timed<T>(what: &str, action: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = action();
    announce(&format!("real_kafka: {what} took {:?}", start.elapsed()));
    result
}

fn config(settings: &Settings) -> ClientConfig {
    settings.iter().cloned().collect()
}

fn produce(settings: &Settings, topic: &str, value: &str) {
    let producer: BaseProducer = config(settings)
        .set("message.timeout.ms", "30000")
        .create()
        .expect("a producer");
    let record = BaseRecord::to(topic).key("key").payload(value);
    producer.send(record).expect("queued");
    producer.flush(TIMEOUT).expect("flushed");
}

fn read_back(settings: &Settings, topic: &str) -> Vec<String> {
    let mut reader = TopicReader::new(settings, topic).expect("a reader");
    values(&reader.drain().expect("drained"))
}

fn values(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8_lossy(&record.value).into_owned();
    records.iter().map(text).collect()
}

fn answers_within(timeout: Duration, settings: &Settings) -> bool {
    let client: BaseConsumer = config(settings).create().expect("a client");
    client.fetch_metadata(None, timeout).is_ok()
}

fn answers(settings: &Settings) -> bool {
    answers_within(TIMEOUT, settings)
}

/// Long enough for an answer on a loaded machine, short enough to wait for in vain.
fn stays_silent(settings: &Settings) -> bool {
    !answers_within(Duration::from_secs(2), settings)
}

#[test]
fn a_real_kafka_keeps_what_it_was_given_over_both_listeners() {
    let mut kafka = match timed("start", RealKafka::start).expect("Kafka starts") {
        Ok(kafka) => kafka,
        Err(unavailable) => {
            announce(&format!(
                "real_kafka: SKIPPED, no real Kafka: {unavailable}"
            ));
            return;
        }
    };
    let plaintext = kafka.client_settings_plaintext();
    let sasl_ssl = kafka.client_settings_sasl_ssl();

    timed("create_topic", || kafka.create_topic("events", 3)).expect("a topic");
    timed("produce", || produce(&plaintext, "events", "by plaintext"));
    let mut reader = TopicReader::new(&sasl_ssl, "events").expect("a reader");
    let first = timed("first read", || reader.read(1, TIMEOUT)).expect("read");
    assert_eq!(values(&first), ["by plaintext"]);
    timed("produce over TLS", || {
        produce(&sasl_ssl, "events", "by sasl_ssl");
    });
    assert_eq!(values(&reader.drain().expect("drained")), ["by sasl_ssl"]);

    produce(&plaintext, "on-demand", "created by asking");
    assert_eq!(read_back(&sasl_ssl, "on-demand"), ["created by asking"]);

    wrong_credentials_are_refused(&kafka);
    nothing_is_deleted_for_its_age_or_size(&kafka);

    kafka.pause().expect("paused");
    assert!(stays_silent(&plaintext), "a frozen broker answered");
    kafka.resume().expect("resumed");
    assert!(answers(&plaintext), "a resumed broker does not answer");

    timed("restart", || kafka.restart()).expect("restarted");
    assert_eq!(read_back(&plaintext, "events").len(), 2);

    kafka.kill().expect("killed");
    assert!(kafka.pause().is_err(), "a dead broker was paused");
    assert!(stays_silent(&plaintext), "a dead broker answered");
    timed("restart after kill", || kafka.restart()).expect("restarted");
    let both = timed("read after kill", || read_back(&sasl_ssl, "events"));
    assert_eq!(both.len(), 2);

    let directory = kafka.ca_path().parent().expect("a directory").to_owned();
    timed("drop", || drop(kafka));
    assert!(!directory.exists(), "`{}` is left", directory.display());
}

fn wrong_credentials_are_refused(kafka: &RealKafka) {
    let sasl_ssl = kafka.client_settings_sasl_ssl();
    let mutual_tls = kafka.client_settings_mutual_tls();
    assert!(answers(&sasl_ssl), "right login refused");
    assert!(answers(&mutual_tls), "right certificate refused");

    let wrong_login = with(&sasl_ssl, "sasl.password", "wrong");
    assert!(stays_silent(&wrong_login), "wrong password taken");
    let wrong_authority = with(
        &sasl_ssl,
        "ssl.ca.location",
        "/etc/ssl/certs/ca-certificates.crt",
    );
    assert!(stays_silent(&wrong_authority), "unknown server trusted");
    let no_certificate: Settings = mutual_tls
        .into_iter()
        .filter(|(name, _)| name != "ssl.certificate.location" && name != "ssl.key.location")
        .collect();
    assert!(stays_silent(&no_certificate), "no certificate, yet let in");
}

/// What a test appended is there whatever time it carries and whatever the clock says.
fn nothing_is_deleted_for_its_age_or_size(kafka: &RealKafka) {
    let admin: AdminClient<DefaultClientContext> = config(&kafka.client_settings_plaintext())
        .create()
        .expect("an admin client");
    let topic = ResourceSpecifier::Topic("events");
    let described = admin.describe_configs([&topic], &AdminOptions::new());
    let described = futures_executor::block_on(described).expect("an answer");
    let settings = described[0].as_ref().expect("the topic's settings");
    for name in ["retention.ms", "retention.bytes"] {
        let value = settings.get(name).and_then(|entry| entry.value.as_deref());
        assert_eq!(value, Some("-1"), "{name}");
    }
}

fn with(settings: &Settings, name: &str, value: &str) -> Settings {
    let mut changed = settings.clone();
    for (candidate, current) in &mut changed {
        if candidate == name {
            value.clone_into(current);
        }
    }
    changed
}

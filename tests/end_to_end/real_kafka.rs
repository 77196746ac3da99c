//! Mail as in the other files, and a real Apache Kafka: logins, partitions, compression, a panic
//! with TLS; what other files need of it.
//!
//! Where no Kafka can be had each case says so and is counted as ignored.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Installation};
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::plugin::{Build, modules};
use dovecast_testkit::topic::{Record, TopicReader};

use crate::case::{Skipped, cases};
use crate::docs::{document, dovecot_of, examples, use_mail};
use crate::setup::{ARRIVAL, builder};
use crate::story::{
    FLAG_EVENTS, Story, check_alive, check_arrived, check_lost, session_pid, wait_for_end,
};

cases![
    each_user_stays_in_one_partition,
    every_compression_works,
    a_wrong_password_is_told_without_it_and_mail_goes_on,
    a_panic_with_tls_ends_no_process,
    the_examples_with_tls_work,
];

/// librdkafka properties of a client.
pub(crate) type Settings = Vec<(String, String)>;

/// The broker that the cases share which do it no harm. [`stop`] ends it.
static SHARED: Mutex<Option<RealKafka>> = Mutex::new(None);

/// A broker of the case's own.
pub(crate) fn start() -> Result<RealKafka> {
    RealKafka::start()?
        .map_err(|unavailable| Skipped(format!("no real Kafka can be had: {unavailable}")).into())
}

/// What a case needs of the shared broker: a topic of its own, and settings over one of the three
/// listeners.
pub(crate) struct Shared {
    pub(crate) topic: String,
    pub(crate) settings: Settings,
}

pub(crate) fn shared(
    on: Installation,
    topic: &str,
    partitions: i32,
    settings: impl FnOnce(&RealKafka) -> Settings,
) -> Result<Shared> {
    let topic = format!("{topic}-{}", on.version());
    with_shared(|kafka| {
        kafka.create_topic(&topic, partitions)?;
        Ok(Shared {
            settings: settings(kafka),
            topic: topic.clone(),
        })
    })
}

/// Asks the shared broker, which the first one who asks starts.
fn with_shared<T>(ask: impl FnOnce(&RealKafka) -> Result<T>) -> Result<T> {
    let mut shared = lock();
    if shared.is_none() {
        *shared = Some(start()?);
    }
    let kafka = shared
        .as_ref()
        .context("the broker has just been started")?;
    ask(kafka)
}

impl Shared {
    pub(crate) fn reader(&self) -> Result<TopicReader> {
        TopicReader::new(&self.settings, &self.topic)
    }
}

fn lock() -> MutexGuard<'static, Option<RealKafka>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the shared broker.
pub(crate) fn stop() {
    drop(lock().take());
}

/// A Dovecot that publishes with these client settings.
pub(crate) fn dovecot(on: Installation, options: &str, settings: &Settings) -> Result<Builder> {
    let brokers = settings
        .iter()
        .find(|(name, _)| name == "bootstrap.servers");
    let (_, brokers) = brokers.context("no `bootstrap.servers`")?;
    let mut builder = builder(on, &[options], brokers)?
        // A Java that has just been started takes its time for the first handshakes.
        .kafka("kafka_flush_time_in_ms", "15000");
    for (name, value) in settings {
        if name.ends_with(".location") {
            builder = builder.file(value);
        }
        if name != "bootstrap.servers" {
            builder = builder.kafka(&format!("settings.{name}"), value);
        }
    }
    Ok(builder)
}

fn each_user_stays_in_one_partition(on: Installation) -> Result<()> {
    const USERS: usize = 12;
    let shared = shared(on, "partitions", 6, RealKafka::client_settings_plaintext)?;
    let options = format!("topic={} {FLAG_EVENTS}", shared.topic);
    let dovecot = dovecot(on, &options, &shared.settings)?.start()?;
    let mut told = Vec::new();
    for user in 0..USERS {
        let mut story = Story::open(&dovecot, &format!("user{user}"), 5)?;
        story.steps(10)?;
        told.push(story.logout()?);
    }
    let records = shared.reader()?.read(USERS * 10, ARRIVAL)?;
    crate::story::check_same(&records, &told)?;
    let mut partitions: HashMap<&[u8], HashSet<i32>> = HashMap::new();
    for record in &records {
        let user = record.key.as_deref().unwrap_or_default();
        partitions.entry(user).or_default().insert(record.partition);
    }
    let spread = partitions
        .iter()
        .find(|(_, partitions)| partitions.len() > 1);
    ensure!(
        spread.is_none(),
        "a user is in several partitions: {spread:?}"
    );
    let used: HashSet<i32> = partitions.into_values().flatten().collect();
    ensure!(
        used.len() >= 3,
        "{USERS} users share the partitions {used:?}"
    );
    check_alive(&dovecot)
}

fn every_compression_works(on: Installation) -> Result<()> {
    for codec in ["zstd", "lz4", "gzip", "snappy"] {
        let topic = format!("compressed-{codec}");
        let mut shared = shared(on, &topic, 1, RealKafka::client_settings_plaintext)?;
        let mut reader = shared.reader()?;
        let settings = &mut shared.settings;
        settings.push(("compression.codec".to_owned(), codec.to_owned()));
        // Enough of the same in one request that compressing it is worth it.
        settings.push(("linger.ms".to_owned(), "200".to_owned()));
        let options = format!("topic={} {FLAG_EVENTS}", shared.topic);
        let dovecot = dovecot(on, &options, &shared.settings)?.start()?;
        let mut alice = Story::open(&dovecot, "alice", 50)?;
        alice.steps(150)?;
        check_arrived(&mut reader, &[alice.logout()?])
            .with_context(|| format!("{codec}: {}", dovecot.log()))?;
        let errors = dovecot.errors_in_log();
        ensure!(
            errors.is_empty(),
            "{codec}: errors in Dovecot's log: {errors:?}"
        );
        check_alive(&dovecot)?;
    }
    Ok(())
}

fn a_wrong_password_is_told_without_it_and_mail_goes_on(on: Installation) -> Result<()> {
    const WRONG: &str = "hunter2-of-the-operator";
    let shared = shared(on, "refused", 1, RealKafka::client_settings_sasl_ssl)?;
    let mut settings = shared.settings.clone();
    for (name, value) in &mut settings {
        if name == "sasl.password" {
            WRONG.clone_into(value);
        }
    }
    let options = format!("topic={} {FLAG_EVENTS}", shared.topic);
    let dovecot = dovecot(on, &options, &settings)?
        .kafka("kafka_debug", "security,broker")
        .kafka("kafka_flush_time_in_ms", "1000")
        .start()?;
    let mut alice = Story::open(&dovecot, "alice", 5)?;
    alice.step()?;
    dovecot.wait_for_log("SASL authentication error", ARRIVAL)?;
    alice.steps(4)?;
    let pid = session_pid(&dovecot, "alice")?;
    alice.logout()?;
    wait_for_end(&dovecot, pid)?;
    check_lost(&dovecot, 5)?;
    let errors = dovecot.errors_in_log();
    let refused = errors
        .iter()
        .filter(|line| line.contains("SASL authentication error: Authentication failed"));
    ensure!(
        refused.count() == 1,
        "the refused login is not one error: {errors:?}"
    );
    let logs = dovecot.log() + &dovecot.debug_log();
    let leak = logs.lines().find(|line| line.contains(WRONG));
    ensure!(leak.is_none(), "the password is logged: {leak:?}");
    let records = shared.reader()?.drain()?;
    ensure!(
        records.is_empty(),
        "published with a wrong password: {}",
        records[0]
    );
    check_alive(&dovecot)
}

/// The driver is off after a panic, so its producer is not destroyed; threads with TLS are then
/// alive at exit.
fn a_panic_with_tls_ends_no_process(on: Installation) -> Result<()> {
    let shared = shared(on, "panic", 1, RealKafka::client_settings_sasl_ssl)?;
    let options = format!("topic={} events=FlagsSet,MessageTrash", shared.topic);
    let dovecot = dovecot(on, &options, &shared.settings)?
        .plugin(modules(on, Build::FaultInjection)?.plugin)
        .field("dovecast_fault", "MessageTrash")
        .start()?;
    let mut told = Vec::new();
    for session in 0..15 {
        let mut story = Story::open(&dovecot, &format!("user{session}"), 5)?;
        story.steps(5)?;
        if session % 3 > 0 {
            // Connected in two of three sessions.
            let user = story.told().user;
            let mut reader = shared.reader()?;
            let is_there = |record: &Record| record.key.as_deref() == Some(user.as_bytes());
            while !reader
                .next(ARRIVAL)?
                .is_some_and(|record| is_there(&record))
            {}
        }
        story.imap.ok("STORE 1 +FLAGS (\\Deleted)")?;
        let pid = session_pid(&dovecot, &story.told().user)?;
        told.push(story.logout()?);
        wait_for_end(&dovecot, pid)?;
    }
    check_alive(&dovecot)?;
    check_arrived(&mut shared.reader()?, &told)
}

/// An example of the documentation with the values that it cannot know, and the files that these
/// name.
fn fill_in(example: &str, settings: &Settings) -> Result<(String, Vec<String>)> {
    const DOCUMENTED: [(&str, &str); 5] = [
        ("ssl.ca.location", "/etc/dovecast/ca.pem"),
        ("ssl.certificate.location", "/etc/dovecast/client.pem"),
        ("ssl.key.location", "/etc/dovecast/client.key"),
        ("sasl.username", "dovecot"),
        ("sasl.password", "secret"),
    ];
    let (mut text, mut files) = (example.to_owned(), Vec::new());
    for (name, documented) in DOCUMENTED {
        let Some((_, value)) = settings.iter().find(|(known, _)| known == name) else {
            continue;
        };
        let line = format!("{name} = {documented}\n");
        ensure!(text.contains(&line), "no `{}`", line.trim());
        text = text.replace(&line, &format!("{name} = {value}\n"));
        if name.ends_with(".location") {
            files.push(value.clone());
        }
    }
    Ok((text, files))
}

fn the_examples_with_tls_work(on: Installation) -> Result<()> {
    type Client = fn(&RealKafka) -> Settings;
    let kinds: [(&str, Client); 2] = [
        ("tls", RealKafka::client_settings_sasl_ssl),
        ("mutual-tls", RealKafka::client_settings_mutual_tls),
    ];
    for (kind, client) in kinds {
        let settings = with_shared(|kafka| Ok(client(kafka)))?;
        let found = examples(document(on), &format!("dovecot.conf {kind}"));
        ensure!(found.len() == 1, "{} examples of `{kind}`", found.len());
        let (example, files) = fill_in(found[0], &settings).context(kind)?;
        let brokers = &settings[0].1;
        let builder = dovecot_of(on, &example, brokers)?.kafka("kafka_flush_time_in_ms", "15000");
        let dovecot = files
            .into_iter()
            .fold(builder, Builder::file)
            .start()
            .context(kind)?;
        // The examples share the default topic.
        let user = format!("{kind}-{}", on.version());
        use_mail(&dovecot, &user)?;
        let mut reader = TopicReader::new(&settings, "dovecot")?;
        let mut next = || {
            reader
                .next(ARRIVAL)?
                .with_context(|| format!("{kind}: {}", dovecot.log()))
        };
        while next()?.key.as_deref() != Some(user.as_bytes()) {}
        let errors = dovecot.errors_in_log();
        ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
        check_alive(&dovecot)?;
    }
    Ok(())
}

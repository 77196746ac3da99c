//! The same mail, a real Apache Kafka: TLS, logins, headers, partitions, and a broker that is killed and frozen.
//!
//! Where no Kafka can be had each case says so and is counted as ignored.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use dovecast_event::{ParsedHeaders, parse};
use dovecast_testkit::dovecot::{Builder, Dovecot};
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::plugin::{Build, shared_object};
use dovecast_testkit::topic::{Record, TopicReader};

use crate::case::{Skipped, cases};
use crate::setup::{ARRIVAL, builder};
use crate::story::{
    FLAG_EVENTS, MAIL, Story, Told, check_alive, check_arrived, check_arrived_at_least_once, line,
    lost, session_pid, wait_for_end,
};

cases![
    records_keys_and_headers_are_right_over_plaintext,
    records_keys_and_headers_are_right_over_tls_with_scram,
    records_keys_and_headers_are_right_over_mutual_tls,
    each_user_stays_in_one_partition,
    every_compression_works,
    a_wrong_password_is_told_without_it_and_mail_goes_on,
    a_panic_with_tls_ends_no_process,
    a_killed_broker_costs_neither_events_nor_order,
    an_idempotent_producer_repeats_nothing_after_a_kill,
    a_frozen_broker_gets_everything_when_it_goes_on,
];

type Settings = Vec<(String, String)>;

/// The broker that the cases share which do it no harm. [`stop`] ends it.
static SHARED: Mutex<Option<RealKafka>> = Mutex::new(None);

fn start() -> Result<RealKafka> {
    RealKafka::start()?
        .map_err(|unavailable| Skipped(format!("no real Kafka can be had: {unavailable}")).into())
}

/// What a case needs of the shared broker: settings over its three listeners, each with a topic of the case's own.
fn shared<T>(topic: &str, partitions: i32, take: impl FnOnce(&RealKafka) -> T) -> Result<T> {
    let mut shared = lock();
    if shared.is_none() {
        *shared = Some(start()?);
    }
    let kafka = shared
        .as_ref()
        .context("the broker has just been started")?;
    kafka.create_topic(topic, partitions)?;
    Ok(take(kafka))
}

fn lock() -> MutexGuard<'static, Option<RealKafka>> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the shared broker.
pub(crate) fn stop() {
    drop(lock().take());
}

/// A Dovecot that publishes with these client settings.
fn dovecot(options: &str, settings: &Settings) -> Result<Builder> {
    let brokers = settings
        .iter()
        .find(|(name, _)| name == "bootstrap.servers");
    let (_, brokers) = brokers.context("no `bootstrap.servers`")?;
    let others = settings
        .iter()
        .filter(|(name, _)| name != "bootstrap.servers");
    // A Java that has just been started takes its time for the first handshakes.
    let flush = ("kafka.notification.kafka_flush_time_in_ms", "15000");
    let builder = builder(&[options], brokers)?.plugin_setting(flush.0, flush.1);
    Ok(others.fold(builder, |builder, (name, value)| {
        builder.plugin_setting(&format!("kafka.notification.settings.{name}"), value)
    }))
}

/// What one process published, in order, and how its transactions are made up: the number of records of each.
struct Session {
    events: Vec<&'static str>,
    transactions: Vec<usize>,
}

/// One delivery and one session; gives what each of the two processes does.
fn small_session(dovecot: &Dovecot) -> Result<[(&'static str, Session); 2]> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;
    lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;
    lmtp.quit()?;
    let mut imap = dovecot.login("alice@example.org")?;
    imap.ok("CREATE box")?;
    imap.multiappend("box", &[("", MAIL), ("", MAIL), ("", MAIL)])?;
    imap.ok("SELECT box")?;
    imap.ok(r"STORE 1:2 +FLAGS (\Seen $label1)")?;
    imap.ok(r"STORE 3 +FLAGS (\Deleted)")?;
    imap.ok("EXPUNGE")?;
    imap.logout()?;
    let lmtp = Session {
        events: vec!["MailboxCreate", "MessageNew 1", "MessageNew 2"],
        transactions: vec![1, 1, 1],
    };
    let imap = Session {
        events: vec![
            "MailboxCreate",
            "MessageAppend 1",
            "MessageAppend 2",
            "MessageAppend 3",
            r"FlagsSet 1 \Seen $label1",
            "MessageRead 1",
            r"FlagsSet 2 \Seen $label1",
            "MessageRead 2",
            r"FlagsSet 3 \Deleted",
            "MessageTrash 3",
            "MessageExpunge 3",
        ],
        transactions: vec![1, 3, 4, 2, 1],
    };
    Ok([("carol", lmtp), ("alice@example.org", imap)])
}

fn now_ms() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())
}

/// The small session over one listener, read back, keys and headers checked.
fn check_session(topic: &str, settings: &Settings) -> Result<()> {
    let before = now_ms()?;
    let dovecot = dovecot(&format!("topic={topic}"), settings)?.start()?;
    let sessions = small_session(&dovecot)?;
    let count = sessions
        .iter()
        .map(|(_, session)| session.events.len())
        .sum();
    let mut reader = TopicReader::new(settings, topic)?;
    let mut records = reader.read(count, ARRIVAL).with_context(|| dovecot.log())?;
    records.extend(reader.drain()?);
    let after = now_ms()?;
    for (user, session) in &sessions {
        let own: Vec<&Record> = records
            .iter()
            .filter(|record| record.key.as_deref() == Some(user.as_bytes()))
            .collect();
        check_records(user, session, &own)?;
    }
    ensure!(
        records.len() == count,
        "{} records instead of {count}",
        records.len()
    );
    let ids: HashSet<_> = records
        .iter()
        .map(|record| record.header("dovecast-id"))
        .collect();
    ensure!(
        ids.len() == count,
        "{} different ids of {count} records",
        ids.len()
    );
    for record in &records {
        check_time_and_host(record, before, after)?;
    }
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
    check_alive(&dovecot)
}

fn headers(record: &Record) -> Result<ParsedHeaders> {
    let headers = record.headers.iter();
    ParsedHeaders::parse(headers.map(|(name, value)| (name.as_str(), value.as_slice())))
        .with_context(|| format!("headers of {record}"))
}

/// Order, ids and transactions of what one process published.
fn check_records(user: &str, session: &Session, records: &[&Record]) -> Result<()> {
    let lines: Vec<String> = records
        .iter()
        .map(|record| line(record))
        .collect::<Result<_>>()?;
    ensure!(
        lines == session.events,
        "of `{user}`: {lines:?} arrived, {:?} was made",
        session.events
    );
    let headers: Vec<ParsedHeaders> = records
        .iter()
        .map(|record| headers(record))
        .collect::<Result<_>>()?;
    ensure!(
        headers.is_sorted_by(|a, b| a.id < b.id),
        "ids of `{user}` do not ascend: {headers:?}"
    );
    let mut place = 0;
    let mut transactions = HashSet::new();
    for length in &session.transactions {
        let transaction = &headers[place..place + length];
        for (seq, header) in transaction.iter().enumerate() {
            let is_right = header.txn == transaction[0].txn
                && header.txn_seq as usize == seq
                && header.txn_last == (seq + 1 == *length);
            ensure!(
                is_right,
                "`{user}`: `{}` has {header:?}",
                lines[place + seq]
            );
        }
        ensure!(
            transactions.insert(transaction[0].txn),
            "`{user}`: two transactions are called {}",
            transaction[0].txn
        );
        place += length;
    }
    Ok(())
}

fn check_time_and_host(record: &Record, before_ms: u128, after_ms: u128) -> Result<()> {
    let header = headers(record)?;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    ensure!(
        header.host == hostname.trim(),
        "host of {record} is `{}`",
        header.host
    );
    // The first 48 bits of a UUIDv7 are its time in milliseconds.
    let ms = header.id.as_u128() >> 80;
    ensure!(
        (before_ms..=after_ms).contains(&ms),
        "the id of {record} is of {ms}, not between {before_ms} and {after_ms}"
    );
    let day = header.time.get(..11).unwrap_or_default();
    ensure!(
        header.time.len() == 24 && header.time.ends_with('Z') && day.ends_with('T'),
        "the time of {record} is `{}`",
        header.time
    );
    let parsed = rfc3339_ms(&header.time).with_context(|| header.time.clone())?;
    ensure!(
        (before_ms..=after_ms).contains(&parsed),
        "the time of {record} is `{}`, not between {before_ms} and {after_ms}",
        header.time
    );
    parse(&record.value).with_context(|| format!("the value of {record}"))?;
    Ok(())
}

/// Milliseconds since the epoch of `2026-11-20T21:35:28.123Z` (days by the proleptic Gregorian calendar).
fn rfc3339_ms(text: &str) -> Option<u128> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    u128::try_from(seconds * 1000 + number(20..23)?).ok()
}

fn records_keys_and_headers_are_right_over_plaintext() -> Result<()> {
    let settings = shared("plaintext", 3, RealKafka::client_settings_plaintext)?;
    check_session("plaintext", &settings)
}

fn records_keys_and_headers_are_right_over_tls_with_scram() -> Result<()> {
    let settings = shared("scram", 3, RealKafka::client_settings_sasl_ssl)?;
    check_session("scram", &settings)
}

fn records_keys_and_headers_are_right_over_mutual_tls() -> Result<()> {
    let settings = shared("mutual", 3, RealKafka::client_settings_mutual_tls)?;
    check_session("mutual", &settings)
}

fn each_user_stays_in_one_partition() -> Result<()> {
    const USERS: usize = 12;
    let settings = shared("partitions", 6, RealKafka::client_settings_plaintext)?;
    let dovecot = dovecot(&format!("topic=partitions {FLAG_EVENTS}"), &settings)?.start()?;
    let mut told = Vec::new();
    for user in 0..USERS {
        let mut story = Story::open(&dovecot, &format!("user{user}"), 5)?;
        story.steps(10)?;
        told.push(story.logout()?);
    }
    let records = TopicReader::new(&settings, "partitions")?.read(USERS * 10, ARRIVAL)?;
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

fn every_compression_works() -> Result<()> {
    for codec in ["zstd", "lz4", "gzip", "snappy"] {
        let topic = format!("compressed-{codec}");
        let mut settings = shared(&topic, 1, RealKafka::client_settings_plaintext)?;
        let mut reader = TopicReader::new(&settings, &topic)?;
        settings.push(("compression.codec".to_owned(), codec.to_owned()));
        // Enough of the same in one request that compressing it is worth it.
        settings.push(("linger.ms".to_owned(), "200".to_owned()));
        let dovecot = dovecot(&format!("topic={topic} {FLAG_EVENTS}"), &settings)?.start()?;
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

fn a_wrong_password_is_told_without_it_and_mail_goes_on() -> Result<()> {
    const WRONG: &str = "hunter2-of-the-operator";
    let mut settings = shared("refused", 1, RealKafka::client_settings_sasl_ssl)?;
    let right = settings.clone();
    for (name, value) in &mut settings {
        if name == "sasl.password" {
            WRONG.clone_into(value);
        }
    }
    let dovecot = dovecot(&format!("topic=refused {FLAG_EVENTS}"), &settings)?
        .plugin_setting("kafka.notification.kafka_debug", "security,broker")
        .plugin_setting("kafka.notification.kafka_flush_time_in_ms", "1000")
        .start()?;
    let mut alice = Story::open(&dovecot, "alice", 5)?;
    alice.step()?;
    dovecot.wait_for_log("SASL authentication error", ARRIVAL)?;
    alice.steps(4)?;
    let pid = session_pid(&dovecot, "alice")?;
    alice.logout()?;
    wait_for_end(&dovecot, pid)?;
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
    ensure!(
        lost(&logs) == 5,
        "5 events were lost, the log tells of {}:\n{logs}",
        lost(&logs)
    );
    let records = TopicReader::new(&right, "refused")?.drain()?;
    ensure!(
        records.is_empty(),
        "published with a wrong password: {}",
        records[0]
    );
    check_alive(&dovecot)
}

/// The driver is off after a panic, so its producer is not destroyed; threads with TLS are then alive at exit.
fn a_panic_with_tls_ends_no_process() -> Result<()> {
    let settings = shared("panic", 1, RealKafka::client_settings_sasl_ssl)?;
    let options = "topic=panic events=FlagsSet,MessageTrash";
    let dovecot = dovecot(options, &settings)?
        .plugin(shared_object(Build::FaultInjection)?)
        .plugin_setting("dovecast_fault", "MessageTrash")
        .start()?;
    let mut told = Vec::new();
    for session in 0..15 {
        let mut story = Story::open(&dovecot, &format!("user{session}"), 5)?;
        story.steps(5)?;
        if session % 3 > 0 {
            // Connected in two of three sessions.
            let user = story.told().user;
            let mut reader = TopicReader::new(&settings, "panic")?;
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
    check_arrived(&mut TopicReader::new(&settings, "panic")?, &told)
}

/// A session through the sudden death of a broker: gives the records and what was done.
fn through_a_kill(settings: &[(&str, &str)]) -> Result<(TopicReader, [Told; 2], Dovecot)> {
    let mut kafka = start()?;
    kafka.create_topic("dovecot", 3)?;
    let mut client = kafka.client_settings_plaintext();
    client.extend(
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let dovecot = dovecot(FLAG_EVENTS, &client)?.start()?;
    let mut stories = [
        Story::open(&dovecot, "alice", 10)?,
        Story::open(&dovecot, "bob", 7)?,
    ];
    let steps = |stories: &mut [Story; 2], count: usize| {
        (0..count).try_for_each(|_| stories.iter_mut().try_for_each(Story::step))
    };
    steps(&mut stories, 30)?;
    let mut early = TopicReader::new(&kafka.client_settings_plaintext(), "dovecot")?;
    early.read(1, ARRIVAL)?;
    // Some of these are under way when the broker dies.
    steps(&mut stories, 30)?;
    kafka.kill()?;
    steps(&mut stories, 30)?;
    kafka.restart()?;
    steps(&mut stories, 30)?;
    let told = [stories[0].told(), stories[1].told()];
    let mut reader = TopicReader::new(&kafka.client_settings_plaintext(), "dovecot")?;
    let repeated = check_arrived_at_least_once(&mut reader, &told)
        .with_context(|| format!("Dovecot's log:\n{}", dovecot.log()))?;
    println!("killed and restarted, {settings:?}: {repeated} records came twice");
    if !settings.is_empty() {
        ensure!(repeated == 0, "{repeated} records came twice");
    }
    for story in stories {
        story.logout()?;
    }
    ensure!(
        lost(&dovecot.log()) == 0,
        "the log tells of losses:\n{}",
        dovecot.log()
    );
    check_alive(&dovecot)?;
    Ok((reader, told, dovecot))
}

fn a_killed_broker_costs_neither_events_nor_order() -> Result<()> {
    through_a_kill(&[]).map(|_| ())
}

fn an_idempotent_producer_repeats_nothing_after_a_kill() -> Result<()> {
    through_a_kill(&[("enable.idempotence", "true")]).map(|_| ())
}

fn a_frozen_broker_gets_everything_when_it_goes_on() -> Result<()> {
    const MAILS: usize = 20;
    let kafka = start()?;
    kafka.create_topic("dovecot", 1)?;
    let settings = kafka.client_settings_plaintext();
    let dovecot = dovecot("events=MessageNew", &settings)?.start()?;
    let mut lmtp = dovecot.lmtp()?;
    let mut reader = TopicReader::new(&settings, "dovecot")?;
    lmtp.deliver_ok("bob@sender.example", &["alice", "bob"], MAIL)?;
    reader.read(2, ARRIVAL)?;
    kafka.pause()?;
    for _ in 1..MAILS {
        lmtp.deliver_ok("bob@sender.example", &["alice", "bob"], MAIL)?;
    }
    kafka.resume()?;
    let told = ["alice", "bob"].map(|user| Told {
        user: user.to_owned(),
        events: (1..=MAILS).map(|uid| format!("MessageNew {uid}")).collect(),
    });
    check_arrived_at_least_once(&mut TopicReader::new(&settings, "dovecot")?, &told)?;
    lmtp.quit()?;
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
    check_alive(&dovecot)
}

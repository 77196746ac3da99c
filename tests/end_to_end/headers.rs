//! Records in a real Apache Kafka, over each kind of listener: keys, headers, order, transactions.
//!
//! Where no Kafka can be had each case says so and is counted as ignored.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use dovecast_event::{ParsedHeaders, parse};
use dovecast_testkit::clock::now_ms;
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::topic::Record;

use crate::case::cases;
use crate::differences;
use crate::real_kafka::{Shared, dovecot, shared};
use crate::setup::ARRIVAL;
use crate::story::{MAIL, check_alive, line};

cases![
    records_keys_and_headers_are_right_over_plaintext,
    records_keys_and_headers_are_right_over_tls_with_scram,
    records_keys_and_headers_are_right_over_mutual_tls,
];

/// What one process published, in order, and how its transactions are made up: the number of
/// records of each.
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
    let mut imap = Session {
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
    if differences::of(dovecot.installation())?.inbox_has_an_event {
        imap.events.insert(1, "MailboxCreate");
        imap.transactions.insert(1, 1);
    }
    Ok([("carol", lmtp), ("alice@example.org", imap)])
}

/// The small session over one listener, read back, keys and headers checked.
fn check_session(on: Installation, shared: &Shared) -> Result<()> {
    let before = now_ms();
    let options = format!("topic={}", shared.topic);
    let dovecot = dovecot(on, &options, &shared.settings)?.start()?;
    let sessions = small_session(&dovecot)?;
    let count = sessions
        .iter()
        .map(|(_, session)| session.events.len())
        .sum();
    let mut reader = shared.reader()?;
    let mut records = reader.read(count, ARRIVAL).with_context(|| dovecot.log())?;
    records.extend(reader.drain()?);
    let after = now_ms();
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

fn check_time_and_host(record: &Record, before_ms: i64, after_ms: i64) -> Result<()> {
    let header = headers(record)?;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    ensure!(
        header.host == hostname.trim(),
        "host of {record} is `{}`",
        header.host
    );
    // The first 48 bits of a UUIDv7 are its time in milliseconds.
    let ms = i64::try_from(header.id.as_u128() >> 80)?;
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

/// Milliseconds since the epoch of `2026-11-20T21:35:28.123Z` (days by the proleptic Gregorian
/// calendar).
fn rfc3339_ms(text: &str) -> Option<i64> {
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
    Some(seconds * 1000 + number(20..23)?)
}

fn records_keys_and_headers_are_right_over_plaintext(on: Installation) -> Result<()> {
    let shared = shared(on, "plaintext", 3, RealKafka::client_settings_plaintext)?;
    check_session(on, &shared)
}

fn records_keys_and_headers_are_right_over_tls_with_scram(on: Installation) -> Result<()> {
    let shared = shared(on, "scram", 3, RealKafka::client_settings_sasl_ssl)?;
    check_session(on, &shared)
}

fn records_keys_and_headers_are_right_over_mutual_tls(on: Installation) -> Result<()> {
    let shared = shared(on, "mutual", 3, RealKafka::client_settings_mutual_tls)?;
    check_session(on, &shared)
}

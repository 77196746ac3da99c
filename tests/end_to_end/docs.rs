//! The operator's documentation: each example of a configuration is run, and each option has one.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Dovecot};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::plugin::{Build, shared_object};
use dovecast_testkit::topic::TopicReader;

use crate::case::cases;
use crate::setup::{ARRIVAL, builder, normalise};

cases![
    every_example_works,
    every_option_has_an_example,
    the_examples_of_events_are_events
];

const DOVECOT_2_3: &str = include_str!("../../docs/dovecot-2.3.md");
const EVENTS: &str = include_str!("../../docs/events.md");

/// The fenced blocks of a document whose first line is this.
pub(crate) fn examples<'d>(document: &'d str, info: &str) -> Vec<&'d str> {
    let opening = format!("```{info}\n");
    document
        .split("\n```\n")
        .filter_map(|part| part.rfind(&opening).map(|at| &part[at + opening.len()..]))
        .collect()
}

/// A Dovecot configured by an example, with the brokers of this test.
pub(crate) fn dovecot_of(example: &str, brokers: &str) -> Result<Builder> {
    let with_brokers = |line: &str| match line.split_once("kafka_brokers =") {
        Some((before, _)) => format!("{before}kafka_brokers = {brokers}"),
        None => line.to_owned(),
    };
    // The plugins of the example itself, where it names them, are those the builder loads anyway.
    let is_plugins = |line: &&str| !line.starts_with("mail_plugins");
    let config: Vec<String> = example
        .lines()
        .filter(is_plugins)
        .map(with_brokers)
        .collect();
    Ok(Dovecot::builder()
        .plugin(shared_object(Build::Dev)?)
        .plugin_setting("kafka.notification.kafka_brokers", brokers)
        .user("alice", &[("tenant", "acme")])
        .config(&config.join("\n")))
}

/// Makes at least one event of each message kind, with a keyword that every example shows.
pub(crate) fn use_mail(dovecot: &Dovecot) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok(
        "bob@example.org",
        &["alice"],
        b"Subject: Hi\r\n\r\nHello.\r\n",
    )?;
    lmtp.quit()?;
    let mut imap = dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Deleted $label1)")?;
    imap.ok("EXPUNGE")?;
    imap.logout()?;
    Ok(())
}

fn every_example_works() -> Result<()> {
    let examples = examples(DOVECOT_2_3, "dovecot.conf");
    ensure!(
        examples.len() >= 6,
        "only {} examples found",
        examples.len()
    );
    for example in examples {
        run(example).with_context(|| format!("example:\n{example}"))?;
    }
    Ok(())
}

fn run(example: &str) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot_of(example, &broker.bootstrap_servers())?.start()?;
    use_mail(&dovecot)?;
    for driver in example
        .lines()
        .filter(|line| line.trim_start().starts_with("push_notification_driver"))
    {
        if !driver.contains("= kafka") {
            continue;
        }
        let topic = driver
            .split("topic=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or("dovecot");
        let settings = [("bootstrap.servers".to_owned(), broker.bootstrap_servers())];
        let mut reader = TopicReader::new(&settings, topic)?;
        let record = reader
            .next(ARRIVAL)?
            .with_context(|| format!("nothing arrived in topic `{topic}`"))?;
        dovecast_event::parse(&record.value)?;
    }
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
    Ok(())
}

fn every_option_has_an_example() -> Result<()> {
    let broker = MockBroker::start(1)?;
    let all: String = DOVECOT_2_3.split("\n```").skip(1).step_by(2).collect();
    let check = |log: &str, shown: &dyn Fn(&str) -> String| -> Result<()> {
        let known = log.rsplit("known are: ").next().unwrap_or_default();
        let known: BTreeSet<&str> = known.trim().split(", ").collect();
        ensure!(known.len() >= 8, "the log names only {known:?}");
        for option in known {
            ensure!(all.contains(&shown(option)), "no example of `{option}`");
        }
        Ok(())
    };
    let dovecot = builder(&["topik=x"], &broker.bootstrap_servers())?.start()?;
    dovecot.login("alice")?.logout()?;
    let line = dovecot.wait_for_log("unknown option `topik`", ARRIVAL)?;
    check(&line, &|option| format!("{option}="))?;
    let dovecot = builder(&[""], &broker.bootstrap_servers())?
        .plugin_setting("kafka.notification.nothing", "x")
        .start()?;
    dovecot.login("alice")?.logout()?;
    let line = dovecot.wait_for_log("unknown option `kafka.notification.nothing`", ARRIVAL)?;
    check(&line, &|setting| setting.trim_end_matches('*').to_owned())
}

fn the_examples_of_events_are_events() -> Result<()> {
    let examples = examples(EVENTS, "json");
    let lines: Vec<&str> = examples
        .iter()
        .flat_map(|example| example.lines())
        .collect();
    ensure!(lines.len() >= 3, "only {} events found", lines.len());
    for line in lines {
        dovecast_event::parse(line.as_bytes()).with_context(|| normalise(line))?;
    }
    Ok(())
}

//! The operator's documentation: each example of a configuration is run on the Dovecot it is for,
//! and each option has one.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Dovecot, Installation, Series};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::plugin::Build;

use crate::case::cases;
use crate::setup::{ARRIVAL, builder, normalise, reader, with_plugin};

cases![
    every_example_works;
    // The options are known from the plugin's own error; Dovecot 2.4 refuses unknown ones before
    // the plugin is asked.
    only_2_3: every_option_has_an_example_for_2_3,
    // No Dovecot takes part: once is enough.
    the_examples_of_events_are_events;
    // The other half of the case above for 2.3.
    only_2_4: every_option_has_an_example_for_2_4,
];

const DOVECOT_2_3: &str = include_str!("../../docs/dovecot-2.3.md");
pub(crate) const DOVECOT_2_4: &str = include_str!("../../docs/dovecot-2.4.md");
const EVENTS: &str = include_str!("../../docs/events.md");
/// Every option with its default: what the settings module of Dovecot 2.4 is made of.
const OPTIONS: &str = include_str!("../../crates/dovecot-sys/shim/options.def");

/// What operators read about this Dovecot.
pub(crate) fn document(on: Installation) -> &'static str {
    match on.series() {
        Series::V2_3 => DOVECOT_2_3,
        Series::V2_4 => DOVECOT_2_4,
    }
}

/// The fenced blocks of a document whose first line is this.
pub(crate) fn examples<'d>(document: &'d str, info: &str) -> Vec<&'d str> {
    let opening = format!("```{info}\n");
    document
        .split("\n```\n")
        .filter_map(|part| part.rfind(&opening).map(|at| &part[at + opening.len()..]))
        .collect()
}

/// Lines of an example but for its plugins, where 2.3 names them on one line: they are those that
/// the builder loads anyway.
pub(crate) fn without_plugins(example: &str) -> impl Iterator<Item = &str> {
    let lines = example.lines();
    lines.filter(|line| !line.starts_with("mail_plugins ="))
}

/// A Dovecot configured by an example, with the brokers of this test.
pub(crate) fn dovecot_of(on: Installation, example: &str, brokers: &str) -> Result<Builder> {
    let with_brokers = |line: &str| match line.split_once("kafka_brokers =") {
        Some((before, _)) => format!("{before}kafka_brokers = {brokers}"),
        None => line.to_owned(),
    };
    let config: Vec<String> = without_plugins(example).map(with_brokers).collect();
    let fields: &[(&str, &str)] = match on.series() {
        Series::V2_3 => &[("tenant", "acme")],
        // Shown as a setting for everybody in 2.3, which 2.4 does not have.
        Series::V2_4 => &[("tenant", "acme"), ("push_labels", "on")],
    };
    Ok(with_plugin(on, Build::Dev)?
        .kafka("kafka_brokers", brokers)
        .user("alice", fields)
        .config(&config.join("\n")))
}

/// Makes at least one event of each message kind, with a keyword that every example shows.
pub(crate) fn use_mail(dovecot: &Dovecot, user: &str) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &[user], b"Subject: Hi\r\n\r\nHello.\r\n")?;
    lmtp.quit()?;
    let mut imap = dovecot.login(user)?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Deleted $label1)")?;
    imap.ok("EXPUNGE")?;
    imap.logout()?;
    Ok(())
}

fn every_example_works(on: Installation) -> Result<()> {
    let examples = examples(document(on), "dovecot.conf");
    let wanted = match on.series() {
        Series::V2_3 => 6,
        Series::V2_4 => 4,
    };
    ensure!(
        examples.len() >= wanted,
        "only {} examples found",
        examples.len()
    );
    for example in examples {
        run(on, example).with_context(|| format!("example:\n{example}"))?;
    }
    Ok(())
}

fn run(on: Installation, example: &str) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot_of(on, example, &broker.bootstrap_servers())?.start()?;
    use_mail(&dovecot, "alice")?;
    let topics = match on.series() {
        Series::V2_3 => topics_2_3(example),
        Series::V2_4 => topics_2_4(example),
    };
    ensure!(!topics.is_empty(), "no driver instance of kafka");
    for topic in topics {
        let record = reader(&broker, topic)?
            .next(ARRIVAL)?
            .with_context(|| format!("nothing arrived in topic `{topic}`"))?;
        dovecast_event::parse(&record.value)?;
    }
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
    Ok(())
}

/// The topic of each driver instance of kafka.
fn topics_2_3(example: &str) -> Vec<&str> {
    let drivers = example
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("push_notification_driver") && line.contains("= kafka"));
    drivers
        .map(|driver| {
            driver
                .split("topic=")
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
                .unwrap_or("dovecot")
        })
        .collect()
}

/// The topic of each block with the driver kafka.
fn topics_2_4(example: &str) -> Vec<&str> {
    let blocks = example.split("\npush_notification ").skip(1);
    // An example may begin with a block.
    let first = example.strip_prefix("push_notification ");
    first
        .into_iter()
        .chain(blocks)
        .filter_map(|block| {
            let block = block.split("\n}").next()?;
            block.contains("driver = kafka").then(|| {
                block
                    .lines()
                    .find_map(|line| line.trim_start().strip_prefix("kafka_topic = "))
                    .unwrap_or("dovecot")
            })
        })
        .collect()
}

/// What stands in the blocks of a document.
fn all_examples(document: &str) -> String {
    document.split("\n```").skip(1).step_by(2).collect()
}

fn every_option_has_an_example_for_2_3(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let all = all_examples(DOVECOT_2_3);
    let check = |log: &str, shown: &dyn Fn(&str) -> String| -> Result<()> {
        let known = log.rsplit("known are: ").next().unwrap_or_default();
        let known: BTreeSet<&str> = known.trim().split(", ").collect();
        ensure!(known.len() >= 8, "the log names only {known:?}");
        for option in known {
            ensure!(all.contains(&shown(option)), "no example of `{option}`");
        }
        Ok(())
    };
    let dovecot = builder(on, &["topik=x"], &broker.bootstrap_servers())?.start()?;
    dovecot.login("alice")?.logout()?;
    let line = dovecot.wait_for_log("unknown option `topik`", ARRIVAL)?;
    check(&line, &|option| format!("{option}="))?;
    let dovecot = builder(on, &[""], &broker.bootstrap_servers())?
        .kafka("nothing", "x")
        .start()?;
    dovecot.login("alice")?.logout()?;
    let line = dovecot.wait_for_log("unknown option `kafka.notification.nothing`", ARRIVAL)?;
    check(&line, &|setting| setting.trim_end_matches('*').to_owned())
}

fn every_option_has_an_example_for_2_4(_: Installation) -> Result<()> {
    const KINDS: [&str; 4] = ["INSTANCE(", "LIST(", "GENERAL(", "OURS("];
    let all = all_examples(DOVECOT_2_4);
    let names: Vec<&str> = OPTIONS
        .lines()
        .filter_map(|line| KINDS.iter().find_map(|kind| line.strip_prefix(kind)))
        .filter_map(|rest| rest.split(',').next())
        .collect();
    ensure!(names.len() >= 17, "options.def names only {names:?}");
    for name in names {
        let is_shown = ["=", "{"]
            .iter()
            .any(|sign| all.contains(&format!("  kafka_{name} {sign}")));
        ensure!(is_shown, "no example of `kafka_{name}`");
    }
    ensure!(
        all.contains("  kafka_settings {"),
        "no example of properties"
    );
    Ok(())
}

fn the_examples_of_events_are_events(_: Installation) -> Result<()> {
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

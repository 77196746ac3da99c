//! Wrong options and settings: one error that names what is wrong, and nothing else is off.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, Series};
use dovecast_testkit::mock_broker::MockBroker;

use crate::case::cases;
use crate::setup::{builder, reader};
use crate::story::{EXIT, MAIL, Told, check_alive, check_arrived, session_pid, wait_for_end};

cases![
    a_wrong_option_turns_its_instance_off_and_nothing_else,
    a_wrong_general_setting_is_told_once_and_mail_goes_on;
    // Dovecot 2.3 takes whatever stands in the plugin section, so the plugin has to look for names
    // it does not know.
    only_2_3: an_unknown_name_is_told_by_the_plugin;
    // Dovecot 2.4 knows its settings and does not start with others.
    only_2_4: an_unknown_name_is_refused_by_dovecot,
];

/// Mail for two users over LMTP and a session.
pub(crate) fn use_mail(dovecot: &Dovecot) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["carol", "dave"], MAIL)?;
    lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;
    lmtp.quit()?;
    let mut imap = dovecot.login("alice")?;
    let pid = session_pid(dovecot, "alice")?;
    imap.append("INBOX", "", None, MAIL)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r"STORE 1 +FLAGS (\Flagged)")?;
    imap.logout()?;
    wait_for_end(dovecot, pid)
}

/// What [`use_mail`] makes of MessageNew and FlagsSet.
fn used() -> [Told; 3] {
    let told = |user: &str, events: &[&str]| Told {
        user: user.to_owned(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
    };
    [
        told("alice", &[r"FlagsSet 1 \Flagged"]),
        told("carol", &["MessageNew 1", "MessageNew 2"]),
        told("dave", &["MessageNew 1"]),
    ]
}

/// That the driver dlog, which stands after the wrong one, has heard of the session.
fn check_dlog(dovecot: &Dovecot) -> Result<()> {
    dovecot
        .wait_for_log("FlagsSet: Flagged flag set", EXIT)
        .context("dlog is off as well")?;
    Ok(())
}

/// That the errors are one line from the imap process and one from the lmtp process, each with all
/// of `parts`.
fn check_told_once_per_process(dovecot: &Dovecot, parts: &[&str]) -> Result<()> {
    let errors = dovecot.errors_in_log();
    for service in ["imap(", "lmtp("] {
        let count = errors
            .iter()
            .filter(|line| line.contains(&format!(" {service}")))
            .count();
        ensure!(count == 1, "{count} errors of {service}...): {errors:?}");
    }
    for line in &errors {
        for part in parts {
            ensure!(line.contains(part), "`{part}` is not in `{line}`");
        }
    }
    ensure!(errors.len() == 2, "more errors than processes: {errors:?}");
    Ok(())
}

/// How the log calls the first driver instance where it is off.
fn label(on: Installation) -> &'static str {
    match on.series() {
        Series::V2_3 => "driver kafka:",
        Series::V2_4 => "push_notification d1 { driver = kafka } is off: ",
    }
}

/// How the log calls an option of an instance.
fn option(on: Installation, name: &str) -> String {
    match on.series() {
        Series::V2_3 => format!("option `{name}`"),
        Series::V2_4 => format!("option `kafka_{name}`"),
    }
}

/// How the log calls a general setting.
fn setting(on: Installation, name: &str) -> String {
    match on.series() {
        Series::V2_3 => format!("option `kafka.notification.{name}`"),
        Series::V2_4 if name.starts_with("kafka_") => format!("option `{name}`"),
        Series::V2_4 => format!("option `kafka_{name}`"),
    }
}

/// That an instance with this option is off, which the log tells with all of `parts`, and the one
/// after it is on.
fn check_wrong_option(on: Installation, wrong: &str, parts: &[&str]) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let good = "topic=good events=MessageNew,FlagsSet";
    let mut dovecot = builder(on, &[wrong, good], &broker.bootstrap_servers())?
        .driver("dlog")
        .config("mail_debug = yes")
        .start()?;
    use_mail(&dovecot)?;
    check_arrived(&mut reader(&broker, "good")?, &used())?;
    let silent = reader(&broker, "dovecot")?.drain()?;
    ensure!(silent.is_empty(), "`{wrong}` still publishes {}", silent[0]);
    check_dlog(&dovecot)?;
    dovecot.stop()?;
    check_told_once_per_process(&dovecot, parts)?;
    check_alive(&dovecot)
}

fn a_wrong_option_turns_its_instance_off_and_nothing_else(on: Installation) -> Result<()> {
    let not_on_off = match on.series() {
        Series::V2_3 => ("send_flags", "yes", "`on` or `off`"),
        Series::V2_4 => ("send_flags", "maybe", "`yes` or `no`"),
    };
    for (name, value, reason) in [
        ("events", "FlagsSet,MessageGone", "`MessageGone`"),
        not_on_off,
        ("content", "1", "`1`"),
        ("max_field_bytes", "many", "`many`"),
        ("detail", "most", "`most`"),
        ("topic", "", "empty"),
        ("topic", "a/b", "`a/b`"),
    ] {
        let wrong = format!("{name}={value}");
        check_wrong_option(on, &wrong, &[label(on), &option(on, name), reason]).context(wrong)?;
    }
    Ok(())
}

fn a_wrong_general_setting_is_told_once_and_mail_goes_on(on: Installation) -> Result<()> {
    let own = |name: &str, reason: &str| format!("{}: {reason}", setting(on, name));
    for (name, value, part) in [
        (
            "kafka_max_retries",
            "few",
            own("kafka_max_retries", "`few` is not a number"),
        ),
        (
            "kafka_flush_time_in_ms",
            "-1",
            own(
                "kafka_flush_time_in_ms",
                "`-1` is not a number of milliseconds",
            ),
        ),
        (
            "kafka_brokers",
            " ",
            own("kafka_brokers", "` ` is not a list of brokers"),
        ),
        (
            "kafka_debug",
            "brokr",
            "librdkafka property `debug`".to_owned(),
        ),
        (
            "settings.linger.mss",
            "5",
            "unknown librdkafka property `linger.mss`".to_owned(),
        ),
        (
            "settings.linger.ms",
            "soon",
            "librdkafka property `linger.ms`".to_owned(),
        ),
        (
            "settings.compression.codec",
            "zip",
            "librdkafka property `compression.codec`".to_owned(),
        ),
        (
            "settings.log_level",
            "9",
            "librdkafka property `log_level`".to_owned(),
        ),
        (
            "relay_socket",
            "relay.sock",
            own("relay_socket", "`relay.sock` is not an absolute path"),
        ),
        (
            "relay_queue_max_kbytes",
            "much",
            own(
                "relay_queue_max_kbytes",
                "`much` is not a number of kilobytes",
            ),
        ),
        (
            "transport",
            "pigeon",
            own("transport", "`pigeon` is not `kafka` or `relay`"),
        ),
    ] {
        check_wrong_setting(on, name, value, &[label(on), &part])
            .with_context(|| format!("{name} = {value}"))?;
    }
    Ok(())
}

/// That all instances of kafka are off, which the log tells with all of `parts`, and dlog is on.
fn check_wrong_setting(on: Installation, name: &str, value: &str, parts: &[&str]) -> Result<()> {
    let mut dovecot = builder(on, &[""], "127.0.0.1:1")?
        .kafka(name, value)
        .driver("dlog")
        .config("mail_debug = yes")
        .start()?;
    use_mail(&dovecot)?;
    check_dlog(&dovecot)?;
    dovecot.stop()?;
    check_told_once_per_process(&dovecot, parts)?;
    check_told_once_per_process(&dovecot, &[value])?;
    check_alive(&dovecot)
}

fn an_unknown_name_is_told_by_the_plugin(on: Installation) -> Result<()> {
    let unknown = "unknown option `topik` (value `x`), known are: topic, ";
    check_wrong_option(on, "topik=x", &[label(on), unknown]).context("topik")?;
    let unknown = "unknown option `kafka.notification.kafka_broker` (value `x:1`), known are: ";
    check_wrong_setting(on, "kafka_broker", "x:1", &[label(on), unknown]).context("kafka_broker")
}

fn an_unknown_name_is_refused_by_dovecot(on: Installation) -> Result<()> {
    const SECRET: &str = "hunter2-of-the-operator";
    let check = |name: &str, option: &str, general: &str| -> Result<()> {
        let options = format!("{option}={SECRET}");
        let instance = if option.is_empty() { "" } else { &*options };
        let mut builder = builder(on, &[instance], "127.0.0.1:1")?;
        if !general.is_empty() {
            builder = builder.kafka(general, SECRET);
        }
        let Err(error) = builder.start() else {
            anyhow::bail!("Dovecot starts with the setting `{name}`");
        };
        let error = format!("{error:#}");
        ensure!(
            error.contains(&format!("Unknown setting: {name}")),
            "`{name}` is not named: {error}"
        );
        ensure!(!error.contains(SECRET), "the value is told: {error}");
        Ok(())
    };
    check("kafka_topik", "topik", "")?;
    check("push_notification_kafka_broker", "", "kafka_broker")?;
    check("push_notification_kafka_password", "", "kafka_password")?;
    // `settings.` mistyped or forgotten before the name of a secret.
    check(
        "push_notification_kafka_setings.sasl.password",
        "",
        "setings.sasl.password",
    )?;
    check("push_notification_kafka_sasl.password", "", "sasl.password")
}

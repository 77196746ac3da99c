//! What the log says: one clear error for each mistake, debug lines where they belong, no secrets, nothing else.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Dovecot};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::topic::TopicReader;

use crate::case::cases;
use crate::setup::{Setup, builder};
use crate::story::{
    EXIT, FLAG_EVENTS, MAIL, Story, Told, check_alive, check_arrived, lost, session_pid,
    wait_for_end,
};

cases![
    a_wrong_option_turns_its_instance_off_and_nothing_else,
    a_wrong_general_setting_is_told_once_and_mail_goes_on,
    a_ca_file_that_cannot_be_read_is_told_and_mail_goes_on,
    secrets_are_in_no_log,
    debug_lines_are_in_the_debug_log_and_only_there,
];

/// Mail for two users over LMTP and a session.
fn use_mail(dovecot: &Dovecot) -> Result<()> {
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

/// That the errors are one line from the imap process and one from the lmtp process, each with all of `parts`.
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

fn a_wrong_option_turns_its_instance_off_and_nothing_else() -> Result<()> {
    for (wrong, parts) in [
        ("topik=x", &["driver kafka", "`topik`", "`x`"][..]),
        (
            "events=FlagsSet,MessageGone",
            &["driver kafka", "`events`", "`MessageGone`"],
        ),
        ("send_flags=yes", &["driver kafka", "`send_flags`", "`yes`"]),
        ("content=1", &["driver kafka", "`content`", "`1`"]),
        (
            "max_field_bytes=many",
            &["driver kafka", "`max_field_bytes`", "`many`"],
        ),
        ("detail=most", &["driver kafka", "`detail`", "`most`"]),
        ("topic=", &["driver kafka", "`topic`", "empty"]),
        ("topic=a/b", &["driver kafka", "`topic`", "`a/b`"]),
    ] {
        let broker = MockBroker::start(1)?;
        let good = "topic=good events=MessageNew,FlagsSet";
        let mut dovecot = builder(&[wrong, good], &broker.bootstrap_servers())?
            .plugin_setting("push_notification_driver3", "dlog")
            .start()?;
        use_mail(&dovecot).context(wrong)?;
        let servers = ("bootstrap.servers".to_owned(), broker.bootstrap_servers());
        check_arrived(
            &mut TopicReader::new(std::slice::from_ref(&servers), "good")?,
            &used(),
        )
        .context(wrong)?;
        let silent = TopicReader::new(&[servers], "dovecot")?.drain()?;
        ensure!(silent.is_empty(), "`{wrong}` still publishes {}", silent[0]);
        check_dlog(&dovecot).context(wrong)?;
        dovecot.stop()?;
        check_told_once_per_process(&dovecot, parts).context(wrong)?;
        check_alive(&dovecot)?;
    }
    Ok(())
}

fn a_wrong_general_setting_is_told_once_and_mail_goes_on() -> Result<()> {
    for (name, value, part) in [
        ("kafka_broker", "x:1", "unknown option"),
        ("kafka_max_retries", "few", "not a number"),
        (
            "kafka_flush_time_in_ms",
            "-1",
            "not a number of milliseconds",
        ),
        ("kafka_brokers", " ", "not a list of brokers"),
        ("kafka_debug", "brokr", "librdkafka property `debug`"),
        (
            "settings.linger.mss",
            "5",
            "unknown librdkafka property `linger.mss`",
        ),
        (
            "settings.linger.ms",
            "soon",
            "librdkafka property `linger.ms`",
        ),
        (
            "settings.compression.codec",
            "zip",
            "librdkafka property `compression.codec`",
        ),
        ("settings.log_level", "9", "librdkafka property `log_level`"),
        ("transport", "pigeon", "not `kafka`"),
    ] {
        let setting = format!("kafka.notification.{name}");
        let mut dovecot = builder(&[""], "127.0.0.1:1")?
            .plugin_setting(&setting, value)
            .plugin_setting("push_notification_driver2", "dlog")
            .start()?;
        use_mail(&dovecot).with_context(|| setting.clone())?;
        check_dlog(&dovecot).with_context(|| setting.clone())?;
        dovecot.stop()?;
        check_told_once_per_process(&dovecot, &["driver kafka", part, value])
            .with_context(|| format!("{setting} = {value}"))?;
        check_alive(&dovecot)?;
    }
    Ok(())
}

fn a_ca_file_that_cannot_be_read_is_told_and_mail_goes_on() -> Result<()> {
    let mut dovecot = builder(&["events=MessageNew,FlagsSet"], "127.0.0.1:1")?
        .plugin_setting("kafka.notification.settings.security.protocol", "ssl")
        .plugin_setting(
            "kafka.notification.settings.ssl.ca.location",
            "/nonexistent/ca.pem",
        )
        .plugin_setting("push_notification_driver2", "dlog")
        .start()?;
    use_mail(&dovecot)?;
    dovecot.stop()?;
    let errors = dovecot.errors_in_log();
    let created = errors
        .iter()
        .filter(|line| line.contains("cannot create a producer"));
    let created: Vec<_> = created.collect();
    ensure!(created.len() == 2, "not one error per process: {errors:?}");
    for line in created {
        ensure!(
            line.contains("ssl.ca.location"),
            "`ssl.ca.location` is not in `{line}`"
        );
        ensure!(
            line.contains("/nonexistent/ca.pem"),
            "the path is not in `{line}`"
        );
    }
    ensure!(lost(&dovecot.log()) == 4, "4 events were lost: {errors:?}");
    check_alive(&dovecot)
}

const SECRET: &str = "hunter2-of-the-operator";

/// Whether the secret is in a log after a session with these settings.
fn check_secret(configure: impl FnOnce(Builder) -> Builder) -> Result<String> {
    let broker = MockBroker::start(1)?;
    let mut dovecot = configure(builder(&[""], &broker.bootstrap_servers())?)
        .plugin_setting("kafka.notification.kafka_debug", "all")
        .plugin_setting("kafka.notification.kafka_flush_time_in_ms", "100")
        .config("mail_debug = yes")
        .start()?;
    use_mail(&dovecot)?;
    dovecot.stop()?;
    check_alive(&dovecot)?;
    let logs = dovecot.log() + &dovecot.debug_log();
    let leak = logs.lines().find(|line| line.contains(SECRET));
    ensure!(leak.is_none(), "the secret is logged: {leak:?}");
    Ok(logs)
}

fn secrets_are_in_no_log() -> Result<()> {
    const PREFIX: &str = "kafka.notification.";
    for right in [
        "settings.sasl.password",
        "settings.ssl.key.password",
        "settings.ssl.key.pem",
    ] {
        let logs = check_secret(|builder| {
            builder
                .plugin_setting(&format!("{PREFIX}settings.sasl.mechanism"), "SCRAM-SHA-512")
                .plugin_setting(&format!("{PREFIX}settings.sasl.username"), "dovecast")
                .plugin_setting(&format!("{PREFIX}settings.security.protocol"), "sasl_ssl")
                .plugin_setting(&format!("{PREFIX}{right}"), SECRET)
        })
        .context(right)?;
        ensure!(
            logs.contains("push-notification-kafka: "),
            "nothing is logged:\n{logs}"
        );
    }
    // Mistyped names are told, their values are not.
    for wrong in [
        "settings.sasl.passwordd",
        "settings.ssl.key.passwort",
        "setings.sasl.password",
        "sasl.password",
        "kafka_password",
    ] {
        let logs =
            check_secret(|builder| builder.plugin_setting(&format!("{PREFIX}{wrong}"), SECRET))
                .context(wrong)?;
        let name = wrong.strip_prefix("settings.").unwrap_or(wrong);
        ensure!(
            logs.lines()
                .any(|line| line.contains(" Error: ") && line.contains(name)),
            "`{wrong}` is not told:\n{logs}"
        );
    }
    Ok(())
}

/// `Nov 21 00:18:10 imap(alice)<30104><...>: Error: ...`, and what is not Dovecot's own begins with our prefix.
fn check_lines(log: &str, severities: &[&str]) -> Result<()> {
    for line in log.lines() {
        let after_time = line.get(16..).unwrap_or_default();
        let severity = severities
            .iter()
            .find(|severity| after_time.contains(&format!(": {severity}: ")));
        ensure!(
            line.as_bytes().get(15) == Some(&b' ') && severity.is_some(),
            "a line that is not of the form of the others: `{line}`"
        );
        let is_librdkafkas = line.contains("rdkafka") || line.contains("thrd:");
        ensure!(
            !is_librdkafkas || line.contains("push-notification-kafka: librdkafka: "),
            "librdkafka has logged by itself: `{line}`"
        );
    }
    Ok(())
}

fn debug_lines_are_in_the_debug_log_and_only_there() -> Result<()> {
    for (contexts, brokers_up) in [("broker,msg", true), ("all", true), ("all", false)] {
        let setup = Setup::start(FLAG_EVENTS, |builder| {
            builder.plugin_setting("kafka.notification.kafka_debug", contexts)
        })?;
        if !brokers_up {
            setup.broker.set_down()?;
        }
        let mut alice = Story::open(&setup.dovecot, "alice", 5)?;
        let pid = session_pid(&setup.dovecot, "alice")?;
        alice.steps(20)?;
        setup
            .dovecot
            .wait_for_log("push-notification-kafka: librdkafka: ", EXIT)?;
        let told = alice.logout()?;
        wait_for_end(&setup.dovecot, pid)?;
        if brokers_up {
            check_arrived(&mut setup.reader("dovecot")?, &[told])?;
            let debug = setup.dovecot.debug_log();
            for context in ["librdkafka: CONNECT: ", "librdkafka: PRODUCE: "] {
                ensure!(
                    debug.contains(context),
                    "no `{context}` in the debug log:\n{debug}"
                );
            }
        }
        check_lines(&setup.dovecot.log(), &["Info", "Warning", "Error"])?;
        check_lines(&setup.dovecot.debug_log(), &["Debug"])?;
        check_alive(&setup.dovecot)?;
    }
    Ok(())
}

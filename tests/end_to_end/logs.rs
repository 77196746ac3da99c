//! What the log says: one clear error for each mistake, debug lines where they belong, no secrets,
//! nothing else.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Installation, Series};
use dovecast_testkit::mock_broker::MockBroker;

use crate::case::cases;
use crate::options::use_mail;
use crate::setup::{Setup, builder};
use crate::story::{
    EXIT, FLAG_EVENTS, Story, check_alive, check_arrived, check_lost, session_pid, wait_for_end,
};

cases![
    a_ca_file_that_cannot_be_read_is_told_and_mail_goes_on,
    secrets_are_in_no_log,
    debug_lines_are_in_the_debug_log_and_only_there,
];

fn a_ca_file_that_cannot_be_read_is_told_and_mail_goes_on(on: Installation) -> Result<()> {
    let mut dovecot = builder(on, &["events=MessageNew,FlagsSet"], "127.0.0.1:1")?
        .kafka("settings.security.protocol", "ssl")
        .kafka("settings.ssl.ca.location", "/nonexistent/ca.pem")
        .driver("dlog")
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
    check_lost(&dovecot, 4)?;
    check_alive(&dovecot)
}

const SECRET: &str = "hunter2-of-the-operator";

/// Whether the secret is in a log after a session with these settings.
fn check_secret(on: Installation, configure: impl FnOnce(Builder) -> Builder) -> Result<String> {
    let broker = MockBroker::start(1)?;
    let mut dovecot = configure(builder(on, &[""], &broker.bootstrap_servers())?)
        .kafka("kafka_debug", "all")
        .kafka("kafka_flush_time_in_ms", "100")
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

fn secrets_are_in_no_log(on: Installation) -> Result<()> {
    for right in [
        "settings.sasl.password",
        "settings.ssl.key.password",
        "settings.ssl.key.pem",
    ] {
        let logs = check_secret(on, |builder| {
            builder
                .kafka("settings.sasl.mechanism", "SCRAM-SHA-512")
                .kafka("settings.sasl.username", "dovecast")
                .kafka("settings.security.protocol", "sasl_ssl")
                .kafka(right, SECRET)
        })
        .context(right)?;
        ensure!(
            logs.contains("push-notification-kafka: "),
            "nothing is logged:\n{logs}"
        );
    }
    // Mistyped names are told, their values are not.
    let properties = ["settings.sasl.passwordd", "settings.ssl.key.passwort"];
    let settings: &[&str] = match on.series() {
        Series::V2_3 => &["setings.sasl.password", "sasl.password", "kafka_password"],
        // Dovecot itself refuses these: see options.rs.
        Series::V2_4 => &[],
    };
    for wrong in properties.iter().chain(settings) {
        let logs = check_secret(on, |builder| builder.kafka(wrong, SECRET)).context(*wrong)?;
        let name = wrong.strip_prefix("settings.").unwrap_or(wrong);
        ensure!(
            logs.lines()
                .any(|line| line.contains(" Error: ") && line.contains(name)),
            "`{wrong}` is not told:\n{logs}"
        );
    }
    Ok(())
}

/// `Nov 21 00:18:10 imap(alice)<30104><...>: Error: ...`, and what is not Dovecot's own begins with
/// our prefix.
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

fn debug_lines_are_in_the_debug_log_and_only_there(on: Installation) -> Result<()> {
    for (contexts, brokers_up) in [("broker,msg", true), ("all", true), ("all", false)] {
        let setup = Setup::start(on, FLAG_EVENTS, |builder| {
            builder.kafka("kafka_debug", contexts)
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

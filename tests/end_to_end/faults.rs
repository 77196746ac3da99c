//! Brokers that are away, hang, fail or are slow: mail never notices, what can be delivered is, the
//! rest is counted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::Installation;
use dovecast_testkit::lmtp::LmtpClient;
use dovecast_testkit::mock_broker::{HungBroker, MockBroker, ResponseError as E};
use dovecast_testkit::topic::TopicReader;

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup, builder};
use crate::story::{
    EXIT, FLAG_EVENTS, MAIL, Story, Told, check_alive, check_arrived, check_arrived_at_least_once,
    check_lost, lost, session_pid, wait_for_end,
};

cases![
    with_the_broker_down_mail_works_and_losses_are_counted,
    with_an_unresolvable_broker_mail_works_and_losses_are_counted,
    with_a_hung_broker_mail_works_and_losses_are_counted,
    what_happens_before_the_broker_is_up_arrives_once_and_in_order,
    what_happens_during_an_outage_arrives_in_order,
    errors_that_pass_cost_no_event_and_no_order,
    errors_that_stay_are_counted_and_the_next_event_arrives,
    a_record_too_large_is_counted_and_the_next_event_arrives,
    a_topic_that_is_forbidden_costs_its_events_only,
    a_slow_broker_gets_everything_before_the_process_ends,
];

/// Mail for two users over LMTP and a session of one of them, with brokers that never answer;
/// everything is OK, and the log says exactly how many events were lost.
fn mail_works_without(on: Installation, brokers: &str) -> Result<()> {
    let mut dovecot = builder(on, &["events=MessageNew,FlagsSet"], brokers)?.start()?;
    let mut lmtp = dovecot.lmtp()?;
    for _ in 0..3 {
        lmtp.deliver_ok("bob@sender.example", &["alice", "carol"], MAIL)?;
    }
    let mut imap = dovecot.login("alice")?;
    let pid = session_pid(&dovecot, "alice")?;
    imap.ok("SELECT INBOX")?;
    for mail in 1..=3 {
        imap.ok(&format!("STORE {mail} +FLAGS (\\Flagged)"))?;
    }
    let fetched = imap.ok("FETCH 1:3 (FLAGS)")?;
    ensure!(
        fetched.untagged.len() == 3,
        "the mails are not there: {fetched}"
    );
    imap.logout()?;
    wait_for_end(&dovecot, pid)?;
    check_lost(&dovecot, 3)?;

    // The LMTP process has served all three mails and goes on.
    lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
    lmtp.quit()?;
    dovecot.stop()?;
    check_lost(&dovecot, 3 + 7)?;
    check_alive(&dovecot)
}

fn with_the_broker_down_mail_works_and_losses_are_counted(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    broker.set_down()?;
    mail_works_without(on, &broker.bootstrap_servers())?;
    broker.set_up()?;
    let servers = ("bootstrap.servers".to_owned(), broker.bootstrap_servers());
    let records = TopicReader::new(&[servers], "dovecot")?.drain()?;
    ensure!(
        records.is_empty(),
        "a broker that was down has {}",
        records[0]
    );
    Ok(())
}

fn with_an_unresolvable_broker_mail_works_and_losses_are_counted(on: Installation) -> Result<()> {
    mail_works_without(on, "does-not-exist.invalid:9092")
}

fn with_a_hung_broker_mail_works_and_losses_are_counted(on: Installation) -> Result<()> {
    let broker = HungBroker::start()?;
    mail_works_without(on, &broker.bootstrap_servers())
}

/// Two stories and an LMTP delivery between each two of their steps.
fn two_stories(lmtp: &mut LmtpClient, stories: &mut [Story; 2], steps: usize) -> Result<()> {
    for _ in 0..steps {
        for story in &mut *stories {
            story.step()?;
        }
        lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;
    }
    Ok(())
}

fn told_by(stories: &[Story; 2], deliveries: usize) -> Vec<Told> {
    let delivered = (1..=deliveries).map(|uid| format!("MessageNew {uid}"));
    let carol = Told {
        user: "carol".to_owned(),
        events: delivered.collect(),
    };
    vec![stories[0].told(), stories[1].told(), carol]
}

fn start_stories(on: Installation) -> Result<(Setup, [Story; 2])> {
    let setup = Setup::start(on, "events=FlagsSet,FlagsClear,MessageNew", |builder| {
        builder
    })?;
    let stories = [
        Story::open(&setup.dovecot, "alice", 7)?,
        Story::open(&setup.dovecot, "bob", 5)?,
    ];
    Ok((setup, stories))
}

fn what_happens_before_the_broker_is_up_arrives_once_and_in_order(on: Installation) -> Result<()> {
    let (setup, mut stories) = start_stories(on)?;
    // One connection: Dovecot 2.4 has a process for each, and the order between processes is not
    // defined.
    let mut lmtp = setup.dovecot.lmtp()?;
    setup.broker.set_down()?;
    two_stories(&mut lmtp, &mut stories, 40)?;
    // Every process has tried in vain.
    setup
        .dovecot
        .wait_for_log("push-notification-kafka: librdkafka: FAIL: ", EXIT)?;
    setup.broker.set_up()?;
    let told = told_by(&stories, 40);
    check_arrived(&mut setup.reader("dovecot")?, &told)?;
    check_alive(&setup.dovecot)
}

fn what_happens_during_an_outage_arrives_in_order(on: Installation) -> Result<()> {
    let (setup, mut stories) = start_stories(on)?;
    // One connection: Dovecot 2.4 has a process for each, and the order between processes is not
    // defined.
    let mut lmtp = setup.dovecot.lmtp()?;
    two_stories(&mut lmtp, &mut stories, 10)?;
    let mut before = setup.reader("dovecot")?;
    check_arrived(&mut before, &told_by(&stories, 10))?;
    setup.broker.set_down()?;
    two_stories(&mut lmtp, &mut stories, 20)?;
    setup.broker.set_up()?;
    two_stories(&mut lmtp, &mut stories, 10)?;
    let told = told_by(&stories, 40);
    check_arrived_at_least_once(&mut setup.reader("dovecot")?, &told)?;
    ensure!(
        lost(&setup.dovecot.log()) == 0,
        "everything arrived, but the log tells of losses:\n{}",
        setup.dovecot.log()
    );
    check_alive(&setup.dovecot)
}

/// What a broker may answer while a leader moves or replicas lag.
const PASSING: [E; 7] = [
    E::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    E::RD_KAFKA_RESP_ERR__TRANSPORT,
    E::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    E::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    E::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    E::RD_KAFKA_RESP_ERR__TRANSPORT,
    E::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
];

fn errors_that_pass_cost_no_event_and_no_order(on: Installation) -> Result<()> {
    let setup = Setup::start(on, FLAG_EVENTS, |builder| {
        // Requests so small that the errors fall between them.
        builder.kafka("settings.batch.num.messages", "3")
    })?;
    let mut alice = Story::open(&setup.dovecot, "alice", 20)?;
    setup.broker.fail_next_produces(&PASSING);
    alice.steps(60)?;
    check_arrived(&mut setup.reader("dovecot")?, &[alice.told()])?;
    alice.logout()?;
    ensure!(
        lost(&setup.dovecot.log()) == 0,
        "everything arrived, but the log tells of losses:\n{}",
        setup.dovecot.log()
    );
    check_alive(&setup.dovecot)
}

fn errors_that_stay_are_counted_and_the_next_event_arrives(on: Installation) -> Result<()> {
    for (error, name) in [
        (
            E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            "MessageSizeTooLarge",
        ),
        (E::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, "InvalidTimestamp"),
    ] {
        let setup = Setup::start(on, FLAG_EVENTS, |builder| builder)?;
        let mut alice = Story::open(&setup.dovecot, "alice", 5)?;
        setup.broker.fail_next_produces(&[error]);
        alice.step()?;
        let line = setup.dovecot.wait_for_log("` lost: ", ARRIVAL)?;
        ensure!(
            lost(&line) == 1 && line.contains(name),
            "{name} is not told in `{line}`"
        );
        alice.steps(3)?;
        let mut told = alice.logout()?;
        told.events.remove(0);
        check_arrived(&mut setup.reader("dovecot")?, &[told]).context(name)?;
        check_alive(&setup.dovecot)?;
    }
    Ok(())
}

fn a_record_too_large_is_counted_and_the_next_event_arrives(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=MessageNew", |builder| {
        builder.kafka("settings.message.max.bytes", "2000")
    })?;
    let long = format!("Subject: {}\r\n\r\nx\r\n", "long ".repeat(800));
    let mut lmtp = setup.dovecot.lmtp()?;
    for mail in [MAIL, long.as_bytes(), MAIL, long.as_bytes(), MAIL] {
        lmtp.deliver_ok("bob@sender.example", &["alice"], mail)?;
    }
    lmtp.quit()?;
    let told = Told {
        user: "alice".to_owned(),
        events: [1, 3, 5].map(|uid| format!("MessageNew {uid}")).to_vec(),
    };
    check_arrived(&mut setup.reader("dovecot")?, &[told])?;
    let Setup { mut dovecot, .. } = setup;
    dovecot.stop()?;
    check_lost(&dovecot, 2).context("records that were too large")?;
    check_alive(&dovecot)
}

fn a_topic_that_is_forbidden_costs_its_events_only(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    for topic in ["forbidden", "open"] {
        broker.create_topic(topic, 1)?;
    }
    broker.fail_topic("forbidden", E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)?;
    let instances = [
        &*format!("topic=forbidden {FLAG_EVENTS}"),
        &*format!("topic=open {FLAG_EVENTS}"),
    ];
    let mut dovecot = builder(on, &instances, &broker.bootstrap_servers())?.start()?;
    let mut alice = Story::open(&dovecot, "alice", 5)?;
    alice.steps(5)?;
    let told = alice.logout()?;
    let servers = ("bootstrap.servers".to_owned(), broker.bootstrap_servers());
    check_arrived(&mut TopicReader::new(&[servers], "open")?, &[told])?;
    dovecot.stop()?;
    check_lost(&dovecot, 5).context("records for a forbidden topic")?;
    check_alive(&dovecot)
}

fn a_slow_broker_gets_everything_before_the_process_ends(on: Installation) -> Result<()> {
    let setup = Setup::start(on, FLAG_EVENTS, |builder| {
        // Longer than anything takes: a bound for a session that hangs.
        builder.kafka("kafka_flush_time_in_ms", "60000")
    })?;
    let mut alice = Story::open(&setup.dovecot, "alice", 5)?;
    setup
        .broker
        .set_round_trip_time(Duration::from_millis(500))?;
    alice.steps(30)?;
    let pid = session_pid(&setup.dovecot, "alice")?;
    let told = alice.logout()?;
    wait_for_end(&setup.dovecot, pid)?;
    setup.broker.set_round_trip_time(Duration::ZERO)?;
    check_arrived(&mut setup.reader("dovecot")?, &[told])?;
    ensure!(
        lost(&setup.dovecot.log()) == 0,
        "everything arrived, but the log tells of losses:\n{}",
        setup.dovecot.log()
    );
    check_alive(&setup.dovecot)
}

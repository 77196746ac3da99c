//! Address space, threads, queues, logs and users at the edge of what a mail process allows.

use anyhow::{Context, Result, ensure};
use dovecast_event::parse;
use dovecast_testkit::dovecot::{Dovecot, Installation, MailFormat, Series};
use dovecast_testkit::mock_broker::{HungBroker, MockBroker};
use dovecast_testkit::process::{self, ProcessStats, Thread};

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup, builder, override_field, reader};
use crate::story::{
    EXIT, FLAG_EVENTS, MAIL, Story, Told, check_alive, check_arrived, check_lost, fill, lost,
    session_pid, wait_for_end,
};

cases![
    nine_brokers_fit_into_the_default_address_space,
    only_the_main_thread_takes_signals,
    one_lmtp_process_has_one_producer_and_knows_each_users_fields,
    a_user_may_have_brokers_of_their_own,
    a_session_that_hibernates_loses_nothing,
    a_full_queue_without_retries_is_counted,
    a_full_queue_with_retries_loses_nothing,
    a_large_backlog_fits_into_the_default_address_space,
    one_command_on_many_mails_loses_nothing,
];

/// Dovecot's `default_vsz_limit`.
const VSZ_LIMIT_KB: u64 = 256 * 1024;

/// The threads of librdkafka, one of which is the main one of each producer.
pub(crate) fn producers(threads: &[Thread]) -> usize {
    threads
        .iter()
        .filter(|thread| thread.name == "rdk:main")
        .count()
}

fn nine_brokers_fit_into_the_default_address_space(on: Installation) -> Result<()> {
    let broker = MockBroker::start(9)?;
    broker.create_topic("dovecot", 9)?;
    let dovecot = builder(on, &[FLAG_EVENTS], &broker.bootstrap_servers())?.start()?;
    let mut told = Vec::new();
    // Without any plugin an imap process of 2.3 has 7 MB, one of 2.4 has 50 MB.
    let limit_kb = match on.series() {
        Series::V2_3 => VSZ_LIMIT_KB / 4,
        Series::V2_4 => VSZ_LIMIT_KB / 3,
    };
    for user in ["alice", "bob", "carol"] {
        let mut story = Story::open(&dovecot, user, 20)?;
        story.steps(40)?;
        let pid = session_pid(&dovecot, user)?;
        let is_connected = || {
            let stats = ProcessStats::of(pid).ok()?;
            (stats.threads >= 11).then_some(stats)
        };
        let stats = process::poll_until(ARRIVAL, is_connected).with_context(|| {
            format!(
                "no thread for each of nine brokers: {:?}",
                ProcessStats::of(pid)
            )
        })?;
        ensure!(
            stats.vm_size_kb < limit_kb,
            "the imap process has {stats:?}, wanted are less than {limit_kb} kB"
        );
        told.push(story.logout()?);
        wait_for_end(&dovecot, pid)?;
    }
    check_arrived(&mut reader(&broker, "dovecot")?, &told)?;
    check_alive(&dovecot)
}

fn only_the_main_thread_takes_signals(on: Installation) -> Result<()> {
    /// KILL and STOP cannot be blocked, 32 and 33 are the C library's.
    const CANNOT_BE_BLOCKED: u64 = 1 << 8 | 1 << 18 | 1 << 31 | 1 << 32;
    let setup = Setup::start(on, FLAG_EVENTS, |builder| builder)?;
    let mut alice = Story::open(&setup.dovecot, "alice", 3)?;
    alice.steps(3)?;
    check_arrived(&mut setup.reader("dovecot")?, &[alice.told()])?;
    let threads = process::threads(session_pid(&setup.dovecot, "alice")?)?;
    ensure!(
        threads.len() >= 3 && producers(&threads) == 1,
        "no threads of librdkafka: {threads:?}"
    );
    for thread in &threads {
        let takes = !(thread.blocked_signals | CANNOT_BE_BLOCKED);
        ensure!(
            thread.is_main == (takes != 0),
            "thread `{}` takes the signals {takes:#x}",
            thread.name
        );
    }
    alice.logout()?;
    check_alive(&setup.dovecot)
}

fn one_lmtp_process_has_one_producer_and_knows_each_users_fields(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=MessageNew userdb=tenant", |builder| {
        builder
            .user("alice", &[("tenant", "a")])
            .user("bob", &[("tenant", "b")])
    })?;
    let mut lmtp = setup.dovecot.lmtp()?;
    for _ in 0..5 {
        // All three users are alive until the last reply.
        lmtp.deliver_ok("bob@sender.example", &["alice", "bob", "carol"], MAIL)?;
    }
    let records = setup.reader("dovecot")?.read(15, ARRIVAL)?;
    for record in &records {
        let event = parse(&record.value)?;
        let expected: &[(String, String)] = match event.user.as_str() {
            "alice" => &[("tenant".to_owned(), "a".to_owned())],
            "bob" => &[("tenant".to_owned(), "b".to_owned())],
            _ => &[],
        };
        ensure!(event.userdb == expected, "userdb of another user: {record}");
    }
    let pids = setup.dovecot.pids("lmtp")?;
    ensure!(pids.len() == 1, "one lmtp process is wanted: {pids:?}");
    let threads = process::threads(pids[0])?;
    ensure!(producers(&threads) == 1, "not one producer: {threads:?}");
    lmtp.quit()?;
    let errors = setup.dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
    check_alive(&setup.dovecot)
}

fn a_user_may_have_brokers_of_their_own(on: Installation) -> Result<()> {
    let (shared, own, gone) = (
        MockBroker::start(1)?,
        MockBroker::start(1)?,
        HungBroker::start()?,
    );
    let brokers = &override_field(on, "kafka_brokers");
    let dovecot = builder(
        on,
        &["events=MessageNew,FlagsSet"],
        &shared.bootstrap_servers(),
    )?
    .user("bob", &[(brokers, &own.bootstrap_servers())])
    .user("dave", &[(brokers, &gone.bootstrap_servers())])
    .start()?;
    let mut lmtp = dovecot.lmtp()?;
    for _ in 0..3 {
        lmtp.deliver_ok("bob@sender.example", &["alice", "dave", "bob"], MAIL)?;
    }
    let threads = process::threads(dovecot.pids("lmtp")?[0])?;
    ensure!(producers(&threads) == 3, "not three producers: {threads:?}");
    let told = |user: &str, events: &[&str]| {
        [Told {
            user: user.to_owned(),
            events: events.iter().map(|event| (*event).to_owned()).collect(),
        }]
    };
    let delivered = ["MessageNew 1", "MessageNew 2", "MessageNew 3"];
    let flagged = [&delivered[..], &["FlagsSet 1 \\Flagged"]].concat();
    for (user, broker) in [("alice", &shared), ("bob", &own)] {
        // The session is a process of its own: its event comes after these only if it is made after
        // they are there.
        check_arrived(&mut reader(broker, "dovecot")?, &told(user, &delivered))?;
        let mut imap = dovecot.login(user)?;
        imap.ok("SELECT INBOX")?;
        imap.ok("STORE 1 +FLAGS (\\Flagged)")?;
        imap.logout()?;
        check_arrived(&mut reader(broker, "dovecot")?, &told(user, &flagged))?;
    }
    lmtp.quit()?;
    check_alive(&dovecot)
}

/// Sessions that are idle for a second give their process back.
pub(crate) const HIBERNATION: &str = "imap_hibernate_timeout = 1s
service imap {
  unix_listener imap-master {
    mode = 0666
  }
}
service imap-hibernate {
  unix_listener imap-hibernate {
    mode = 0666
  }
}";

/// Lets the only session be idle until it has no process of its own any more, and wakes it.
pub(crate) fn hibernate(dovecot: &Dovecot, story: &mut Story) -> Result<()> {
    story.imap.idle_start()?;
    let hibernates = || {
        let pids = dovecot.pids("imap").ok()?;
        let hibernating = dovecot.pids("imap-hibernate").ok()?;
        (pids.is_empty() && !hibernating.is_empty()).then_some(())
    };
    process::poll_until(ARRIVAL, hibernates)
        .with_context(|| format!("the session does not hibernate:\n{}", dovecot.log()))?;
    story.imap.idle_done()?;
    Ok(())
}

fn a_session_that_hibernates_loses_nothing(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=FlagsSet,FlagsClear,MessageNew", |builder| {
        builder.config(HIBERNATION)
    })?;
    let mut alice = Story::open(&setup.dovecot, "alice", 3)?;
    for _ in 0..2 {
        alice.steps(4)?;
        hibernate(&setup.dovecot, &mut alice)?;
    }
    alice.steps(4)?;
    let told = alice.logout()?;
    ensure!(told.events.len() == 12);
    check_arrived(&mut setup.reader("dovecot")?, &[told])?;
    let errors = setup.dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
    check_alive(&setup.dovecot)
}

fn a_full_queue_without_retries_is_counted(on: Installation) -> Result<()> {
    let setup = Setup::start(on, FLAG_EVENTS, |builder| {
        builder.kafka("settings.queue.buffering.max.messages", "10")
    })?;
    setup.broker.set_down()?;
    let mut alice = Story::open(&setup.dovecot, "alice", 30)?;
    let pid = session_pid(&setup.dovecot, "alice")?;
    alice.steps(30)?;
    setup.dovecot.wait_for_log("` lost: ", EXIT)?;
    setup.broker.set_up()?;
    let mut told = alice.told();
    told.events.truncate(10);
    check_arrived(&mut setup.reader("dovecot")?, &[told])?;
    alice.logout()?;
    wait_for_end(&setup.dovecot, pid)?;
    check_lost(&setup.dovecot, 20)?;
    setup.dovecot.wait_for_log("Local: Queue full", EXIT)?;
    check_alive(&setup.dovecot)
}

fn a_full_queue_with_retries_loses_nothing(on: Installation) -> Result<()> {
    let setup = Setup::start(on, FLAG_EVENTS, |builder| {
        builder
            .kafka("settings.queue.buffering.max.messages", "10")
            .kafka("kafka_max_retries", "1000")
            .kafka("kafka_retry_poll_time_in_ms", "50")
    })?;
    setup.broker.set_down()?;
    let mut alice = Story::open(&setup.dovecot, "alice", 20)?;
    // As many as fit into the queue and beside it.
    alice.steps(20)?;
    setup
        .dovecot
        .wait_for_log("push-notification-kafka: librdkafka: FAIL: ", EXIT)?;
    setup.broker.set_up()?;
    let mut seen = setup.reader("dovecot")?;
    check_arrived(&mut seen, &[alice.told()])?;
    alice.steps(20)?;
    let told = alice.logout()?;
    check_arrived(&mut setup.reader("dovecot")?, &[told])?;
    let log = setup.dovecot.log();
    ensure!(lost(&log) == 0, "the log tells of losses:\n{log}");
    check_alive(&setup.dovecot)
}

/// Says each command without a look at the answers, then waits for the last one.
fn store_all(dovecot: &Dovecot, user: &str, mails: usize, times: usize) -> Result<u32> {
    fill(dovecot, user, mails)?;
    let mut story = Story::resume(dovecot, user, mails)?;
    let pid = session_pid(dovecot, user)?;
    for i in 0..times {
        let sign = if i % 2 == 0 { '+' } else { '-' };
        story
            .imap
            .ok(&format!("UID STORE 1:* {sign}FLAGS.SILENT (\\Flagged)"))?;
    }
    let stats = ProcessStats::of(pid)?;
    println!(
        "{user}: {} events with the broker away: {stats:?}",
        mails * times
    );
    ensure!(
        stats.vm_size_kb < VSZ_LIMIT_KB * 3 / 4,
        "the imap process has {stats:?}, the limit is {VSZ_LIMIT_KB} kB"
    );
    story.logout()?;
    Ok(pid)
}

fn a_large_backlog_fits_into_the_default_address_space(on: Installation) -> Result<()> {
    // The queue holds 100000 events, and with retries as many wait beside it.
    for (retries, user, times) in [("0", "alice", 60), ("1000", "bob", 110)] {
        let broker = MockBroker::start(1)?;
        broker.set_down()?;
        let dovecot = builder(on, &[FLAG_EVENTS], &broker.bootstrap_servers())?
            .mail_format(MailFormat::Sdbox)
            .kafka("kafka_max_retries", retries)
            .start()?;
        let pid = store_all(&dovecot, user, 2000, times)?;
        wait_for_end(&dovecot, pid)?;
        check_lost(&dovecot, 2000 * times as u64)?;
        check_alive(&dovecot)?;
    }
    Ok(())
}

fn one_command_on_many_mails_loses_nothing(on: Installation) -> Result<()> {
    const MAILS: usize = 5_000;
    let setup = Setup::start(on, "events=FlagsSet,MessageRead", |builder| {
        // As if it were forty thousand mails: all events are made before the event loop comes
        // round.
        builder
            .mail_format(MailFormat::Sdbox)
            .kafka("settings.queue.buffering.max.kbytes", "4096")
    })?;
    fill(&setup.dovecot, "alice", MAILS)?;
    let mut alice = Story::resume(&setup.dovecot, "alice", MAILS)?;
    alice.imap.ok("STORE 1:* +FLAGS.SILENT (\\Seen)")?;
    alice.logout()?;
    let records = setup
        .reader("dovecot")?
        .read(2 * MAILS, ARRIVAL)
        .with_context(|| format!("Dovecot's log:\n{}", setup.dovecot.log()))?;
    // So many mails the framework keeps in a hash table that grows: only the order of each mail's
    // events is left.
    let mut by_mail = vec![String::new(); MAILS + 1];
    for record in &records {
        let event = parse(&record.value)?;
        let mail = event.uid.and_then(|uid| by_mail.get_mut(uid as usize));
        mail.with_context(|| format!("of no mail: {record}"))?
            .push_str(event.kind.name());
    }
    let other = by_mail
        .iter()
        .skip(1)
        .position(|events| events != "FlagsSetMessageRead");
    ensure!(
        other.is_none(),
        "events of mail {other:?} are missing or in another order"
    );
    check_alive(&setup.dovecot)
}

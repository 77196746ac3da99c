//! What happens to processes: they end, are killed, panic, lose their plugin's file, live long, come by the thousand.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::plugin::{Build, shared_object};
use dovecast_testkit::process::{self, ProcessStats};

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup};
use crate::story::{
    EXIT, MAIL, Story, Told, check_alive, check_arrived, fill, lost, session_pid, wait_for_end,
};

cases![
    fifty_sessions_that_log_out_at_once_lose_nothing,
    sessions_that_are_kicked_lose_nothing,
    clients_that_just_disappear_lose_nothing,
    doveadm_and_lda_publish_before_they_end,
    a_panic_costs_mail_nothing_and_later_sessions_nothing,
    the_plugin_can_be_replaced_under_running_sessions,
    a_thousand_sessions_survive_two_outages,
];

/// One short session of `alice` for each of `count` mails: it flags the mail and is ended by `end`. All must arrive.
fn short_sessions(count: usize, mut end: impl FnMut(&Dovecot, Story) -> Result<()>) -> Result<()> {
    let setup = Setup::start("events=FlagsSet", |builder| builder)?;
    fill(&setup.dovecot, "alice", count)?;
    for mail in 1..=count {
        let story = Story::resume(&setup.dovecot, "alice", mail)?;
        end(&setup.dovecot, story).with_context(|| format!("session number {mail}"))?;
    }
    let events = (1..=count).map(|mail| format!("FlagsSet {mail} \\Flagged"));
    let told = Told {
        user: "alice".to_owned(),
        events: events.collect(),
    };
    // The next session may begin before the last one has flushed: each event is there, their order is another matter.
    let mut records = setup.reader("dovecot")?.read(count, ARRIVAL)?;
    records.sort_by_key(|record| record.header("dovecast-id").map(<[u8]>::to_vec));
    crate::story::check_same(&records, &[told])?;
    check_alive(&setup.dovecot)
}

/// Flags the last mail of a story and does not wait for the answer to what comes after it in the same packet.
fn flag_last_and(story: &mut Story, then: &str) -> Result<()> {
    let command = format!("STORE {} +FLAGS.SILENT (\\Flagged){then}", story.mails());
    story.imap.ok(&command).map(|_| ())
}

fn fifty_sessions_that_log_out_at_once_lose_nothing() -> Result<()> {
    // Every other one says LOGOUT before it has the answer to STORE.
    let mut is_pipelined = false;
    short_sessions(50, |_, mut story| {
        is_pipelined = !is_pipelined;
        if is_pipelined {
            flag_last_and(&mut story, "\r\nlast LOGOUT")
        } else {
            flag_last_and(&mut story, "")?;
            story.imap.logout().map(|_| ())
        }
    })
}

fn sessions_that_are_kicked_lose_nothing() -> Result<()> {
    short_sessions(10, |dovecot, mut story| {
        let pid = session_pid(dovecot, "alice")?;
        flag_last_and(&mut story, "")?;
        let kicked = dovecot.doveadm(&["kick", "alice"])?;
        ensure!(kicked.status.success(), "doveadm kick: {kicked:?}");
        wait_for_end(dovecot, pid)
    })
}

fn clients_that_just_disappear_lose_nothing() -> Result<()> {
    short_sessions(20, |_, mut story| {
        flag_last_and(&mut story, "")?;
        story.imap.close_abruptly();
        Ok(())
    })
}

fn doveadm_and_lda_publish_before_they_end() -> Result<()> {
    let setup = Setup::start("events=FlagsSet,MessageNew", |builder| builder)?;
    fill(&setup.dovecot, "alice", 3)?;
    let flags = [
        "flags",
        "add",
        "-u",
        "alice",
        "\\Flagged",
        "mailbox",
        "INBOX",
        "all",
    ];
    let output = setup.dovecot.doveadm(&flags)?;
    ensure!(output.status.success(), "doveadm: {output:?}");
    let output = setup.dovecot.lda("alice", MAIL, &[])?;
    ensure!(output.status.success(), "dovecot-lda: {output:?}");
    let flagged = (1..=3).map(|uid| format!("FlagsSet {uid} \\Flagged"));
    let told = Told {
        user: "alice".to_owned(),
        events: flagged.chain(["MessageNew 4".to_owned()]).collect(),
    };
    check_arrived(&mut setup.reader("dovecot")?, &[told])?;
    check_alive(&setup.dovecot)
}

fn a_panic_costs_mail_nothing_and_later_sessions_nothing() -> Result<()> {
    let plugin = shared_object(Build::FaultInjection)?;
    let setup = Setup::start("events=FlagsSet,MessageTrash", |builder| {
        builder
            .plugin(plugin)
            .plugin_setting("dovecast_fault", "MessageTrash")
    })?;
    let mut alice = Story::open(&setup.dovecot, "alice", 10)?;
    let pid = session_pid(&setup.dovecot, "alice")?;
    alice.steps(4)?;
    alice.imap.ok("STORE 1 +FLAGS (\\Deleted)")?;
    let line = setup.dovecot.wait_for_log("the driver panicked", EXIT)?;
    ensure!(
        line.contains("fault injected into MessageTrash"),
        "the log does not name the panic: {line}"
    );
    for mail in 2..=5 {
        alice.imap.ok(&format!("STORE {mail} +FLAGS (\\Deleted)"))?;
    }
    alice.imap.ok("EXPUNGE")?;
    let told = alice.logout()?;
    wait_for_end(&setup.dovecot, pid)?;

    let mut bob = Story::open(&setup.dovecot, "bob", 3)?;
    bob.steps(3)?;
    check_arrived(&mut setup.reader("dovecot")?, &[told, bob.logout()?])?;
    let errors = setup.dovecot.errors_in_log();
    ensure!(
        errors.len() == 1,
        "more than the panic is an error: {errors:?}"
    );
    check_alive(&setup.dovecot)
}

fn the_plugin_can_be_replaced_under_running_sessions() -> Result<()> {
    let setup = Setup::start("events=FlagsSet,FlagsClear,MessageNew", |builder| builder)?;
    let mut before = Story::open(&setup.dovecot, "alice", 3)?;
    before.steps(3)?;
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;

    let installed = setup.dovecot.plugin_path();
    let new = installed.with_extension("new");
    for _ in 0..2 {
        fs::copy(&installed, &new).context("cannot copy the plugin")?;
        fs::rename(&new, &installed).context("cannot rename the plugin")?;
        before.steps(6)?;
        lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;
    }
    let mut after = Story::open(&setup.dovecot, "dave", 3)?;
    after.steps(3)?;
    lmtp.quit()?;
    let carol = Told {
        user: "carol".to_owned(),
        events: (1..=3).map(|uid| format!("MessageNew {uid}")).collect(),
    };
    let told = [before.logout()?, after.logout()?, carol];
    check_arrived(&mut setup.reader("dovecot")?, &told)?;
    check_alive(&setup.dovecot)
}

const SESSIONS: usize = 1000;
const AT_ONCE: usize = 100;
const LOAD_USERS: usize = 20;
const RECIPIENTS: [&str; 5] = ["r1", "r2", "r3", "r4", "r5"];

/// How far the load has come.
#[derive(Default)]
struct Progress {
    done: AtomicUsize,
    failed: AtomicUsize,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > 0 || self.done.load(Ordering::Relaxed) >= SESSIONS
    }

    /// Waits until `share` of a hundred sessions are over; false if one has failed.
    fn reach(&self, share: usize) -> Result<bool> {
        let reached = process::poll_until(ARRIVAL * 4, || {
            let is_there = self.done.load(Ordering::Relaxed) >= SESSIONS * share / 100;
            (is_there || self.is_over()).then_some(())
        });
        reached.with_context(|| format!("the load has stopped before {share} %"))?;
        Ok(self.failed.load(Ordering::Relaxed) == 0)
    }
}

/// Sessions one after the other; number `k` of all flags its own mail.
fn load_sessions(dovecot: &Dovecot, progress: &Progress, worker: usize) -> Result<()> {
    for session in (worker..SESSIONS).step_by(AT_ONCE) {
        if progress.failed.load(Ordering::Relaxed) > 0 {
            break;
        }
        let result = (|| {
            let mut imap = dovecot.login(&format!("load{}", session % LOAD_USERS))?;
            imap.ok("SELECT INBOX")?;
            let mail = session / LOAD_USERS + 1;
            imap.ok(&format!("UID STORE {mail} +FLAGS.SILENT (\\Flagged)"))?;
            imap.logout()
        })();
        let counter = if result.is_ok() {
            &progress.done
        } else {
            &progress.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result.with_context(|| format!("session number {session}"))?;
    }
    Ok(())
}

/// Deliveries over one connection, and steps of sessions that stay open, as long as the load lasts.
///
/// Gives what was done, and the sessions, still open: that nothing is lost is promised for them, not for a process that
/// ends with a queue full of events.
fn long_lived(dovecot: &Dovecot, progress: &Progress) -> Result<(Vec<Told>, Vec<Story>)> {
    let mut lmtp = dovecot.lmtp()?;
    let mut stories = Vec::new();
    for user in ["long1", "long2", "long3"] {
        stories.push(Story::resume(dovecot, user, 50)?);
    }
    let mut deliveries = 0;
    let mut seen = usize::MAX;
    while !progress.is_over() {
        let done = progress.done.load(Ordering::Relaxed);
        if done == seen {
            thread::yield_now();
            continue;
        }
        seen = done;
        lmtp.deliver_ok("bob@sender.example", &RECIPIENTS, MAIL)?;
        deliveries += 1;
        stories.iter_mut().try_for_each(Story::step)?;
    }
    lmtp.quit()?;
    let mut told: Vec<Told> = RECIPIENTS
        .iter()
        .map(|user| Told {
            user: (*user).to_owned(),
            events: (1..=deliveries)
                .map(|uid| format!("MessageNew {uid}"))
                .collect(),
        })
        .collect();
    told.extend(stories.iter().map(Story::told));
    Ok((told, stories))
}

/// Two outages while the load runs; gives what the one LMTP process held when 20 % were done.
fn outages(dovecot: &Dovecot, broker: &MockBroker, progress: &Progress) -> Result<ProcessStats> {
    progress.reach(20)?;
    let pid = lmtp_pid(dovecot)?;
    // In a flood of sessions the first delivery takes its time, and the producer comes after it.
    let with_producer = || {
        let stats = ProcessStats::of(pid).ok()?;
        (stats.threads >= 4).then_some(stats)
    };
    let early =
        process::poll_until(ARRIVAL, with_producer).context("no producer in the lmtp process")?;
    for (down, up) in [(30, 40), (60, 75)] {
        if progress.reach(down)? {
            broker.set_down()?;
        }
        progress.reach(up)?;
        broker.set_up()?;
    }
    progress.reach(100)?;
    Ok(early)
}

fn lmtp_pid(dovecot: &Dovecot) -> Result<u32> {
    let pids = dovecot.pids("lmtp")?;
    ensure!(pids.len() == 1, "one lmtp process is wanted: {pids:?}");
    Ok(pids[0])
}

fn a_thousand_sessions_survive_two_outages() -> Result<()> {
    let setup = Setup::start("events=FlagsSet,FlagsClear,MessageNew", |builder| {
        // Down for a moment only: back soon.
        builder.plugin_setting(
            "kafka.notification.settings.reconnect.backoff.max.ms",
            "1000",
        )
    })?;
    let (dovecot, broker) = (&setup.dovecot, &setup.broker);
    for user in 0..LOAD_USERS {
        fill(dovecot, &format!("load{user}"), SESSIONS / LOAD_USERS)?;
    }
    for user in ["long1", "long2", "long3"] {
        fill(dovecot, user, 50)?;
    }
    let progress = Progress::default();
    let (early, (told, stories)) = thread::scope(|scope| {
        let long = scope.spawn(|| long_lived(dovecot, &progress));
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let progress = &progress;
                scope.spawn(move || load_sessions(dovecot, progress, worker))
            })
            .collect();
        let early = outages(dovecot, broker, &progress);
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        let told = long
            .join()
            .map_err(|_| anyhow!("the long-lived one panicked"))??;
        anyhow::Ok((early?, told))
    })?;
    check_load(&setup, &told, stories.len())?;
    for story in stories {
        story.logout()?;
    }
    check_no_growth(&early, &ProcessStats::of(lmtp_pid(dovecot)?)?)?;
    check_alive(dovecot)
}

/// All that the long-lived processes did arrived; of the short sessions each event arrived or was counted as lost.
fn check_load(setup: &Setup, told: &[Told], open_sessions: usize) -> Result<()> {
    let ended = process::poll_until(ARRIVAL, || {
        let pids = setup.dovecot.pids("imap").ok()?;
        (pids.len() <= open_sessions).then_some(())
    });
    ended.context("imap processes are left")?;
    let is_short = |key: Option<&[u8]>| key.is_some_and(|key| key.starts_with(b"load"));
    let count: usize = told.iter().map(|told| told.events.len()).sum();
    let mut reader = setup.reader("dovecot")?;
    let mut ids = HashSet::new();
    let (mut long, mut short) = (Vec::new(), 0);
    let mut rest = Vec::new();
    while long.len() < count {
        let record = match rest.pop() {
            Some(record) => record,
            None => reader.next(ARRIVAL)?.with_context(|| {
                format!(
                    "{} of {count} events of long-lived processes, {} counted as lost by all",
                    long.len(),
                    lost(&setup.dovecot.log())
                )
            })?,
        };
        if !ids.insert(record.header("dovecast-id").map(<[u8]>::to_vec)) {
            continue;
        }
        if is_short(record.key.as_deref()) {
            short += 1;
        } else {
            long.push(record);
        }
    }
    for record in reader.drain()? {
        if ids.insert(record.header("dovecast-id").map(<[u8]>::to_vec)) {
            ensure!(
                is_short(record.key.as_deref()),
                "one event too many: {record}"
            );
            short += 1;
        }
    }
    crate::story::check_same(&long, told)?;
    let lost = usize::try_from(lost(&setup.dovecot.log()))?;
    ensure!(
        short <= SESSIONS && short + lost >= SESSIONS,
        "of {SESSIONS} events of short sessions {short} arrived, and the log tells of {lost} lost ones"
    );
    println!(
        "a thousand sessions: {short} events arrived, {lost} were counted as lost in the outages"
    );
    Ok(())
}

fn check_no_growth(early: &ProcessStats, late: &ProcessStats) -> Result<()> {
    const SLACK_KB: u64 = 8 * 1024;
    println!("the lmtp process early: {early:?}, late: {late:?}");
    ensure!(
        late.fds <= early.fds
            && late.threads <= early.threads
            && late.rss_kb <= early.rss_kb + SLACK_KB,
        "the lmtp process has grown from {early:?} to {late:?}"
    );
    Ok(())
}

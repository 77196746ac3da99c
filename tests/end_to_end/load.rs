//! A thousand sessions and steady deliveries while the broker is away twice: nothing is lost that
//! was promised, nothing grows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::lmtp::LmtpClient;
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::process::{self, ProcessStats};
use dovecast_testkit::topic::Record;

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup, reader};
use crate::story::{MAIL, Story, Told, check_alive, fill, lost};

cases![a_thousand_sessions_survive_two_outages];

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

/// What was done over one LMTP connection and in sessions that stay open, as long as the load
/// lasts.
///
/// That nothing is lost is promised for these, not for a process that ends with a queue full of
/// events.
struct LongLived {
    told: Vec<Told>,
    /// Still open, as is the connection: the LMTP process of Dovecot 2.4 ends with it.
    stories: Vec<Story>,
    lmtp: LmtpClient,
}

fn long_lived(dovecot: &Dovecot, progress: &Progress) -> Result<LongLived> {
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
    Ok(LongLived {
        told,
        stories,
        lmtp,
    })
}

/// Two outages while the load runs; gives what the one LMTP process held when 20 % were done.
fn outages(dovecot: &Dovecot, broker: &MockBroker, progress: &Progress) -> Result<ProcessStats> {
    progress.reach(20)?;
    let pid = lmtp_pid(dovecot)?;
    // In a flood of sessions the first delivery takes its time, and the connection to the broker
    // comes after it.
    let mut reader = reader(broker, "dovecot")?;
    let is_delivery = |record: &Record| {
        let is_key = |user: &str| record.key.as_deref() == Some(user.as_bytes());
        RECIPIENTS.iter().any(|user| is_key(user))
    };
    while !is_delivery(&reader.next(ARRIVAL)?.context("no delivery arrived")?) {}
    let early = ProcessStats::of(pid)?;
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

fn a_thousand_sessions_survive_two_outages(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=FlagsSet,FlagsClear,MessageNew", |builder| {
        // Down for a moment only: back soon.
        builder.kafka("settings.reconnect.backoff.max.ms", "1000")
    })?;
    let (dovecot, broker) = (&setup.dovecot, &setup.broker);
    for user in 0..LOAD_USERS {
        fill(dovecot, &format!("load{user}"), SESSIONS / LOAD_USERS)?;
    }
    for user in ["long1", "long2", "long3"] {
        fill(dovecot, user, 50)?;
    }
    let progress = Progress::default();
    let (early, long) = thread::scope(|scope| {
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
        let long = long
            .join()
            .map_err(|_| anyhow!("the long-lived one panicked"))??;
        anyhow::Ok((early?, long))
    })?;
    check_load(&setup, &long.told, long.stories.len())?;
    check_no_growth(&early, &ProcessStats::of(lmtp_pid(dovecot)?)?)?;
    long.lmtp.quit()?;
    for story in long.stories {
        story.logout()?;
    }
    check_alive(dovecot)
}

/// All that the long-lived processes did arrived; of the short sessions each event arrived or was
/// counted as lost.
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
    let told = || usize::try_from(lost(&setup.dovecot.log()));
    // Dovecot's log process may be behind.
    process::poll_until(ARRIVAL, || {
        told()
            .is_ok_and(|lost| short + lost >= SESSIONS)
            .then_some(())
    });
    let lost = told()?;
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
    // A connection that is being made anew.
    const SLACK_FDS: usize = 1;
    println!("the lmtp process early: {early:?}, late: {late:?}");
    ensure!(
        late.fds <= early.fds + SLACK_FDS
            && late.threads <= early.threads
            && late.rss_kb <= early.rss_kb + SLACK_KB,
        "the lmtp process has grown from {early:?} to {late:?}"
    );
    Ok(())
}

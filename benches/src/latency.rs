//! What clients wait for: one mail over LMTP, one STORE over IMAP.
//!
//! Every subject has a twin, the framework without a driver, with a connection and a mailbox of its
//! own. In each round subject and twin do a block of work each, one right after the other and in
//! changing order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::topic::TopicReader;

use crate::figures::{Median, print_head, print_row};
use crate::proc::CpuTime;
use crate::receiver::Receiver;
use crate::subject::{Brokers, Subject, World};
use crate::workload::{Delivery, FlagChanges, Workload};

/// The ratio that must not be passed where the brokers are ours to suffer.
const BAR: f64 = 1.05;

/// The ratio that must not be passed by what is behind the relay, with the relay alone.
const RECEIVER_BAR: f64 = 1.02;

/// What is measured, and beside what.
struct Compared {
    with: Subject,
    bar: f64,
    subjects: Vec<Subject>,
}

impl Compared {
    fn with_framework(world: &World) -> Self {
        Self {
            with: Subject::Framework,
            bar: BAR,
            subjects: world.subjects(),
        }
    }
}

/// How much is done.
struct Amount {
    rounds: usize,
    /// Mails or STOREs of a block.
    block: u32,
}

pub(crate) fn lmtp(world: &World) -> Result<()> {
    let amount = Amount {
        rounds: world.rounds(100),
        block: 20,
    };
    let compared = Compared::with_framework(world);
    run::<Delivery>(world, "LMTP, per mail", "lmtp", &amount, &compared)
}

/// What a receiver of Dovecot's own drivers that is slow, dead or loops costs mail.
pub(crate) fn receivers(world: &World) -> Result<()> {
    let amount = Amount {
        rounds: world.rounds(100),
        block: 20,
    };
    let compared = Compared {
        with: Subject::Behind(Receiver::Nobody),
        bar: RECEIVER_BAR,
        subjects: world.behind(),
    };
    let title = "LMTP, per mail, with receivers behind the relay";
    run::<Delivery>(world, title, "receivers", &amount, &compared)
}

pub(crate) fn store(world: &World) -> Result<()> {
    let amount = Amount {
        rounds: world.rounds(60),
        block: 100,
    };
    run::<FlagChanges>(
        world,
        "STORE 1 +FLAGS / -FLAGS (\\Seen $label1), per command",
        "store",
        &amount,
        &Compared::with_framework(world),
    )
}

fn run<W: Workload>(
    world: &World,
    title: &str,
    topic: &str,
    amount: &Amount,
    compared: &Compared,
) -> Result<()> {
    let baseline = world.start(compared.with, topic)?;
    let mut contests = Vec::new();
    for (i, subject) in compared.subjects.iter().enumerate() {
        contests.push(Contest::<W>::open(
            world,
            *subject,
            &baseline,
            &format!("{topic}-{i}"),
        )?);
    }
    // Caches are filled, producers are created and connected.
    for contest in &mut contests {
        contest.round(amount.block, false)?;
    }
    for contest in &mut contests {
        contest.rounds.clear();
    }
    for round in 0..amount.rounds {
        for contest in &mut contests {
            contest.round(amount.block, round % 2 == 1)?;
        }
    }
    print_table(title, amount, compared, &contests);
    let blocks = u32::try_from(amount.rounds + 1)?;
    for contest in contests {
        contest.close(world, blocks * W::events(amount.block))?;
    }
    Ok(())
}

/// A connection and the process behind it.
struct Side<W> {
    work: W,
    pid: u32,
}

/// What one side needed for a block, per mail or command.
#[derive(Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name")]
struct Cost {
    wall_us: f64,
    slowest_us: f64,
    main_us: f64,
    all_us: f64,
}

/// A subject, its twin, and what they needed in each round.
struct Contest<W> {
    subject: Subject,
    dovecot: Dovecot,
    topic: String,
    subject_side: Side<W>,
    twin: Side<W>,
    rounds: Vec<(Cost, Cost)>,
}

impl<W: Workload> Side<W> {
    fn open(dovecot: &Dovecot, user: &str) -> Result<Self> {
        let before: BTreeSet<u32> = dovecot.pids(W::SERVICE)?.into_iter().collect();
        let mut work = W::open(dovecot, user)?;
        work.run(2)?;
        let new = dovecot
            .pids(W::SERVICE)?
            .into_iter()
            .find(|pid| !before.contains(pid));
        Ok(Self {
            work,
            pid: new.with_context(|| format!("no process `{}` for `{user}`", W::SERVICE))?,
        })
    }

    fn block(&mut self, count: u32) -> Result<Cost> {
        let before = CpuTime::of(self.pid)?;
        let start = Instant::now();
        let slowest = self.work.run(count)?;
        let wall = start.elapsed();
        let after = CpuTime::of(self.pid)?;
        let each = |time: Duration| micros(time) / f64::from(count);
        Ok(Cost {
            wall_us: each(wall),
            slowest_us: micros(slowest),
            main_us: each(after.main.saturating_sub(before.main)),
            all_us: each(after.all.saturating_sub(before.all)),
        })
    }
}

impl<W: Workload> Contest<W> {
    fn open(world: &World, subject: Subject, baseline: &Dovecot, topic: &str) -> Result<Self> {
        let dovecot = world.start(subject, topic)?;
        Ok(Self {
            subject,
            subject_side: Side::open(&dovecot, "alice").with_context(|| subject.to_string())?,
            twin: Side::open(baseline, topic)?,
            dovecot,
            topic: topic.to_owned(),
            rounds: Vec::new(),
        })
    }

    fn round(&mut self, count: u32, twin_first: bool) -> Result<()> {
        let costs = if twin_first {
            let twin = self.twin.block(count)?;
            (self.subject_side.block(count)?, twin)
        } else {
            (self.subject_side.block(count)?, self.twin.block(count)?)
        };
        self.rounds.push(costs);
        Ok(())
    }

    fn median(&self, of: impl Fn(&(Cost, Cost)) -> f64) -> Median {
        Median::of(self.rounds.iter().map(of))
    }

    /// Ends the process, so that everything is flushed, and looks whether all of it has arrived.
    fn close(self, world: &World, block_events: u32) -> Result<()> {
        let Self {
            subject,
            mut dovecot,
            topic,
            subject_side,
            ..
        } = self;
        drop(subject_side);
        dovecot.stop()?;
        if subject.records_per_event() == 0 {
            return Ok(());
        }
        // Before the rounds the connection was tried out by two.
        let events = block_events + W::events(2);
        let servers = world.bootstrap_servers(Brokers::Up).to_owned();
        let mut received = Vec::new();
        for instance in 1..=subject.records_per_event() {
            let settings = [("bootstrap.servers".to_owned(), servers.clone())];
            let records = TopicReader::new(&settings, &format!("{topic}-{instance}"))?.drain()?;
            if !records.iter().any(|record| record.offset == 0) {
                println!("{subject}: more records than the mock broker keeps, not counted");
                return Ok(());
            }
            let values = records
                .iter()
                .map(|record| String::from_utf8_lossy(&record.value));
            let counted = values.filter(|value| W::is_counted(value)).count();
            received.push(u32::try_from(counted)?);
        }
        println!("{subject}: {events} events published per instance, received: {received:?}");
        ensure!(
            matches!(subject, Subject::Variant(_)) || received.iter().all(|count| *count == events),
            "events were lost with the broker up"
        );
        Ok(())
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn print_table<W: Workload>(
    title: &str,
    amount: &Amount,
    compared: &Compared,
    contests: &[Contest<W>],
) {
    let with = match compared.with {
        Subject::Framework => "framework".to_owned(),
        other => format!("`{other}`"),
    };
    print_head(
        &format!("{title}: {} rounds of {}", amount.rounds, amount.block),
        &[
            "loaded",
            "us",
            &format!("ratio to {with} (95 %)"),
            "slowest us",
            "CPU us, main thread",
            &format!("more than {with}"),
            "CPU us, all threads",
            &format!("bar {}", compared.bar),
        ],
    );
    for contest in contests {
        let ratio = contest.median(|(subject, twin)| subject.wall_us / twin.wall_us);
        let slowest = contest.rounds.iter().map(|(subject, _)| subject.slowest_us);
        let is_ours = contest.subject.is_ours();
        let verdict = match (is_ours, ratio.value <= compared.bar) {
            (false, _) => "",
            (true, true) => "met",
            (true, false) => "missed",
        };
        print_row(&[
            contest.subject.to_string(),
            format!(
                "{:.0}",
                contest.median(|(subject, _)| subject.wall_us).value
            ),
            format!("{ratio:.3}"),
            format!("{:.0}", slowest.fold(0.0, f64::max)),
            format!(
                "{:.1}",
                contest.median(|(subject, _)| subject.main_us).value
            ),
            format!(
                "{:+.1}",
                contest.median(|(subject, twin)| subject.main_us - twin.main_us)
            ),
            format!("{:.1}", contest.median(|(subject, _)| subject.all_us).value),
            verdict.to_owned(),
        ]);
    }
    println!();
}

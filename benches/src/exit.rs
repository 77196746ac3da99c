//! How long an imap process lives on after its client has got the answer to LOGOUT.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::process;

use crate::figures::{Median, print_head, print_row};
use crate::subject::{Brokers, Subject, World};
use crate::workload::select_with_a_mail;

const POLL: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_secs(30);

/// What happens in the session before it ends.
#[derive(Clone, Copy)]
enum Session {
    WithoutEvent,
    /// LOGOUT right after the event: nothing is connected yet.
    EventAtOnce,
    /// The event is a second old.
    EventBefore,
}

pub(crate) fn run(world: &World) -> Result<()> {
    print_head(
        "From the answer to LOGOUT to the end of the process",
        &[
            "loaded",
            "session",
            "LOGOUT answered in s",
            "process gone after s",
        ],
    );
    line(world, Subject::Framework, Session::EventAtOnce)?;
    for instances in [1, 2] {
        let subject = |brokers| Subject::Kafka { instances, brokers };
        line(world, subject(Brokers::Up), Session::WithoutEvent)?;
        for brokers in Brokers::STATES {
            line(world, subject(brokers), Session::EventAtOnce)?;
            line(world, subject(brokers), Session::EventBefore)?;
        }
    }
    Ok(())
}

fn line(world: &World, subject: Subject, session: Session) -> Result<()> {
    let dovecot = world.start(subject, "exit")?;
    let rounds = world.rounds(5);
    let (mut answered, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (answer_s, exit_s) = once(&dovecot, session).with_context(|| subject.to_string())?;
        answered.push(answer_s);
        gone.push(exit_s);
    }
    let name = match session {
        Session::WithoutEvent => "no event",
        Session::EventAtOnce => "event, LOGOUT",
        Session::EventBefore => "event, 1 s, LOGOUT",
    };
    print_row(&[
        subject.to_string(),
        name.to_owned(),
        format!("{:.4}", Median::of(answered).value),
        format!("{:.3}", Median::of(gone)),
    ]);
    Ok(())
}

fn once(dovecot: &Dovecot, session: Session) -> Result<(f64, f64)> {
    let before = dovecot.pids("imap")?;
    let mut client = select_with_a_mail(dovecot, "alice")?;
    let pids = dovecot.pids("imap")?;
    let pid = *pids
        .iter()
        .rfind(|pid| !before.contains(pid))
        .context("no imap process")?;
    if !matches!(session, Session::WithoutEvent) {
        client.ok("STORE 1 +FLAGS (\\Flagged)")?;
        client.ok("STORE 1 -FLAGS (\\Flagged)")?;
    }
    if matches!(session, Session::EventBefore) {
        thread::sleep(Duration::from_secs(1));
    }
    let start = Instant::now();
    client.logout()?;
    let answered = Instant::now();
    while process::is_running(pid) {
        ensure!(answered.elapsed() < PATIENCE, "process {pid} does not end");
        thread::sleep(POLL);
    }
    Ok((
        (answered - start).as_secs_f64(),
        answered.elapsed().as_secs_f64(),
    ))
}

//! What twenty IMAP sessions at once hold after one STORE each.

use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_testkit::process::ProcessStats;

use crate::figures::{print_head, print_row};
use crate::proc::Memory;
use crate::subject::{Brokers, Subject, World};
use crate::workload::select_with_a_mail;

const SESSIONS: u32 = 20;
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) fn run(world: &World) -> Result<()> {
    print_head(
        &format!("{SESSIONS} sessions at once, one STORE each"),
        &[
            "loaded",
            "TCP connections to brokers",
            "threads",
            "PSS, MB",
            "PSS per session, MB",
        ],
    );
    let mut subjects = vec![Subject::Framework, Subject::Dlog];
    for brokers in [Brokers::Up, Brokers::ThreeUp] {
        subjects.extend([1, 2].map(|instances| Subject::Kafka { instances, brokers }));
    }
    for subject in subjects {
        print_row(&row(world, subject).with_context(|| subject.to_string())?);
    }
    Ok(())
}

fn row(world: &World, subject: Subject) -> Result<Vec<String>> {
    let dovecot = world.start(subject, "sessions")?;
    let mut clients = Vec::new();
    for i in 0..SESSIONS {
        clients.push(select_with_a_mail(&dovecot, &format!("alice{i}"))?);
    }
    let tcp_sockets = |pids: &[u32]| -> Result<usize> {
        pids.iter()
            .map(|pid| ProcessStats::of(*pid).map(|stats| stats.tcp_sockets))
            .sum()
    };
    let pids = dovecot.pids("imap")?;
    let before = tcp_sockets(&pids)?;
    for client in &mut clients {
        client.ok("STORE 1 +FLAGS (\\Seen)")?;
    }
    std::thread::sleep(SETTLED);
    let (mut threads, mut pss_kb) = (0, 0);
    for pid in &pids {
        threads += ProcessStats::of(*pid)?.threads;
        pss_kb += Memory::of(*pid)?.pss_kb;
    }
    let connections = tcp_sockets(&pids)? - before;
    let megabytes = f64::from(u32::try_from(pss_kb)?) / 1024.0;
    Ok(vec![
        subject.to_string(),
        connections.to_string(),
        threads.to_string(),
        format!("{megabytes:.1}"),
        format!("{:.2}", megabytes / f64::from(SESSIONS)),
    ])
}

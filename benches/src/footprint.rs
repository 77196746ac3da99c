//! What one imap process holds before and one second after its first event.

use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_testkit::process::ProcessStats;

use crate::figures::{print_head, print_row};
use crate::proc::Memory;
use crate::subject::{Brokers, Relays, Subject, World};
use crate::workload::select_with_a_mail;

const SUBJECTS: [Subject; 8] = [
    Subject::NoPlugins,
    Subject::Framework,
    Subject::Dlog,
    Subject::Relay(Relays::Up),
    Subject::Relay(Relays::Down),
    Subject::Kafka {
        instances: 1,
        brokers: Brokers::Up,
    },
    Subject::Kafka {
        instances: 2,
        brokers: Brokers::Up,
    },
    Subject::Kafka {
        instances: 1,
        brokers: Brokers::ThreeUp,
    },
];
const SETTLED: Duration = Duration::from_secs(1);

pub(crate) fn run(world: &World) -> Result<()> {
    print_head(
        "An imap process before and 1 s after its first event (median of several)",
        &[
            "loaded",
            "RSS kB",
            "private dirty kB",
            "VmSize kB",
            "threads",
            "descriptors",
        ],
    );
    for subject in SUBJECTS {
        print_row(&row(world, subject).with_context(|| subject.to_string())?);
    }
    Ok(())
}

fn row(world: &World, subject: Subject) -> Result<Vec<String>> {
    let dovecot = world.start(subject, "footprint")?;
    let mut before = Vec::new();
    let mut after = Vec::new();
    for round in 0..world.rounds(5) {
        let mut client = select_with_a_mail(&dovecot, &format!("alice{round}"))?;
        let pid = *dovecot.pids("imap")?.last().context("no imap process")?;
        before.push(columns(pid)?);
        client.ok("STORE 1 +FLAGS (\\Seen $label1)")?;
        std::thread::sleep(SETTLED);
        after.push(columns(pid)?);
        client.logout()?;
        dovecast_testkit::process::wait_exit(pid, Duration::from_secs(10))?;
    }
    let mut row = vec![subject.to_string()];
    for column in 0..COLUMNS {
        let (before, after) = (median(&before, column), median(&after, column));
        row.push(if before == after {
            before.to_string()
        } else {
            format!("{before} -> {after}")
        });
    }
    Ok(row)
}

const COLUMNS: usize = 5;

fn columns(pid: u32) -> Result<[u64; COLUMNS]> {
    let stats = ProcessStats::of(pid)?;
    Ok([
        stats.rss_kb,
        Memory::of(pid)?.private_dirty_kb,
        stats.vm_size_kb,
        stats.threads,
        stats.fds as u64,
    ])
}

fn median(rows: &[[u64; COLUMNS]], column: usize) -> u64 {
    let mut values: Vec<u64> = rows.iter().map(|row| row[column]).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

//! Figures of a process that the testkit does not need: time on a CPU, private and proportional
//! memory.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Time on a CPU so far.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    /// Time of the main thread, which serves the client.
    pub(crate) main: Duration,
    /// Time of all threads that run now.
    pub(crate) all: Duration,
}

impl CpuTime {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let main = task(pid, pid)?;
        let mut all = Duration::ZERO;
        for entry in fs::read_dir(format!("/proc/{pid}/task")).context("no list of threads")? {
            let name = entry?.file_name();
            // A thread may end while the list is read.
            if let Some(tid) = name.to_str().and_then(|name| name.parse().ok()) {
                all += task(pid, tid).unwrap_or_default();
            }
        }
        Ok(Self { main, all })
    }
}

/// Time on a CPU of all threads there have been; the kernel counts it in ticks of 10 ms.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    // Behind the name, which may hold anything: see proc_pid_stat(5), fields 14 and 15.
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks
        .sum::<Result<u64, _>>()
        .with_context(|| format!("`{text}` has no times"))?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The most memory it has had resident, kB.
pub(crate) fn peak_rss_kb(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kb.with_context(|| format!("`{path}` has no `VmHWM`"))
}

fn task(pid: u32, tid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/task/{tid}/schedstat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
    let ns = text.split(' ').next().and_then(|ns| ns.parse().ok());
    Ok(Duration::from_nanos(ns.with_context(|| {
        format!("`{path}` has no time: `{text}`")
    })?))
}

/// Memory in kB as `/proc/PID/smaps_rollup` counts it.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) private_dirty_kb: u64,
    /// Shared pages are divided by the number of processes that share them.
    pub(crate) pss_kb: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{path}`"))?;
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .with_context(|| format!("`{path}` has no `{name}`"))
        };
        Ok(Self {
            private_dirty_kb: field("Private_Dirty")?,
            pss_kb: field("Pss")?,
        })
    }
}

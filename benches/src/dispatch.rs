//! What the process `dovecast serve` takes for notifications over HTTP and their webhooks: time on
//! a CPU, memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::load::{Load, LoadOptions};
use dovecast_testkit::process::{ProcessStats, poll_until};
use dovecast_testkit::server::Server;

use crate::figures::{print_head, print_row};
use crate::proc::{cpu_time, peak_rss_kb};

/// Deliveries of a row.
const DELIVERIES: u64 = 200_000;
const CONNECTIONS: usize = 64;
/// Notifications of a request that has several.
const BATCH: u64 = 100;
const MESSAGE_BYTES: usize = 900;
const PATIENCE: Duration = Duration::from_mins(5);

pub(crate) fn run(rounds: Option<usize>) -> Result<()> {
    print_head(
        "The process `dovecast serve`: 1 kB over HTTP, 64 connections, to webhooks; embedded log and store",
        &[
            "endpoints",
            "notifications of a request",
            "deliveries",
            "1/s",
            "commits of 1000 notifications",
            "CPU s per 1000 deliveries",
            "RSS before, MiB",
            "RSS at the end, MiB",
            "peak, MiB",
        ],
    );
    for _ in 0..rounds.unwrap_or(3) {
        for (fan_out, batch) in [(1, 1), (10, 1), (1, BATCH), (10, BATCH)] {
            print_row(&row(fan_out, batch)?);
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "figures are not exact to so many digits"
)]
fn row(fan_out: u64, batch: u64) -> Result<Vec<String>> {
    let server = Server::builder()
        .release()
        .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
        .start()?;
    let token = server.account_token("load")?;
    let mut sinks = Vec::new();
    for number in 0..fan_out {
        let sink = HookEndpoint::start()?;
        server.endpoint(&token, (&number.to_string(), &sink.url()), "true")?;
        sinks.push(sink);
    }
    let pid = server.pid();
    let (idle, cpu) = (ProcessStats::of(pid)?.rss_kb, cpu_time(pid)?);
    let began = Instant::now();
    let options = LoadOptions {
        connections: CONNECTIONS,
        most: Some(DELIVERIES / fan_out),
        batch,
        message_bytes: MESSAGE_BYTES,
    };
    Load::start(server.address()?, &token, &options)?.wait()?;
    let delivered = || sinks.iter().map(|sink| sink.count() as u64).sum::<u64>();
    let all = poll_until(PATIENCE, || (delivered() >= DELIVERIES).then_some(()));
    all.with_context(|| format!("{} of {DELIVERIES} have arrived", delivered()))?;
    let took = began.elapsed();
    let cpu = cpu_time(pid)?.saturating_sub(cpu);
    let thousands = DELIVERIES as f64 / 1000.0;
    let commits = server.metric("dovecast_log_commit_seconds_count")?;
    let mib = |kb: u64| format!("{:.0}", kb as f64 / 1024.0);
    Ok(vec![
        fan_out.to_string(),
        batch.to_string(),
        delivered().to_string(),
        format!("{:.0}", DELIVERIES as f64 / took.as_secs_f64()),
        format!("{:.1}", commits * fan_out as f64 / thousands),
        format!("{:.4}", cpu.as_secs_f64() / thousands),
        mib(idle),
        mib(ProcessStats::of(pid)?.rss_kb),
        mib(peak_rss_kb(pid)?),
    ])
}

//! `dovecast bench dispatch`: how long notifications take to an endpoint of this host.
//!
//! They go the way of all others: into the topic of the log, through the dispatcher, signed, with
//! their attempts kept.

mod burst;
mod own_server;
mod sink;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::print;
use crate::access::Access;
use crate::cli::DispatchArguments;
use crate::config::{Config, LogKind};
use crate::control::client::{Benchmark, Client};
use burst::{Burst, Figures};
use own_server::OwnServer;
use sink::Sink;

/// Until a change of endpoints counts on other nodes.
const OTHER_NODES: Duration = Duration::from_secs(2);

/// Measures the server of this configuration, or one of its own.
pub(super) async fn dispatch(
    load: impl FnOnce() -> Result<Config>,
    arguments: &DispatchArguments,
) -> Result<()> {
    if !arguments.start {
        return measure(&load()?, arguments)
            .await
            .context("the benchmark has failed (`--start` runs a server for the benchmark alone)");
    }
    let server = OwnServer::start(arguments.listen).await?;
    let measured = measure(server.config(), arguments).await;
    let stopped = server.stop().await;
    measured.and(stopped)
}

async fn measure(config: &Config, arguments: &DispatchArguments) -> Result<()> {
    let client = Client::new(config);
    let address = SocketAddr::new(arguments.listen, 0);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let sink = Sink::start(listener)?;
    let access = Access::new(config)?;
    // From here on nobody is left alone with what was made.
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let benchmark = client.benchmark(sink.url()).await?;
    let through = Through {
        client: &client,
        access: &access,
        benchmark: &benchmark,
        sink: &sink,
    };
    let measured = tokio::select! {
        measured = bursts(config, &through, arguments) => measured,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    let removed = benchmark.end().await;
    measured.and(removed)
}

/// What bursts go through, from here and back to here.
struct Through<'a> {
    client: &'a Client,
    access: &'a Access,
    benchmark: &'a Benchmark,
    sink: &'a Sink,
}

async fn bursts(
    config: &Config,
    through: &Through<'_>,
    arguments: &DispatchArguments,
) -> Result<()> {
    if config.log.kind == LogKind::Kafka {
        tokio::time::sleep(OTHER_NODES).await;
    }
    if !arguments.json {
        print(Row::HEAD)?;
    }
    let mut rows = Vec::new();
    for count in &arguments.counts {
        let burst = Burst::new(
            &through.benchmark.made,
            &config.dispatch.outbox_topic,
            *count,
        )?;
        let patience = Duration::from_secs(arguments.patience);
        let row = Row::of(&burst.run(through.access, through.sink, patience).await?);
        if !arguments.json {
            print(&row.line())?;
        }
        let missing = row.missing;
        rows.push(row);
        if missing > 0 {
            break;
        }
    }
    if arguments.json {
        print(&(serde_json::to_string(&rows)? + "\n"))?;
    }
    let Some(Row { missing, count, .. }) = rows.last().filter(|row| row.missing > 0) else {
        return Ok(());
    };
    let endpoint = through.benchmark.made.endpoint;
    let attempts = through.client.attempts(endpoint, 1).await?;
    let said = match attempts.first() {
        Some(last) if !last.delivered => format!("the last attempt: {}", last.said),
        Some(_) => "the attempts that were made have succeeded".to_owned(),
        None => "no attempt was made".to_owned(),
    };
    bail!("{missing} of {count} notifications have not arrived; {said}")
}

/// What is printed of a burst.
#[derive(Serialize)]
struct Row {
    count: usize,
    seconds: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    duplicates: usize,
    missing: usize,
}

impl Row {
    const HEAD: &str =
        "  NOTIFICATIONS   SECONDS  PER SECOND    P50 MS    P99 MS  DUPLICATES   MISSING\n";

    #[expect(
        clippy::cast_precision_loss,
        reason = "figures are not exact to so many digits"
    )]
    fn of(figures: &Figures) -> Self {
        let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
        let seconds = figures.took.as_secs_f64();
        Self {
            count: figures.sent,
            seconds: (seconds * 1e4).round() / 1e4,
            per_second: (figures.latencies.len() as f64 / seconds.max(1e-9)).round(),
            p50_ms: ms(figures.latency(50)),
            p99_ms: ms(figures.latency(99)),
            duplicates: figures.duplicates,
            missing: figures.sent - figures.latencies.len(),
        }
    }

    fn line(&self) -> String {
        format!(
            "{:>15}{:>10.3}{:>12.0}{:>10.2}{:>10.2}{:>12}{:>10}\n",
            self.count,
            self.seconds,
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.duplicates,
            self.missing
        )
    }
}

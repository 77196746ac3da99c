//! What dispatchers cost a PostgreSQL: statements, time on a CPU and bytes for each thing that is
//! kept.
//!
//! Tables in markdown, on standard output. `--quick` shows only that it runs. It is the PostgreSQL
//! of the tests, which does not sync: times of a commit are not measured here.

#![expect(
    clippy::cast_precision_loss,
    reason = "figures are not exact to so many digits"
)]

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use dovecast_dispatch::ledger::{AttemptRow, Happened, Ledger, Owed, RangeId};
use dovecast_log::now_ms;
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::{
    DatabasePlace, FlowEdit, KeySource, NewEndpoint, Receiver, RetryPolicy, Store, StoreOptions,
};
use dovecast_testkit::postgres::Postgres;
use uuid::Uuid;

/// Bytes of a notification that is owed.
const CONTENT_BYTES: usize = 1_000;

fn main() -> Result<()> {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let postgres = match Postgres::start()? {
        Ok(postgres) => postgres,
        Err(reason) => {
            println!("left out: {reason}");
            return Ok(());
        }
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let rounds = if is_quick { 2 } else { 100 };
    runtime.block_on(measure(&postgres, rounds))
}

/// A database, and what of it is measured.
struct World<'a> {
    postgres: &'a Postgres,
    url: String,
    store: Store,
    endpoints: Vec<EndpointId>,
}

async fn measure(postgres: &Postgres, rounds: u64) -> Result<()> {
    let url = postgres.database()?;
    let dir = tempfile::tempdir()?;
    let place: DatabasePlace = url.parse()?;
    let mut options = StoreOptions::new(place);
    options.keys = KeySource::File(dir.path().join("secrets.key"));
    let store = Store::open(&options).await?;
    let mut world = World {
        postgres,
        url,
        store,
        endpoints: Vec::new(),
    };
    println!(
        "| what | of each | statements | CPU of PostgreSQL, us | WAL, bytes | at rest, bytes |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    world.idle("second of an idle dispatcher", rounds).await?;
    let count = rounds * 20;
    let before = world.figures()?;
    world.make_endpoints(count).await?;
    world.row("endpoint, made", count, &before, ENDPOINT_TABLES)?;
    for (name, endpoints, each, records) in [
        ("attempt alone in its transaction", 1, 1, rounds * 20),
        ("attempt, one to each of 40 endpoints", 40, 1, rounds * 4),
        ("attempt, one to each of 400 endpoints", 400, 1, rounds),
        ("attempt, 40 to each of 10 endpoints", 10, 40, rounds),
    ] {
        let all = world.endpoints.iter().copied();
        let endpoints: Vec<EndpointId> = all.take(endpoints).collect();
        world.empty("attempts")?;
        let before = world.figures()?;
        for round in 0..records {
            let attempts = attempts(&endpoints, each, round);
            world.store.record(&attempts).await?;
        }
        let count = records * (endpoints.len() * each) as u64;
        world.row(name, count, &before, &["attempts"])?;
    }
    let before = world.figures()?;
    for _ in 0..rounds {
        world.store.record(&owed(&world.endpoints)).await?;
    }
    let count = rounds * world.endpoints.len().min(200) as u64;
    world.row("delivery owed, 1 kB", count, &before, &["owed"])?;
    let before = world.figures()?;
    for round in 0..rounds {
        world.store.record(&ranges(&world.endpoints, round)).await?;
    }
    world.row("range owed", count, &before, &["owed_range"])?;
    world
        .idle("second of an idle dispatcher, much is owed", rounds)
        .await?;
    world.store.close().await;
    Ok(())
}

const ENDPOINT_TABLES: &[&str] = &[
    "endpoint",
    "filter",
    "filter_application",
    "filter_event_type",
    "filter_level",
    "change",
];

/// What has been spent so far.
struct Figures {
    statements: u64,
    cpu: Duration,
    wal: u64,
}

impl World<'_> {
    fn figures(&self) -> Result<Figures> {
        let wal = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        Ok(Figures {
            statements: self.store.statements(),
            cpu: cpu_of_family(self.postgres.process_id().context("it runs")?)?,
            wal: self.number(wal)?,
        })
    }

    fn number(&self, query: &str) -> Result<u64> {
        Ok(self.postgres.query(&self.url, query)?.trim().parse()?)
    }

    fn row(&self, name: &str, count: u64, before: &Figures, tables: &[&str]) -> Result<()> {
        let now = self.figures()?;
        let each = |all: u64| all as f64 / count as f64;
        let mut bytes = 0;
        for table in tables {
            bytes += self.number(&format!("SELECT pg_total_relation_size('{table}')"))?;
        }
        let cpu_us = u64::try_from(now.cpu.saturating_sub(before.cpu).as_micros())?;
        println!(
            "| {name} | {count} | {:.2} | {:.0} | {:.0} | {:.0} |",
            each(now.statements - before.statements),
            each(cpu_us),
            each(now.wal - before.wal),
            each(bytes),
        );
        Ok(())
    }

    fn empty(&self, table: &str) -> Result<()> {
        self.postgres
            .query(&self.url, &format!("TRUNCATE {table}"))?;
        Ok(())
    }

    async fn make_endpoints(&mut self, count: u64) -> Result<()> {
        let account = self.store.account_seen("1").await?;
        for number in 0..count {
            let new = NewEndpoint {
                name: format!("endpoint {number}"),
                receiver: Receiver::Webhook(format!("https://receiver.example.org/hooks/{number}")),
                active: true,
                server_ca_certificate: None,
                headers: None,
                credentials: None,
                retry_policy: RetryPolicy::Default,
                timeout_seconds: None,
                body: None,
                flow: FlowEdit::default(),
                filter: None,
            };
            let made = self
                .store
                .create_endpoint(account.id, &new, u64::MAX)
                .await?;
            self.endpoints.push(made.endpoint.id);
        }
        Ok(())
    }

    /// What a dispatcher asks while nothing happens: in two seconds it says twice that it lives,
    /// looks four times for what is due, and once for ranges.
    async fn idle(&self, name: &str, rounds: u64) -> Result<()> {
        let now_ms = now_ms();
        self.store.beat(now_ms, now_ms + 5_000).await?;
        let before = self.figures()?;
        for _ in 0..rounds {
            for _ in 0..2 {
                self.store.beat(now_ms, now_ms + 5_000).await?;
                self.store.claim_owed(now_ms, 500).await?;
                self.store.claim_owed(now_ms, 500).await?;
            }
            let topics = vec!["dovecot".into(), "hooks.outbox".into()];
            self.store.owing_ranges(now_ms, topics).await?;
        }
        self.row(name, 2 * rounds, &before, &[])
    }
}

fn attempts(endpoints: &[EndpointId], each: usize, round: u64) -> Vec<Happened> {
    let row = |endpoint: EndpointId| AttemptRow {
        endpoint,
        notification: NotificationId(Uuid::now_v7()),
        time_ms: 1_790_000_000_000 + i64::try_from(round).unwrap_or(0),
        number: 1,
        is_delivered: true,
        status: Some(204),
        latency_us: 1_234,
        said: String::new(),
    };
    let of = endpoints
        .iter()
        .flat_map(|id| std::iter::repeat_n(*id, each));
    of.map(row).map(Happened::Attempt).collect()
}

fn owed(endpoints: &[EndpointId]) -> Vec<Happened> {
    let owed = |endpoint: &EndpointId| Owed {
        note: String::new(),
        endpoint: *endpoint,
        notification: NotificationId(Uuid::now_v7()),
        content: Bytes::from("x".repeat(CONTENT_BYTES)),
        failures: 1,
        due_ms: i64::MAX / 2,
        reason: "HTTP 503".to_owned(),
        place: None,
    };
    let all = endpoints.iter().take(200);
    all.map(owed).map(Happened::Owed).collect()
}

fn ranges(endpoints: &[EndpointId], round: u64) -> Vec<Happened> {
    let range = |endpoint: &EndpointId| {
        let id = RangeId {
            endpoint: *endpoint,
            topic: "dovecot".into(),
            partition: u32::try_from(round).unwrap_or(0),
            start: 1_000_000,
        };
        Happened::Begun(id, 2_000_000)
    };
    endpoints.iter().take(200).map(range).collect()
}

/// Time on a CPU of a process and of its children, those that have ended included.
fn cpu_of_family(pid: u32) -> Result<Duration> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(format!("/proc/{number}/stat")) else {
            continue;
        };
        // Behind the name, which may hold anything: see proc_pid_stat(5), fields 4 and 14 to 17.
        let fields: Vec<&str> = text
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .collect();
        let field = |place: usize| {
            fields
                .get(place)
                .and_then(|field| field.parse::<u64>().ok())
        };
        let is_ours = number == pid || field(1) == Some(pid.into());
        let its = if number == pid { 11..15 } else { 11..13 };
        ticks += its.filter(|_| is_ours).filter_map(field).sum::<u64>();
    }
    Ok(Duration::from_millis(ticks * 10))
}

//! What the dispatcher takes in memory when bodies are large and endpoints, or the ledger, do not
//! take them. A process of its own, so that nothing else is measured.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dovecast_dispatch::ledger::{
    Claimed, Claiming, Debts, Happened, Ledger, LedgerError, Millis, OwedRange, TopicPartition,
};
use dovecast_dispatch::{
    Clock, Directory, DispatchOptions, Dispatcher, Endpoint, EvaluatorLimits, Source,
};
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::webhook::{Webhook, WebhookOptions};
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord};
use dovecast_notification::{Choice, EndpointId, Filter, OrderKey};
use tokio::net::TcpListener;
use uuid::Uuid;

const TOPIC: &str = "hooks.outbox";
const MB: usize = 1024 * 1024;
/// What the dispatcher is told that it may take.
const BUDGET_MB: usize = 24;
/// What it may take besides: what the log hands out to the consumer and to each reader, copies of
/// that, requests, the allocator's own.
const BESIDES_MB: usize = 64;
const READERS: usize = 2;
/// Many times what it may take.
const RECORDS: usize = 400;
const ENDPOINTS: u128 = 6;
const PATIENCE: Duration = Duration::from_mins(3);

/// Keeps nothing: what is written is gone from memory.
#[derive(Clone, Default)]
struct Forgetful(Arc<State>);

#[derive(Default)]
struct State {
    is_away: AtomicBool,
    dead: AtomicU64,
}

impl Forgetful {
    fn answer<T>(&self, value: T) -> Result<T, LedgerError> {
        if self.0.is_away.load(Ordering::Acquire) {
            return Err(LedgerError {
                doing: "write",
                place: "memory",
                reason: "it is away".to_owned(),
            });
        }
        Ok(value)
    }
}

impl Ledger for Forgetful {
    async fn record(&self, happened: &[Happened]) -> Result<(), LedgerError> {
        self.answer(())?;
        let is_dead = |happened: &&Happened| matches!(happened, Happened::Dead(_));
        let dead = happened.iter().filter(is_dead).count() as u64;
        self.0.dead.fetch_add(dead, Ordering::AcqRel);
        Ok(())
    }

    async fn beat(&self, _: Millis, _: Millis) -> Result<(), LedgerError> {
        self.answer(())
    }

    async fn leave(&self) -> Result<(), LedgerError> {
        self.answer(())
    }

    async fn claim(&self, _: Claiming) -> Result<Claimed, LedgerError> {
        self.answer(Claimed::default())
    }

    async fn debtors(&self, _: TopicPartition) -> Result<Vec<EndpointId>, LedgerError> {
        self.answer(Vec::new())
    }

    async fn take_over(
        &self,
        _: Millis,
        _: EndpointId,
        _: TopicPartition,
    ) -> Result<Debts, LedgerError> {
        self.answer(Debts::default())
    }

    async fn owed_keys(
        &self,
        _: EndpointId,
        _: Vec<OrderKey>,
    ) -> Result<Vec<OrderKey>, LedgerError> {
        self.answer(Vec::new())
    }

    async fn free_ranges(
        &self,
        _: Vec<EndpointId>,
    ) -> Result<Vec<(EndpointId, TopicPartition)>, LedgerError> {
        self.answer(Vec::new())
    }

    async fn owing_ranges(
        &self,
        _: Millis,
        _: Vec<Arc<str>>,
    ) -> Result<Vec<EndpointId>, LedgerError> {
        self.answer(Vec::new())
    }

    async fn partitions_of_free_ranges(&self) -> Result<Vec<TopicPartition>, LedgerError> {
        self.answer(Vec::new())
    }

    async fn end_free_ranges(
        &self,
        _: TopicPartition,
        _: u64,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        self.answer(Vec::new())
    }

    async fn claim_ranges_of(
        &self,
        _: Millis,
        _: usize,
        _: Vec<EndpointId>,
        _: Vec<Arc<str>>,
    ) -> Result<Vec<OwedRange>, LedgerError> {
        self.answer(Vec::new())
    }
}

/// In MiB, as the kernel says it.
fn status(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field));
    let kb = line.and_then(|line| line.split_whitespace().nth(1));
    kb.and_then(|kb| kb.parse::<usize>().ok())
        .expect("a number")
        / 1024
}

/// Takes connections, and never reads: what is sent stays in the kernel and with who sends.
async fn hanging() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            taken.push(stream);
        }
    });
    url
}

fn guard() -> Guard {
    Guard::new(&["127.0.0.0/8".parse().expect("a network")])
}

fn put(directory: &Directory, number: u128, url: &str) {
    let webhook = Webhook::new(&WebhookOptions {
        url: url.to_owned(),
        timeout: Duration::from_secs(3),
        ..WebhookOptions::default()
    });
    let id = EndpointId(Uuid::from_u128(number));
    let target = webhook
        .expect("a webhook")
        .target(guard(), Sockets::default());
    let endpoint = Endpoint {
        concurrency: 16,
        ..Endpoint::new(id, "1".into(), target)
    };
    let filter = Filter {
        endpoint: id,
        account: "1".into(),
        mail_account: None,
        enabled: true,
        applications: Choice::Any,
        event_types: Choice::Any,
        levels: Choice::Any,
        condition: None,
    };
    directory.put(endpoint, Some(filter));
}

async fn append(log: &Embedded, head: &str, tail: &str) {
    for number in 0..RECORDS {
        let value = format!("{head}{}{tail}", "x".repeat(MB - 200));
        let record = NewRecord {
            topic: Arc::from(TOPIC),
            key: Some(number.to_string().into()),
            value: value.into(),
            headers: Vec::new(),
            timestamp_ms: 0,
            id: None,
        };
        log.append(vec![record]).await.expect("room");
    }
}

async fn committed(log: &Embedded, records: u64) {
    let start = Instant::now();
    loop {
        let groups = log.groups().await.expect("groups");
        if groups.iter().map(|group| group.committed).sum::<u64>() >= records {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "never committed: {groups:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How much more memory was taken at a time while this was done than before.
async fn peak_mb(what: impl Future<Output = ()>) -> usize {
    // The peak counts from now on.
    fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let before = status("VmRSS:");
    what.await;
    status("VmHWM:").saturating_sub(before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_by_bytes_while_endpoints_hang_and_while_the_ledger_is_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("a log");
    let directory = Arc::<Directory>::default();
    let url = hanging().await;
    for number in 0..ENDPOINTS {
        put(&directory, number, &url);
    }
    let head = r#"{"application":"a","event_type":"e","level":null,"timestamp":"t","account_id":"1","message":""#;
    append(&log, head, "\"}").await;
    let ledger = Forgetful::default();
    let options = DispatchOptions {
        group: "dispatch".to_owned(),
        sources: BTreeMap::from([(TOPIC.to_owned(), Source::Outbox)]),
        in_flight: 10_000,
        in_flight_bytes: (BUDGET_MB * MB) as u64,
        readers: READERS,
        longest_attempt: Duration::from_hours(1),
        conditions: EvaluatorLimits::default(),
        clock: Clock::default(),
    };
    let mut dispatcher = None;
    let hanging = peak_mb(async {
        dispatcher = Some(Dispatcher::start(
            log.clone(),
            ledger.clone(),
            Arc::clone(&directory),
            options,
        ));
        // Nobody waits for who hangs.
        committed(&log, RECORDS as u64).await;
    })
    .await;
    // What is no notification is a dead letter, which is kept in memory as long as the ledger is
    // away.
    append(&log, "{", "}").await;
    ledger.0.is_away.store(true, Ordering::Release);
    let dispatcher = dispatcher.expect("it was started");
    let records = dispatcher.stats().records;
    let away = peak_mb(async {
        append(&log, "{", "}").await;
    });
    let away = away.await;
    assert!(dispatcher.stats().records < records + RECORDS as u64);
    ledger.0.is_away.store(false, Ordering::Release);
    committed(&log, 3 * RECORDS as u64).await;
    assert_eq!(ledger.0.dead.load(Ordering::Acquire), 2 * RECORDS as u64);
    dispatcher.stop().await;
    println!("{hanging} MiB at hanging endpoints, {away} MiB without a ledger");
    for peak in [hanging, away] {
        assert!(peak < BUDGET_MB + BESIDES_MB, "{hanging} and {away} MiB");
    }
}

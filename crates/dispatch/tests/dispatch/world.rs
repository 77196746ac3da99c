//! What every case begins with: a log, a ledger, endpoints, and a dispatcher that may be stopped
//! and started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dovecast_dispatch::driver::Target;
use dovecast_dispatch::schedule::Schedule;
use dovecast_dispatch::{
    Clock, Directory, DispatchOptions, Dispatcher, Endpoint, EvaluatorLimits, Source, Stats,
};
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::webhook::{Webhook, WebhookOptions};
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord};
use dovecast_notification::{Choice, EndpointId, Filter};
use tempfile::TempDir;
use uuid::Uuid;

use crate::ledger::Memory;
use crate::sink::Sink;

pub(crate) const OUTBOX: &str = "hooks.outbox";
pub(crate) const READERS: usize = 2;
/// Attempts at an endpoint at a time.
pub(crate) const CONCURRENCY: usize = 8;
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
/// How long a webhook is waited for, where a case does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A log, a ledger and endpoints, and perhaps a dispatcher.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) log: Embedded,
    pub(crate) ledger: Memory,
    pub(crate) directory: Arc<Directory>,
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(crate) in_flight: u64,
    pub(crate) longest_attempt: Duration,
    pub(crate) conditions: EvaluatorLimits,
    pub(crate) clock: Clock,
    pub(crate) in_flight_bytes: u64,
    sent: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_log(&EmbeddedOptions::default())
    }

    pub(crate) fn with_log(options: &EmbeddedOptions) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Embedded::open(dir.path(), options).expect("a log");
        Self {
            dir,
            log,
            ledger: Memory::default(),
            directory: Arc::default(),
            dispatcher: None,
            in_flight: 5_000,
            longest_attempt: Duration::from_hours(1),
            conditions: EvaluatorLimits::default(),
            clock: Clock::default(),
            in_flight_bytes: 64 * 1024 * 1024,
            sent: 0,
        }
    }

    pub(crate) fn start(&mut self) {
        self.start_with(self.log.clone());
    }

    /// With a log that is ours, or does more than it.
    pub(crate) fn start_with(&mut self, log: impl Log + Clone) {
        let options = DispatchOptions {
            group: "dispatch".to_owned(),
            sources: BTreeMap::from([(OUTBOX.to_owned(), Source::Outbox)]),
            in_flight: self.in_flight,
            in_flight_bytes: self.in_flight_bytes,
            readers: READERS,
            longest_attempt: self.longest_attempt,
            conditions: self.conditions,
            clock: self.clock.clone(),
        };
        self.dispatcher = Some(Dispatcher::start(
            log,
            self.ledger.clone(),
            Arc::clone(&self.directory),
            options,
        ));
    }

    pub(crate) fn put(&self, number: u128, sink: &Sink, change: impl FnOnce(&mut Endpoint)) {
        let mut endpoint = endpoint(number, sink);
        change(&mut endpoint);
        let filter = Filter {
            endpoint: endpoint.id,
            account: Box::from(&*endpoint.account),
            mail_account: None,
            enabled: true,
            applications: Choice::Any,
            event_types: Choice::Any,
            levels: Choice::Any,
            condition: None,
        };
        self.directory.put(endpoint, Some(filter));
    }

    /// Nothing of the log is for it.
    pub(crate) fn put_without_filter(&self, number: u128, sink: &Sink) {
        self.directory.put(endpoint(number, sink), None);
    }

    pub(crate) async fn append(&self, values: impl IntoIterator<Item = String>) {
        let new = |(number, value): (usize, String)| NewRecord {
            topic: Arc::from(OUTBOX),
            key: Some(Bytes::from((number % 50).to_string())),
            value: value.into(),
            headers: Vec::new(),
            timestamp_ms: 0,
            id: None,
        };
        let records = values.into_iter().enumerate().map(new).collect();
        self.log.append(records).await.expect("room");
    }

    /// Appends to another topic than the one that is dispatched.
    pub(crate) async fn append_to(&self, topic: &str, value: String) {
        let record = NewRecord {
            topic: Arc::from(topic),
            key: Some(Bytes::from_static(b"key")),
            value: value.into(),
            headers: Vec::new(),
            timestamp_ms: 0,
            id: None,
        };
        self.log.append(vec![record]).await.expect("room");
    }

    /// Sends one notification after the other for everybody, each with its key: `key number`.
    pub(crate) async fn notify_in_order(&self, of: impl IntoIterator<Item = (u32, u32)>) {
        let new = |(key, number): (u32, u32)| NewRecord {
            topic: Arc::from(OUTBOX),
            key: Some(Bytes::from(key.to_string())),
            value: notification(&format!(r#""{key} {number}""#)).into(),
            headers: Vec::new(),
            timestamp_ms: 0,
            id: None,
        };
        let records = of.into_iter().map(new).collect();
        self.log.append(records).await.expect("room");
    }

    /// Sends a number of notifications for everybody.
    pub(crate) async fn notify(&mut self, count: u32) {
        let numbers = self.sent..self.sent + count;
        self.sent += count;
        self.append(numbers.map(|number| notification(&number.to_string())))
            .await;
    }

    /// Everything that the log holds is committed, in partitions that nobody has committed yet,
    /// too.
    pub(crate) async fn committed(&self) {
        until("committed", || async {
            let topics = self.log.topics().await.expect("topics");
            let groups = self.log.groups().await.expect("groups");
            let dispatched = topics.iter().filter(|topic| &*topic.name == OUTBOX);
            let ends = dispatched.flat_map(|topic| {
                let partitions = (0_u32..).zip(&topic.partitions);
                partitions.map(|(partition, of)| (&topic.name, partition, of.end))
            });
            let mut filled = ends.filter(|(.., end)| *end > 0);
            filled.all(|(topic, partition, end)| {
                groups.iter().any(|group| {
                    (&group.topic, group.partition, group.committed) == (topic, partition, end)
                })
            })
        })
        .await;
    }

    /// The log is gone, as when its directory was removed: there is an empty one. Nothing may run.
    pub(crate) fn lose_log(&mut self) {
        let dir = tempfile::tempdir().expect("a directory");
        self.log = Embedded::open(dir.path(), &EmbeddedOptions::default()).expect("a log");
        self.dir = dir;
    }

    pub(crate) fn stats(&self) -> Stats {
        self.dispatcher.as_ref().expect("it runs").stats()
    }

    pub(crate) async fn stop(&mut self) {
        self.dispatcher.take().expect("it runs").stop().await;
    }
}

pub(crate) fn notification(message: &str) -> String {
    notification_of("1", message)
}

pub(crate) fn notification_of(account: &str, message: &str) -> String {
    format!(
        r#"{{"application":"a","event_type":"e","level":null,"timestamp":"t","message":{message},"account_id":"{account}"}}"#
    )
}

/// Loopback is allowed: that is where the receivers are.
pub(crate) fn guard() -> Guard {
    Guard::new(&["127.0.0.0/8".parse().expect("a network")])
}

pub(crate) fn endpoint(number: u128, sink: &Sink) -> Endpoint {
    let id = EndpointId(Uuid::from_u128(number));
    Endpoint {
        schedule: Schedule::new(vec![Duration::from_millis(100); 20], 0),
        concurrency: CONCURRENCY,
        ..Endpoint::new(id, "1".into(), target(sink, TIMEOUT))
    }
}

/// A webhook that waits `timeout` for an answer.
pub(crate) fn target(sink: &Sink, timeout: Duration) -> Arc<dyn Target> {
    Webhook::new(&WebhookOptions {
        url: format!("http://{}/", sink.address),
        timeout,
        ..WebhookOptions::default()
    })
    .expect("a webhook")
    .target(guard(), Sockets::default())
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn until_taken(sink: &Sink, count: u32) {
    until(&format!("{count} are taken"), || async {
        sink.distinct() >= count as usize
    })
    .await;
}

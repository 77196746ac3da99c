//! Dispatchers as they are shipped, many in one process: each with its own view of the log, the
//! store and the endpoints, each of which may be cut off from everything as if its machine were
//! gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Outcome, Target};
use dovecast_dispatch::schedule::Schedule;
use dovecast_dispatch::{
    Clock, Directory, DispatchOptions, Dispatcher, Endpoint, EvaluatorLimits, Source,
};
use dovecast_notification::{Choice, EndpointId, Filter};
use dovecast_store::{DatabasePlace, KeptPast, KeySource, Store, StoreOptions};
use tempfile::TempDir;
use uuid::Uuid;

use crate::ledger::{Claims, NodeLedger, Time, at_once};
use crate::log::{Cluster, Keys, NodeLog, TOPIC, mix};

/// Endpoints, each of an account of its own.
pub(crate) const ENDPOINTS: u64 = 16;
/// How often the past is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(5);
/// How long an endpoint takes to answer.
const LATENCY: Duration = Duration::from_millis(5);

/// Whether a node is cut off from everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

impl Cut {
    pub(crate) fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Returns at once, or never.
    pub(crate) async fn check(&self) {
        if self.is_cut() {
            std::future::pending::<()>().await;
        }
    }
}

/// What has arrived at the endpoints.
#[derive(Debug)]
pub(crate) struct Arrived {
    keys: Keys,
    /// How often, by partition and offset.
    counts: Vec<Mutex<Vec<u8>>>,
    /// By the number of the key: the last offset that came for the first time, and one more.
    last: Mutex<Vec<u64>>,
    /// Deliveries that came for the first time after a later one of their key: where nobody asks
    /// for order, and where the endpoint does.
    pub(crate) overtaken: [AtomicU64; 2],
    by_node: Mutex<BTreeMap<usize, u64>>,
    /// One delivery in so many fails the first time.
    fails_one_in: u64,
}

impl Arrived {
    /// Takes a delivery; `false`: it fails this time.
    fn take(&self, node: usize, delivery: &Delivery) -> bool {
        let notification = delivery.notifications.first().expect("never empty");
        let (partition, offset) = place(&notification.message);
        let is_first_try = delivery.number == 1;
        if is_first_try
            && mix(u64::from(partition) << 40 ^ offset ^ 7).is_multiple_of(self.fails_one_in)
        {
            return false;
        }
        let mut counts = self.counts[partition as usize]
            .lock()
            .expect("not poisoned");
        let at = usize::try_from(offset).expect("it fits");
        if counts.len() <= at {
            counts.resize(at + 1, 0);
        }
        counts[at] = counts[at].saturating_add(1);
        let is_first = counts[at] == 1;
        drop(counts);
        *self
            .by_node
            .lock()
            .expect("not poisoned")
            .entry(node)
            .or_default() += 1;
        if is_first {
            let key = self.keys.of(partition, offset);
            let is_ordered = is_ordered(endpoint_of(key));
            let key = usize::try_from(key).expect("it fits");
            let mut last = self.last.lock().expect("not poisoned");
            if last[key] > offset + 1 {
                self.overtaken[usize::from(is_ordered)].fetch_add(1, Ordering::Relaxed);
            }
            last[key] = last[key].max(offset + 1);
        }
        true
    }

    /// Records that arrived, and deliveries besides.
    pub(crate) fn distinct(&self) -> (u64, u64) {
        let mut distinct = 0;
        let mut more = 0;
        for counts in &self.counts {
            for count in counts.lock().expect("not poisoned").iter() {
                distinct += u64::from(*count > 0);
                more += u64::from(count.saturating_sub(1));
            }
        }
        (distinct, more)
    }

    /// Most and least deliveries of a node, of those that have made any.
    pub(crate) fn spread(&self) -> (usize, u64, u64) {
        let by_node = self.by_node.lock().expect("not poisoned");
        let least = by_node.values().min().copied().unwrap_or(0);
        (
            by_node.len(),
            least,
            by_node.values().max().copied().unwrap_or(0),
        )
    }
}

/// Partition and offset, as the message says.
fn place(message: &[u8]) -> (u32, u64) {
    let text = std::str::from_utf8(message).expect("JSON");
    let (partition, offset) = text.trim_matches(['[', ']']).split_once(',').expect("two");
    (
        partition.parse().expect("a number"),
        offset.parse().expect("a number"),
    )
}

#[derive(Clone, Debug)]
struct Receiver {
    node: usize,
    cut: Cut,
    arrived: Arc<Arrived>,
}

impl Target for Receiver {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Receiver::clone(&self))
    }
}

impl Courier for Receiver {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(async move {
            self.cut.check().await;
            tokio::time::sleep(LATENCY).await;
            // What was under way when the node was lost may have arrived all the same; here it has
            // not.
            self.cut.check().await;
            if !self.arrived.take(self.node, delivery) {
                return Attempt::failed("it fails once");
            }
            Attempt {
                note: None,
                outcome: Outcome::Delivered,
                answer: None,
                latency: LATENCY,
            }
        })
    }
}

/// One dispatcher.
struct Node {
    directory: Arc<Directory>,
    dispatcher: Dispatcher,
    cut: Cut,
    receiver: Arc<Receiver>,
}

/// All there is.
pub(crate) struct World {
    nodes: Vec<Node>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) store: Store,
    pub(crate) claims: Arc<Claims>,
    pub(crate) arrived: Arc<Arrived>,
    pub(crate) time: Arc<Time>,
    _dir: TempDir,
}

impl World {
    pub(crate) async fn new(keys: Keys, fails_one_in: u64) -> Self {
        let dir = dir();
        let time = Arc::new(Time::new());
        let place = DatabasePlace::Sqlite(dir.path().join("state.db"));
        let mut options = StoreOptions::new(place);
        options.keys = KeySource::File(dir.path().join("secrets.key"));
        options.clock = time.clock.clone();
        options.max_connections = 4;
        let partitions = keys.partitions as usize;
        let arrived = Arrived {
            keys,
            counts: std::iter::repeat_with(Mutex::default)
                .take(partitions)
                .collect(),
            last: Mutex::new(vec![0; usize::try_from(keys.count).expect("it fits")]),
            overtaken: <[AtomicU64; 2]>::default(),
            by_node: Mutex::default(),
            fails_one_in,
        };
        Self {
            nodes: Vec::new(),
            cluster: Cluster::new(keys),
            store: at_once(Store::open(&options)).await.expect("a store"),
            claims: Arc::default(),
            arrived: Arc::new(arrived),
            time,
            _dir: dir,
        }
    }

    /// One dispatcher more.
    pub(crate) fn start(&mut self) {
        let node = self.nodes.len();
        let cut = Cut::default();
        let receiver = Arc::new(Receiver {
            node,
            cut: cut.clone(),
            arrived: Arc::clone(&self.arrived),
        });
        let directory = Arc::<Directory>::default();
        for number in 0..ENDPOINTS {
            put(&directory, &receiver, number, false);
        }
        let log = NodeLog {
            cluster: Arc::clone(&self.cluster),
            node,
            cut: cut.clone(),
        };
        let ledger = NodeLedger {
            store: self.store.another_node(),
            node,
            time: Arc::clone(&self.time),
            claims: Arc::clone(&self.claims),
            cut: cut.clone(),
        };
        let options = DispatchOptions {
            group: "dispatch".to_owned(),
            sources: BTreeMap::from([(TOPIC.to_owned(), Source::Outbox)]),
            in_flight: 1_000,
            in_flight_bytes: 64 * 1024 * 1024,
            readers: 16,
            longest_attempt: Duration::from_hours(1),
            conditions: EvaluatorLimits {
                threads: 1,
                ..EvaluatorLimits::default()
            },
            clock: Clock::default(),
        };
        self.nodes.push(Node {
            dispatcher: Dispatcher::start(log, ledger, Arc::clone(&directory), options),
            directory,
            cut,
            receiver,
        });
    }

    /// Pauses some endpoints on all nodes, or has them go on.
    pub(crate) fn pause(&self, endpoints: u64, is_paused: bool) {
        for node in &self.nodes {
            for number in 0..endpoints {
                put(&node.directory, &node.receiver, number, is_paused);
            }
        }
    }

    /// Cuts a node off: nothing it asks is answered, and nothing it says is heard.
    pub(crate) fn lose(&self, node: usize) {
        self.nodes[node].cut.0.store(true, Ordering::Release);
    }

    /// From now on the past is forgotten as servers do it, but more of it: it is in memory.
    pub(crate) fn forget_the_past(&self) {
        let store = self.store.clone();
        let kept = KeptPast {
            attempt_rows: 50_000,
            ..KeptPast::default()
        };
        tokio::spawn(async move {
            loop {
                at_once(store.forget_past(kept)).await.expect("a store");
                tokio::time::sleep(FORGET_INTERVAL).await;
            }
        });
    }

    pub(crate) async fn stop(&mut self) {
        for node in self.nodes.drain(..).filter(|node| !node.cut.is_cut()) {
            node.dispatcher.stop().await;
        }
    }
}

/// Number of the endpoint that gets the records of a key.
pub(crate) fn endpoint_of(key: u64) -> u64 {
    mix(key) % ENDPOINTS
}

fn id_of(number: u64) -> EndpointId {
    EndpointId(Uuid::from_u128(u128::from(number) + 1))
}

/// Number of an endpoint.
pub(crate) fn number_of(id: EndpointId) -> u64 {
    u64::try_from(id.0.as_u128() - 1).expect("one of ours")
}

/// Every second endpoint wants the deliveries of a key in order.
pub(crate) fn is_ordered(number: u64) -> bool {
    !number.is_multiple_of(2)
}

fn put(directory: &Directory, receiver: &Arc<Receiver>, number: u64, is_paused: bool) {
    let id = id_of(number);
    let account = number.to_string();
    let endpoint = Endpoint {
        is_paused,
        schedule: Schedule::new(vec![Duration::from_secs(2); 20], 0),
        concurrency: 16,
        is_ordered: is_ordered(number),
        ..Endpoint::new(
            id,
            account.as_str().into(),
            Arc::clone(receiver) as Arc<dyn Target>,
        )
    };
    let filter = Filter {
        endpoint: id,
        account: account.into(),
        mail_account: None,
        enabled: true,
        applications: Choice::Any,
        event_types: Choice::Any,
        levels: Choice::Any,
        condition: None,
    };
    directory.put(endpoint, Some(filter));
}

/// In memory where that can be: thousands of commits are synced.
fn dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory")
}

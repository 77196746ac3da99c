//! Life of a node among those that run listeners: says that the node lives, in a task of its own,
//! however long a round of [`super::Caring`] takes.
//!
//! Two things end a life: the store was not told for as long as the life of a node, so that others
//! may have taken its leases; and a round hangs, so that others shall take them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;
use dovecast_store::{NODE_LIFE_MS, Store};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::push::counters::{Count, Counters};

/// How often a node says that it lives, and learns who else does: five times within the life of a
/// node.
const BEAT_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time that a round takes: a hundred thousand listeners are begun within some seconds. One
/// that takes longer hangs, and its node lives no more.
pub(in crate::push) const ROUND_LIMIT: Duration = Duration::from_mins(2);
/// How long a node says nothing whose round has hung: it is dead after half of it, and others have
/// the other half to see that and take its mailboxes.
const REST: Duration = Duration::from_millis(2 * NODE_LIFE_MS.unsigned_abs());

static LINES: LineLimit = LineLimit::a_minute(1);

/// The nodes that live, while this one does.
type Nodes = Option<Arc<[String]>>;

/// Says that the node lives, until this is dropped.
pub(super) struct Life {
    nodes: watch::Receiver<Nodes>,
    round: Arc<Mutex<Option<Instant>>>,
    given_up: Arc<Notify>,
    _beating: JoinSet<()>,
}

/// A round that goes on until this is dropped.
pub(super) struct Working<'a>(&'a Mutex<Option<Instant>>);

/// What says that the node lives.
struct Beat {
    store: Store,
    counters: Arc<Counters>,
    nodes: watch::Sender<Nodes>,
    /// Since when a round goes on, if one does.
    round: Arc<Mutex<Option<Instant>>>,
    /// Told when a round has hung.
    given_up: Arc<Notify>,
    /// When the store was told last.
    beaten: Option<Instant>,
}

impl Life {
    pub(super) fn begin(store: &Store, counters: &Arc<Counters>) -> Self {
        let (sender, nodes) = watch::channel(None);
        let (round, given_up) = (Arc::default(), Arc::<Notify>::default());
        let beat = Beat {
            store: store.clone(),
            counters: Arc::clone(counters),
            nodes: sender,
            round: Arc::clone(&round),
            given_up: Arc::clone(&given_up),
            beaten: None,
        };
        let mut beating = JoinSet::new();
        beating.spawn(beat.run());
        Self {
            nodes,
            round,
            given_up,
            _beating: beating,
        }
    }

    /// The nodes that live; waits until this one does. `None`: what says so has panicked.
    pub(super) async fn nodes(&self) -> Option<Arc<[String]>> {
        // What is left of a life whose beat has panicked is no life.
        self.nodes.has_changed().ok()?;
        let mut nodes = self.nodes.clone();
        let living = nodes.wait_for(Option::is_some).await.ok()?;
        living.clone()
    }

    /// Returns when others live than these, or when this node does not.
    pub(super) async fn has_others_than(&self, nodes: &[String]) {
        let mut living = self.nodes.clone();
        let are_others = |living: &Nodes| living.as_deref() != Some(nodes);
        // What has panicked says nothing more.
        let _ = living.wait_for(are_others).await;
    }

    /// Returns when this node does not live.
    pub(super) async fn is_over(&self) {
        let mut nodes = self.nodes.clone();
        // What has panicked says nothing more.
        let _ = nodes.wait_for(Option::is_none).await;
    }

    /// Ends this life, as a round has hung: others take the mailboxes before the next one begins.
    /// Returns when it is over.
    pub(super) async fn give_up(&self) {
        self.given_up.notify_one();
        self.is_over().await;
    }

    /// A round begins. One that takes too long ends the life.
    pub(super) fn working(&self) -> Working<'_> {
        *locked(&self.round) = Some(Instant::now());
        Working(&self.round)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        *locked(self.0) = None;
    }
}

impl Beat {
    async fn run(mut self) {
        loop {
            self.beat().await;
            if self.left().is_zero() && self.end() {
                tracing::error!(
                    "this node could not say in time that it lives: other nodes hear its mailboxes until it can"
                );
            }
            // A life ends in time, also between two beats.
            let pause = self.limit().min(BEAT_INTERVAL);
            let given_up = Arc::clone(&self.given_up);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = given_up.notified() => self.rest().await,
            }
        }
    }

    /// Lets others take the mailboxes.
    async fn rest(&mut self) {
        if self.end() {
            tracing::error!(
                "this node does not say that it lives for a while, so that others hear its mailboxes"
            );
        }
        self.beaten = None;
        tokio::time::sleep(REST).await;
    }

    async fn beat(&mut self) {
        if self.hangs() {
            return;
        }
        let began = Instant::now();
        match tokio::time::timeout(self.limit(), self.store.beat_push_node()).await {
            Ok(Ok(nodes)) => {
                self.beaten = Some(began);
                self.nodes.send_replace(Some(nodes.into()));
            }
            Ok(Err(error)) => trouble(&format!("{:#}", anyhow::Error::from(error))),
            Err(_) => trouble("the store has not answered in time"),
        }
    }

    /// What is left of the life.
    fn left(&self) -> Duration {
        let age = self.beaten.map_or(life(), |at| at.elapsed());
        life().saturating_sub(age)
    }

    /// How long may be waited for anything: no longer than the life lasts.
    fn limit(&self) -> Duration {
        let is_alive = self.nodes.borrow().is_some();
        if is_alive { self.left() } else { life() }
    }

    fn hangs(&self) -> bool {
        locked(&self.round).is_some_and(|since| since.elapsed() >= ROUND_LIMIT)
    }

    /// Ends the life; `false`: it had ended before.
    fn end(&self) -> bool {
        let has_ended = self.nodes.send_replace(None).is_some();
        self.counters.add(Count::NodeLost, u64::from(has_ended));
        has_ended
    }
}

/// How long a node lives without saying so.
fn life() -> Duration {
    Duration::from_millis(u64::try_from(NODE_LIFE_MS).unwrap_or_default())
}

fn trouble(error: &str) {
    if LINES.take() {
        tracing::warn!(
            error,
            "the store cannot be told that this node lives; this is retried"
        );
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

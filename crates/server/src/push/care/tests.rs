//! Listeners that end: what they write is finished where others go on, and none is left behind.

use std::future::pending;
use std::iter;

use dovecast_event::Flags;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::sources::{Heard, HeardSink, Snapshot, What};
use futures_util::FutureExt;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::Instant;

use super::*;
use crate::push::tests::World;
use crate::push::wiring::acts;

/// A task of a listener says here that it is gone.
struct Gone(Option<oneshot::Sender<()>>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.take().map(|gone| gone.send(()));
    }
}

/// A node that has the lease of one person.
pub(super) struct Node {
    listeners: Listeners,
    pub(super) person: Person,
    lease: Lease,
    _log: Embedded,
}

impl Node {
    pub(super) async fn new(world: &World) -> Self {
        let config = Config::parse("[mail_push]").expect("a configuration");
        let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
        let log = log.expect("a log");
        let logs = Logs::of(&config, &log).expect("logs");
        let acts = acts(&config, &world.store, &world.ports).expect("acts");
        let of_push = (&News::default(), &Arc::default());
        let needs = (&world.store, acts.vault());
        let listeners = Listeners::start(&config, &logs, needs, of_push).expect("listeners");
        let person = Person::new("3", "11", "11@3").expect("a person");
        let store = &world.store;
        store.beat_push_node().await.expect("a node");
        let leases = store.take_leases(std::slice::from_ref(&person)).await;
        let lease = leases.expect("leases").pop().expect("a lease");
        let sink = &listeners.parts.sink;
        sink.has_leased(lease.clone(), SourceKind::ImapIdle);
        Self {
            listeners,
            person,
            lease,
            _log: log,
        }
    }

    pub(super) fn sink(&self) -> &Sink {
        &self.listeners.parts.sink
    }

    /// All turns with the store.
    pub(super) fn turns(&self) -> Vec<SemaphorePermit<'_>> {
        iter::from_fn(|| self.sink().turn().now_or_never().flatten()).collect()
    }

    /// Begins a listener that writes something once, and then nothing for ever; returns when it
    /// writes. What is returned is told when it is gone.
    async fn begin(&self) -> oneshot::Receiver<()> {
        let (sender, gone) = oneshot::channel();
        let (sink, person) = (Arc::clone(&self.listeners.parts.sink), self.person.clone());
        let gone_with_it = Gone(Some(sender));
        let task = tokio::spawn(async move {
            let _gone = gone_with_it;
            assert!(
                sink.take(&person, &[flagged(9)], &Snapshot::default())
                    .await
            );
            pending::<()>().await;
        });
        let running = Running {
            lease: self.lease.clone(),
            wish: Wish {
                source: SourceKind::ImapIdle,
                is_permanent: true,
                credentials: None,
                is_leaving: false,
            },
            tasks: vec![task],
        };
        locked(&self.listeners.running).insert(self.person.clone(), running);
        while self.sink().quiet(&self.person).now_or_never().is_some() {
            tokio::task::yield_now().await;
        }
        gone
    }
}

pub(super) fn flagged(uid: u32) -> Heard {
    Heard {
        mailbox: "INBOX".into(),
        uidvalidity: 7,
        what: What::FlagsSet {
            uid,
            flags: Flags::FLAGGED,
        },
        unseen: None,
    }
}

#[tokio::test]
async fn what_a_listener_writes_is_finished_where_another_node_goes_on_or_the_process_stops() {
    for stops in [false, true] {
        let world = World::new().await;
        let node = Node::new(&world).await;
        let turns = node.turns();
        let gone = node.begin().await;
        let mut end = if stops {
            node.listeners.stop()
        } else {
            node.listeners.end(&node.person, Ending::Handed)
        };
        assert!(end.as_mut().now_or_never().is_none());
        drop(turns);
        end.await;
        let known = world.store.heard(&node.person).await.expect("a store");
        assert!(known.is_some(), "whoever comes next would tell it again");
        gone.await.expect("it is gone");
    }
}

#[tokio::test]
async fn a_listener_whose_lease_is_lost_ends_at_once() {
    let world = World::new().await;
    let node = Node::new(&world).await;
    let _turns = node.turns();
    let gone = node.begin().await;
    tokio::time::pause();
    let began = Instant::now();
    node.listeners.end(&node.person, Ending::Lost).await;
    assert!(began.elapsed().is_zero(), "it was waited for");
    gone.await.expect("it is gone");
}

#[tokio::test]
async fn a_listener_whose_end_was_cut_short_is_ended_once_more() {
    let world = World::new().await;
    let node = Node::new(&world).await;
    let _turns = node.turns();
    let gone = node.begin().await;
    let mut end = node.listeners.end(&node.person, Ending::Handed);
    assert!(end.as_mut().now_or_never().is_none());
    drop(end);
    node.listeners.end(&node.person, Ending::Lost).await;
    gone.await.expect("it is gone");
}

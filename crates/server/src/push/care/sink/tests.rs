//! Listeners ask the store a few at a time, and finish what they write.

use dovecast_event::Flags;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, Reader, StartAt};
use dovecast_mail_push::placement::Wish;
use dovecast_mail_push::sources::What;
use futures_util::FutureExt;

use super::*;
use crate::push::care::Running;
use crate::push::tests::World;

/// A sink, its log, and a person who is heard with it.
async fn sink_of(world: &World) -> (Arc<Sink>, Embedded, Person) {
    let config = Config::parse("[mail_push]").expect("a configuration");
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let log = log.expect("a log");
    let logs = Logs::of(&config, &log).expect("logs");
    let sink = Sink::new(&config, &logs, &world.store).expect("a sink");
    let joe = Person::new("3", "11", "11@3").expect("a person");
    let store = &world.store;
    store.beat_push_node().await.expect("a node");
    let leases = store.take_leases(std::slice::from_ref(&joe)).await;
    let lease = leases.expect("leases").pop().expect("a lease");
    sink.has_leased(lease, SourceKind::ImapIdle);
    (Arc::new(sink), log, joe)
}

fn turns(sink: &Sink) -> Vec<SemaphorePermit<'_>> {
    let turn = |_| sink.turn().now_or_never().flatten().expect("a turn");
    (0..ASKED_AT_ONCE).map(turn).collect()
}

fn flagged(uid: u32) -> Heard {
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
async fn few_listeners_ask_the_store_at_a_time() {
    let world = World::new().await;
    let (sink, _log, joe) = sink_of(&world).await;
    let store = &world.store;
    let mut turns = turns(&sink);
    let before = store.statements();
    let mut holds = sink.holds(&joe);
    let mut known = Box::pin(sink.known(&joe));
    for _ in 0..100 {
        assert!(holds.as_mut().now_or_never().is_none());
        assert!(known.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(store.statements(), before);
    // One turn is enough for both, one after the other.
    turns.pop();
    let (is_held, known) = tokio::join!(holds, known);
    assert!(is_held && known.is_none());
}

#[tokio::test]
async fn a_listener_that_is_ended_finishes_what_it_writes() {
    let world = World::new().await;
    let (sink, log, joe) = sink_of(&world).await;
    let turns = turns(&sink);
    let (of_task, person) = (Arc::clone(&sink), joe.clone());
    let running = Running {
        lease: sink.leased(&joe).expect("a lease"),
        wish: Wish {
            source: SourceKind::ImapIdle,
            is_permanent: true,
            credentials: None,
            is_leaving: false,
        },
        tasks: vec![tokio::spawn(async move {
            let snapshot = Snapshot::default();
            assert!(of_task.take(&person, &[flagged(9)], &snapshot).await);
            // It would go on for ever.
            std::future::pending::<()>().await;
        })],
    };
    // It writes, and waits for its turn with the store.
    while sink.quiet(&joe).now_or_never().is_some() {
        tokio::task::yield_now().await;
    }
    let mut end = Box::pin(running.end(&sink));
    assert!(end.as_mut().now_or_never().is_none());
    drop(turns);
    end.await;
    let known = world.store.heard(&joe).await.expect("a store");
    assert!(known.is_some(), "the next one would tell it again");
    let mut reader = log.reader("dovecot", StartAt::Beginning).await.expect("it");
    let records = reader.next().await.expect("what was heard");
    assert_eq!(records.len(), 1);
}

#[test]
fn what_was_cut_off_while_it_was_written_was_not_told() {
    let told = Mutex::new(EventIds::new(10, REMEMBERED_FOR));
    let heard = [flagged(1), flagged(2)];
    let first = Telling::begin(&told, "joe", &heard[..1]);
    assert_eq!(first.events.len(), 1);
    drop(first);
    let both = Telling::begin(&told, "joe", &heard);
    assert_eq!(both.events.len(), 2);
    both.keep();
    assert!(Telling::begin(&told, "joe", &heard).events.is_empty());
}

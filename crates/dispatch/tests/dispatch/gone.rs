//! Receivers that say that they are gone: they are asked no more, and what one has said at an
//! address that it had before ends nothing. Neither does a failure there. Endpoints that are
//! deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dovecast_dispatch::Endpoint;
use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Outcome, Target};
use dovecast_dispatch::schedule::Schedule;
use dovecast_notification::EndpointId;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::panics::Mined;
use crate::sink::Sink;
use crate::world::{World, until, until_taken};

const SENT: u32 = 50;

/// Says that it is gone, or something else, as often as it may.
#[derive(Debug)]
struct Leaving {
    says: Outcome,
    asked: AtomicUsize,
    may_answer: Semaphore,
}

impl Leaving {
    fn new(answers: usize) -> Arc<Self> {
        let reason = "gone".to_owned();
        Self::saying(answers, Outcome::Gone { reason })
    }

    fn saying(answers: usize, says: Outcome) -> Arc<Self> {
        Arc::new(Self {
            says,
            asked: AtomicUsize::new(0),
            may_answer: Semaphore::new(answers),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

struct Farewell(Arc<Leaving>);

impl Target for Leaving {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Farewell(self))
    }
}

impl Courier for Farewell {
    fn deliver<'a>(&'a mut self, _: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(async {
            self.0.asked.fetch_add(1, Ordering::Relaxed);
            let answer = self.0.may_answer.acquire().await;
            answer.expect("it is never closed").forget();
            Attempt {
                note: None,
                outcome: self.0.says.clone(),
                answer: None,
                latency: Duration::ZERO,
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_asked_no_more_before_that_is_written() {
    let mut world = World::new();
    let (leaving, sink) = (Leaving::new(Semaphore::MAX_PERMITS), Sink::start().await);
    world.put(1, &sink, |endpoint| {
        endpoint.target = Arc::clone(&leaving) as Arc<dyn Target>;
        endpoint.concurrency = 1;
    });
    world.start();
    world.notify(SENT).await;
    world.committed().await;
    world.stop().await;
    let kept = world.ledger.kept();
    assert!(!kept.disabled.is_empty());
    // Now and then it is asked again, as long as the store has not switched it off.
    let most = SENT as usize / 5;
    assert!(leaving.asked() < most, "{} attempts", leaving.asked());
    assert_eq!(kept.dead.len(), leaving.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farewell_from_the_place_before_ends_nothing() {
    let mut world = World::new();
    let (leaving, sink) = (Leaving::new(0), Sink::start().await);
    world.put(1, &sink, |endpoint| {
        endpoint.target = Arc::clone(&leaving) as Arc<dyn Target>;
        endpoint.concurrency = 1;
    });
    world.start();
    world.notify(1).await;
    until("it is asked", || async { leaving.asked() == 1 }).await;
    // Somebody mends the endpoint meanwhile.
    world.put(1, &sink, |_| {});
    world.notify(1).await;
    until_taken(&sink, 1).await;
    leaving.may_answer.add_permits(Semaphore::MAX_PERMITS);
    until_taken(&sink, 2).await;
    world.committed().await;
    world.stop().await;
    let kept = world.ledger.kept();
    assert_eq!((kept.disabled.len(), kept.dead.len()), (0, 0));
}

/// By the policy of hooks-backend a dead letter ends the use of an endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_what_an_endpoint_was_is_not_the_last_attempt_and_switches_nothing_off() {
    let failed = || Outcome::Failed {
        reason: "refused".to_owned(),
        retry_after: None,
    };
    let refused = || Outcome::Refused {
        reason: "refused".to_owned(),
    };
    // With a receiver of another address, or the same one that was saved again.
    for (says, is_moved) in [(failed(), true), (failed(), false), (refused(), true)] {
        let mut world = World::new();
        let sink = Sink::start().await;
        let before = Leaving::saying(0, says);
        let hooks = |endpoint: &mut Endpoint| {
            // No attempt follows a failure.
            endpoint.schedule = Schedule::new(Vec::new(), 0);
            endpoint.is_disabled_by_failure = true;
        };
        let at_before = |endpoint: &mut Endpoint| {
            hooks(endpoint);
            endpoint.target = Arc::clone(&before) as Arc<dyn Target>;
        };
        world.put(1, &sink, at_before);
        world.start();
        world.notify(1).await;
        until("it is asked", || async { before.asked() == 1 }).await;
        // Somebody mends the endpoint meanwhile.
        world.put(1, &sink, |endpoint| {
            if is_moved {
                hooks(endpoint);
            } else {
                at_before(endpoint);
            }
            endpoint.saved_ms = 1;
        });
        before.may_answer.add_permits(1);
        until("the failure is noted", || async {
            !world.ledger.kept().attempts.is_empty()
        })
        .await;
        if is_moved {
            until_taken(&sink, 1).await;
        } else {
            until("it is asked once more", || async { before.asked() == 2 }).await;
        }
        {
            let kept = world.ledger.kept();
            assert_eq!((kept.disabled.len(), kept.dead.len()), (0, 0));
        }
        before.may_answer.add_permits(1);
        world.committed().await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_owes_that_is_deleted_goes_unread() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| endpoint.is_paused = true);
    let log = Mined::new(&world);
    world.start_with(log.clone());
    world.notify(1_000).await;
    world.committed().await;
    assert!(!world.ledger.kept().ranges.is_empty());
    log.mine_readers(1);
    world.directory.remove(EndpointId(Uuid::from_u128(1)));
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    // What comes finds it behind no more.
    world.notify(10).await;
    world.committed().await;
    assert_eq!((log.mines_of_readers(), sink.asked()), (1, 0));
    let stats = world.stats();
    world.stop().await;
    assert_eq!((stats.panics, world.ledger.kept().ranges.len()), (0, 0));
}

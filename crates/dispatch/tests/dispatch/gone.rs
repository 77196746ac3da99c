//! Receivers that say that they are gone: they are asked no more, and what one has said at an
//! address that it had before ends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Outcome, Target};
use tokio::sync::Semaphore;

use crate::sink::Sink;
use crate::world::{World, until, until_taken};

const SENT: u32 = 50;

/// Says that it is gone, as often as it may.
#[derive(Debug)]
struct Leaving {
    asked: AtomicUsize,
    may_answer: Semaphore,
}

impl Leaving {
    fn new(answers: usize) -> Arc<Self> {
        Arc::new(Self {
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
                outcome: Outcome::Gone {
                    reason: "gone".to_owned(),
                },
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
    assert!(!kept.switched_off.is_empty());
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
    assert_eq!((kept.switched_off.len(), kept.dead.len()), (0, 0));
}

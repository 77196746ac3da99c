//! Drivers that do what none should: panic at every step, never end, say what makes no sense. It
//! costs their own attempts.

use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dovecast_dispatch::driver::{Answer, Attempt, Boxed, Courier, Delivery, Outcome, Target};
use dovecast_dispatch::schedule::Schedule;

use crate::sink::Sink;
use crate::world::{World, until, until_taken};

const SENT: u32 = 30;

/// How a driver misbehaves.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Authority,
    Open,
    /// Before there is a future.
    Call,
    Attempt,
    Closed,
    Hangs,
    Garbage,
}

#[derive(Debug)]
struct Wild {
    fault: Fault,
    attempts: AtomicU32,
}

struct WildCourier(Arc<Wild>);

impl Target for Wild {
    fn authority(&self) -> Option<&str> {
        assert!(!matches!(self.fault, Fault::Authority), "no authority");
        None
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        assert!(!matches!(self.fault, Fault::Open), "it does not open");
        Box::new(WildCourier(self))
    }
}

impl Courier for WildCourier {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        let attempts = self.0.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(!matches!(self.0.fault, Fault::Call), "no future");
        assert!(delivery.number > 0 && !delivery.notifications.is_empty());
        let fault = self.0.fault;
        Box::pin(async move {
            match fault {
                Fault::Attempt => panic!("on the way"),
                Fault::Hangs => pending().await,
                Fault::Garbage => garbage(attempts),
                _ => Attempt {
                    note: None,
                    outcome: Outcome::Delivered,
                    answer: None,
                    latency: Duration::ZERO,
                },
            }
        })
    }

    fn closed(&mut self) -> Boxed<'_, ()> {
        assert!(!matches!(self.0.fault, Fault::Closed), "not closed");
        Box::pin(pending())
    }
}

/// An outcome, an answer and times that do not go together.
fn garbage(attempts: u32) -> Attempt {
    let failed = Outcome::Failed {
        reason: "\0\u{1F4A9}".repeat(100_000),
        retry_after: Some(Duration::MAX),
    };
    let (outcome, status) = match attempts % 3 {
        0 => (failed, Some(200)),
        1 => (Outcome::Delivered, Some(u16::MAX)),
        _ => (
            Outcome::Refused {
                reason: String::new(),
            },
            None,
        ),
    };
    Attempt {
        note: None,
        outcome,
        answer: Some(Answer {
            status,
            head: "\0".repeat(1_000_000),
        }),
        latency: Duration::MAX,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_panics_hangs_or_says_nonsense_costs_its_own_attempts() {
    let mut world = World::new();
    world.longest_attempt = Duration::from_millis(1);
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    let faults = [
        Fault::Authority,
        Fault::Open,
        Fault::Call,
        Fault::Attempt,
        Fault::Closed,
        Fault::Hangs,
        Fault::Garbage,
    ];
    let wild = faults.map(|fault| {
        Arc::new(Wild {
            fault,
            attempts: AtomicU32::new(0),
        })
    });
    for (number, wild) in (2..).zip(&wild) {
        world.put(number, &sink, |endpoint| {
            endpoint.target = Arc::clone(wild) as Arc<dyn Target>;
            endpoint.schedule = Schedule::new(vec![Duration::from_hours(1)], 0);
        });
    }
    world.start();
    world.notify(SENT).await;
    until_taken(&sink, SENT).await;
    world.committed().await;
    until("each has tried", || async {
        let stats = world.stats();
        let tried = |wild: &Arc<Wild>| wild.attempts.load(Ordering::Relaxed) > 0;
        // Two of them panic before there can be an attempt.
        stats.panics >= 4 && wild[2..].iter().all(tried)
    })
    .await;
    until("what hangs is ended", || async {
        let kept = world.ledger.kept();
        let is_ended = |said: &str| said.starts_with("the driver has not ended its attempt within");
        kept.attempts.iter().any(|row| is_ended(&row.said))
    })
    .await;
    world.notify(SENT).await;
    until_taken(&sink, 2 * SENT).await;
    world.committed().await;
    world.stop().await;
    let kept = world.ledger.kept();
    let longest = kept.attempts.iter().map(|row| row.said.len()).max();
    assert!(
        longest.is_some_and(|longest| longest <= 4 * 4096),
        "{longest:?}"
    );
}

/// A target for which nothing can be made that is sent, at a host that it shares with others.
#[derive(Debug, Default)]
struct Wordless(AtomicU32);

struct WordlessCourier(Arc<Wordless>);

impl Target for Wordless {
    fn authority(&self) -> Option<&str> {
        Some("shared.example:443")
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(WordlessCourier(self))
    }
}

impl Courier for WordlessCourier {
    fn deliver<'a>(&'a mut self, _: &'a Delivery) -> Boxed<'a, Attempt> {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Attempt::not_made("the template has an error") })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_says_nothing_of_the_host() {
    /// Less than what opens the breaker of an endpoint.
    const ATTEMPTS: u32 = 8;
    let mut world = World::new();
    let sink = Sink::start().await;
    let wordless: [Arc<Wordless>; 10] = Default::default();
    for (number, wordless) in (1..).zip(&wordless) {
        world.put(number, &sink, |endpoint| {
            endpoint.target = Arc::clone(wordless) as Arc<dyn Target>;
            endpoint.schedule = Schedule::new(vec![Duration::from_millis(1); 100], 0);
        });
    }
    world.start();
    world.notify(1).await;
    // As if each were alone at it: with a host that is down all would wait for one probe.
    until("each is tried again by its own schedule", || async {
        let tried = |wordless: &Arc<Wordless>| wordless.0.load(Ordering::Relaxed) >= ATTEMPTS;
        wordless.iter().all(tried)
    })
    .await;
    world.stop().await;
}

/// Notes how often it was called, and fails; what it was told of earlier calls.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<String>>);

struct NotingCourier(Arc<Noting>);

impl Target for Noting {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(NotingCourier(self))
    }
}

impl Courier for NotingCourier {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        let mut told = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(delivery.note.clone());
        let mut attempt = match told.len() {
            0..5 => Attempt::failed("not now"),
            _ => Attempt::refused("never"),
        };
        // Nothing new, once, and far too much.
        attempt.note = match told.len() {
            2 => None,
            4 => Some("x".repeat(1_000_000)),
            calls => Some(format!("{calls} calls")),
        };
        Box::pin(async { attempt })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_driver_notes_is_there_at_the_next_attempt_and_after_a_restart() {
    let mut world = World::new();
    let sink = Sink::start().await;
    let noting = Arc::new(Noting::default());
    world.put(1, &sink, |endpoint| {
        endpoint.target = Arc::clone(&noting) as Arc<dyn Target>;
        endpoint.schedule = Schedule::new(vec![Duration::from_millis(1); 100], 0);
    });
    world.start();
    world.notify(1).await;
    let calls = || {
        noting
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    };
    until("it was called", || async { calls() > 0 }).await;
    world.stop().await;
    world.start();
    until("it is given up", || async {
        world.ledger.kept().dead.len() == 1
    })
    .await;
    world.stop().await;
    let told = noting
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    assert_eq!(told, ["", "1 calls", "1 calls", "3 calls", "3 calls"]);
    assert_eq!(world.ledger.kept().dead[0].note, "5 calls");
}

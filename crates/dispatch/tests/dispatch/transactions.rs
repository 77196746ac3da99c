//! Receivers that are told of whole mailbox transactions: whatever fails, and however often the
//! dispatcher is started anew, each transaction comes to its end, in order, and none is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Outcome, Part, Target, Unit};
use dovecast_dispatch::ledger::{BEHIND, Owed};
use dovecast_dispatch::schedule::Schedule;
use dovecast_event::{Header, header_name};
use dovecast_log::{Log, NewRecord};
use uuid::Uuid;

use crate::sink::Sink;
use crate::world::{OUTBOX, World, notification, until};

const KEYS: u32 = 20;
const OF_EACH: u32 = 12;
/// More events than are delivered together.
const LARGE: u32 = 250;

/// Takes what it gets, but for every seventh attempt.
#[derive(Debug, Default)]
struct Receiver {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    attempts: u32,
    /// Key, transaction and place of each event that was taken, and the part it came in.
    events: Vec<(u32, u32, u32, Part)>,
    /// Whether everything is refused.
    refuses: bool,
}

impl Receiver {
    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transactions that were taken to their end.
    fn ended(&self) -> BTreeSet<(u32, u32)> {
        let taken = self.taken();
        let last = taken.events.iter().filter(|(.., part)| part.is_last);
        last.map(|(key, number, ..)| (*key, *number)).collect()
    }
}

struct Taker(Arc<Receiver>);

impl Target for Receiver {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn unit(&self) -> Unit {
        Unit::Transaction
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Taker(self))
    }
}

impl Courier for Taker {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        let mut taken = self.0.taken();
        if taken.refuses {
            return Box::pin(async { Attempt::refused("never") });
        }
        taken.attempts += 1;
        if taken.attempts.is_multiple_of(7) {
            return Box::pin(async { Attempt::failed("not now") });
        }
        for notification in &delivery.notifications {
            let message: String = serde_json::from_slice(&notification.message).expect("a text");
            let mut numbers = message
                .split(' ')
                .map(|number| number.parse().expect("one"));
            let mut next = || numbers.next().expect("three numbers");
            taken.events.push((next(), next(), next(), delivery.part));
        }
        Box::pin(async {
            Attempt {
                note: None,
                outcome: Outcome::Delivered,
                answer: None,
                latency: Duration::ZERO,
            }
        })
    }
}

fn patient() -> Schedule {
    Schedule::new(vec![Duration::from_millis(50); 10_000], 0)
}

/// Events in a transaction.
fn events(number: u32) -> u32 {
    if number == 5 { LARGE } else { 1 + number % 4 }
}

/// Writes one transaction of each key, those of all keys in between each other.
async fn write(world: &World, number: u32) {
    let record = |key: u32, seq: u32| {
        let header = |name: &str, value: String| Header {
            name: Arc::from(name),
            value: Bytes::from(value),
        };
        let id = Uuid::from_u64_pair(key.into(), number.into());
        let mut headers = vec![
            header(header_name::TXN, id.to_string()),
            header(header_name::TXN_SEQ, seq.to_string()),
        ];
        if seq + 1 == events(number) {
            headers.push(header(header_name::TXN_LAST, "1".to_owned()));
        }
        NewRecord {
            topic: Arc::from(OUTBOX),
            key: Some(Bytes::from(key.to_string())),
            value: notification(&format!(r#""{key} {number} {seq}""#)).into(),
            headers,
            timestamp_ms: 0,
            id: None,
        }
    };
    let of_keys = |seq| (0..KEYS).map(move |key| record(key, seq));
    let records = (0..events(number)).flat_map(of_keys).collect();
    world.log.append(records).await.expect("room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transaction_comes_to_its_end_in_order_whatever_fails() {
    let mut world = World::new();
    let receiver = Arc::new(Receiver::default());
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| {
        endpoint.target = Arc::clone(&receiver) as Arc<dyn Target>;
        endpoint.is_ordered = true;
        endpoint.schedule = patient();
    });
    for number in 0..OF_EACH {
        if number % 4 == 0 {
            world.start();
        }
        write(&world, number).await;
        if number % 4 == 3 {
            world.stop().await;
        }
    }
    world.start();
    until("all have ended", || async {
        receiver.ended().len() == (KEYS * OF_EACH) as usize
    })
    .await;
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.ranges.is_empty() && kept.owed.is_empty()
    })
    .await;
    world.committed().await;
    world.stop().await;
    let taken = receiver.taken();
    let mut came: BTreeMap<u32, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for (key, number, seq, part) in &taken.events {
        assert!(part.success, "{key} {number} was cut off");
        let of_key = came.entry(*key).or_default();
        if of_key.insert((*number, *seq)) {
            assert_eq!(of_key.last(), Some(&(*number, *seq)), "of {key}");
        }
    }
    let all = (0..OF_EACH).flat_map(|number| (0..events(number)).map(move |seq| (number, seq)));
    let all: BTreeSet<_> = all.collect();
    assert!(came.len() == KEYS as usize && came.values().all(|of_key| *of_key == all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_of_a_transaction_is_redelivered_as_one() {
    let mut world = World::new();
    let receiver = Arc::new(Receiver::default());
    receiver.taken().refuses = true;
    let sink = Sink::start().await;
    world.put(1, &sink, |endpoint| {
        endpoint.target = Arc::clone(&receiver) as Arc<dyn Target>;
        endpoint.is_ordered = true;
        endpoint.schedule = patient();
    });
    world.start();
    for number in [2, 3] {
        write(&world, number).await;
    }
    let all = ((events(2) + events(3)) * KEYS) as usize;
    until("all is given up", || async {
        world.ledger.kept().dead.len() == all
    })
    .await;
    // As a store redelivers letters: of each key the first in the log is due.
    let letters = std::mem::take(&mut world.ledger.kept().dead);
    let mut owed: BTreeMap<_, Owed> = BTreeMap::new();
    for letter in letters {
        let together = letter.together.expect("a transaction");
        let id = letter.endpoint.expect("an endpoint");
        let place = (together.place.key, together.place.offset);
        let row = Owed {
            note: String::new(),
            endpoint: id,
            notification: letter.notification,
            content: letter.content,
            failures: 0,
            due_ms: BEHIND,
            reason: String::new(),
            place: Some(together.place),
        };
        owed.insert(place, row);
    }
    let keys: BTreeSet<_> = owed.keys().map(|(key, _)| *key).collect();
    assert_eq!(keys.len(), KEYS as usize);
    receiver.taken().refuses = false;
    {
        let mut kept = world.ledger.kept();
        let mut last = None;
        for ((key, _), mut row) in owed {
            if last.replace(key) != Some(key) {
                row.due_ms = 0;
            }
            let id = (row.endpoint, row.notification);
            kept.owed.insert(id, (row, false));
        }
    }
    until("all is taken", || async {
        receiver.ended().len() == 2 * KEYS as usize
    })
    .await;
    world.stop().await;
    let taken = receiver.taken();
    for key in 0..KEYS {
        let of_key = taken.events.iter().filter(|(of, ..)| *of == key);
        let of_key: Vec<_> = of_key
            .map(|(_, number, seq, part)| (*number, *seq, *part))
            .collect();
        let of = |number: u32| (0..events(number)).map(move |seq| (number, seq, Part::WHOLE));
        let expected: Vec<_> = of(2).chain(of(3)).collect();
        assert_eq!(of_key, expected, "of {key}");
    }
}

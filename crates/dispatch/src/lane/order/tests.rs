//! Lines of keys beside a ledger that is nothing but lists: whatever happens, nothing of a key is
//! delivered for the first time behind something newer, and nothing is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dovecast_notification::{EndpointId, Notification, NotificationId};
use tracing::Span;
use uuid::Uuid;

use super::*;
use crate::clock::Clock;
use crate::driver::nowhere;
use crate::endpoint::Endpoint;
use crate::item::{Origin, ReadTogether, What};
use crate::lane::State;
use crate::ledger::{BEHIND, Millis, OwedRange, RangeId};
use crate::recorder::Recorder;
use crate::room::Share;

const TOPIC: &str = "t";

pub(in crate::lane) fn place(key: u64, offset: u64) -> KeyPlace {
    KeyPlace {
        of: TopicPartition {
            topic: Arc::from(TOPIC),
            partition: 0,
        },
        key: OrderKey::new("", TOPIC, 0, &key.to_be_bytes()),
        offset,
        log: None,
    }
}

pub(in crate::lane) fn item(recorder: &Arc<Recorder>, place: KeyPlace, is_owed: bool) -> Item {
    let id = NotificationId(Uuid::from_u128(place.offset.into()));
    let origin = if is_owed {
        Origin::Owed
    } else {
        let topic = &place.of.topic;
        Origin::live(&ReadTogether::new(Vec::new()), topic, 0, place.offset)
    };
    let what = What {
        content: None,
        endpoint: EndpointId(Uuid::nil()),
        notification: Arc::new(Notification {
            id,
            application: "a".into(),
            event_type: "e".into(),
            level: None,
            account: "1".into(),
            timestamp: Bytes::from_static(b"1"),
            message: Bytes::from_static(b"1"),
            key: None,
            headers: Vec::new(),
        }),
        failures: 0,
        span: Span::none(),
        order: Some(Arc::new(place)),
    };
    Item::new(recorder, what, origin)
}

/// A range of the partition that places are in.
pub(in crate::lane) fn range(from: u64, to: u64) -> OwedRange {
    let of = place(1, 0).of;
    let id = RangeId {
        endpoint: EndpointId(Uuid::nil()),
        topic: of.topic,
        partition: of.partition,
        start: from,
    };
    OwedRange { id, from, to }
}

/// The lane of an endpoint that wants order.
pub(in crate::lane) fn in_order() -> State {
    let mut endpoint = Endpoint::new(EndpointId(Uuid::nil()), "1".into(), nowhere());
    endpoint.is_ordered = true;
    State::new(Arc::new(endpoint), Share::alone())
}

pub(in crate::lane) fn offset(item: &Item) -> u64 {
    item.order.as_ref().map_or(0, |place| place.offset)
}

#[test]
fn a_key_waits_for_the_one_before_it_and_other_keys_do_not() {
    let recorder = Arc::new(Recorder::new(&Clock::default()));
    let mut order = Order::default();
    let mut enter = |key, offset| match order.enter(
        item(&recorder, place(key, offset), false),
        0,
        Ends::Awaited,
    ) {
        Entered::Ready(item) => {
            item.abandon();
            true
        }
        Entered::Waits => false,
        Entered::Joins(_) => panic!("nothing is owed"),
    };
    assert!(enter(1, 0) && !enter(1, 1) && enter(2, 2) && !enter(1, 3));
    for expected in [Some(1), Some(3), None] {
        let (next, joins) = order.over(&place(1, 0), Over::Done, 1);
        assert_eq!((next.as_ref().map(offset), joins.len()), (expected, 0));
        next.into_iter().for_each(Item::abandon);
    }
    order.over(&place(2, 2), Over::Done, 1);
    assert!(order.is_empty());
}

#[test]
fn behind_a_dead_letter_a_key_goes_on_when_that_is_written() {
    let recorder = Arc::new(Recorder::new(&Clock::default()));
    let mut order = Order::default();
    let enter = |order: &mut Order, offset, written| match order.enter(
        item(&recorder, place(1, offset), false),
        written,
        Ends::Awaited,
    ) {
        Entered::Ready(item) => {
            item.abandon();
            None
        }
        Entered::Waits => panic!("nothing is under way"),
        Entered::Joins(Joining { item, due, .. }) => {
            item.abandon();
            Some(due)
        }
    };
    assert_eq!(enter(&mut order, 0, 4), None);
    order.over(&place(1, 0), Over::Dead, 5);
    // It would be the first that is owed.
    assert_eq!(enter(&mut order, 1, 4), Some(Due::Now));
    assert_eq!(enter(&mut order, 2, 9), Some(Due::Behind));
    let mut order = Order::default();
    assert_eq!(enter(&mut order, 0, 4), None);
    order.over(&place(1, 0), Over::Dead, 5);
    assert_eq!(enter(&mut order, 1, 5), None);
}

#[test]
fn a_line_that_is_full_leaves_more_to_the_ledger() {
    let recorder = Arc::new(Recorder::new(&Clock::default()));
    let mut order = Order::default();
    let mut joined = 0;
    for offset in 0..2 * LINE as u64 {
        match order.enter(item(&recorder, place(1, offset), false), 0, Ends::Awaited) {
            Entered::Ready(item) => item.abandon(),
            Entered::Waits => {}
            Entered::Joins(joining) => {
                joining.item.abandon();
                joined += 1;
            }
        }
    }
    assert_eq!(joined, LINE - 1);
    order
        .take_waiting(|_| true)
        .into_iter()
        .for_each(Item::abandon);
}

/// What the ledger has of a key: by offset, when it is due, and whether it is claimed.
type Rows = BTreeMap<u64, (Millis, bool)>;

/// A lane with its ledger, in which anything may happen next.
struct Model {
    recorder: Arc<Recorder>,
    order: Order,
    queue: Vec<Item>,
    under_way: Vec<Item>,
    rows: BTreeMap<OrderKey, Rows>,
    /// Writes that are not written yet: a row that is made, given back or gone.
    unwritten: Vec<(KeyPlace, Option<Millis>)>,
    batch: u64,
    written: u64,
    sent: u64,
    delivered: BTreeMap<OrderKey, Vec<u64>>,
    dead: BTreeSet<u64>,
    random: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            recorder: Arc::new(Recorder::new(&Clock::default())),
            order: Order::default(),
            queue: Vec::new(),
            under_way: Vec::new(),
            rows: BTreeMap::new(),
            unwritten: Vec::new(),
            batch: 0,
            written: 0,
            sent: 0,
            delivered: BTreeMap::new(),
            dead: BTreeSet::new(),
            random: seed,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn step(&mut self, may_fail: bool) {
        match self.random(8) {
            0 | 1 if may_fail => self.send(),
            2 => self.begin(),
            3 | 4 => self.end(may_fail),
            5 => self.write(),
            6 => self.claim(),
            7 if may_fail => {
                let joins = self.order.take_live();
                self.join(joins);
            }
            _ => self.check_held(),
        }
    }

    fn send(&mut self) {
        let place = place(self.random(3), self.sent);
        self.sent += 1;
        let item = item(&self.recorder, place, false);
        match self.order.enter(item, self.written, Ends::Awaited) {
            Entered::Ready(item) => self.queue.push(item),
            Entered::Waits => {}
            Entered::Joins(joining) => self.join(vec![joining]),
        }
    }

    fn begin(&mut self) {
        if !self.queue.is_empty() {
            let item = self.queue.remove(0);
            self.under_way.push(item);
        }
    }

    fn end(&mut self, may_fail: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let at = usize::try_from(self.random(self.under_way.len() as u64)).unwrap_or(0);
        let item = self.under_way.remove(at);
        let place = item.order.as_deref().cloned().expect("a place");
        let is_row = item.is_owed();
        let over = match self.random(6) {
            0 if may_fail => Over::Owed,
            1 if may_fail => Over::Dead,
            _ => Over::Done,
        };
        match over {
            Over::Done => {
                let of_key = self.delivered.entry(place.key).or_default();
                of_key.push(place.offset);
            }
            Over::Dead => drop(self.dead.insert(place.offset)),
            Over::Owed => self.unwritten.push((place.clone(), Some(0))),
        }
        if is_row && over != Over::Owed {
            self.unwritten.push((place.clone(), None));
        }
        item.abandon();
        let (next, joins) = self.order.over(&place, over, self.batch + 1);
        self.queue.extend(next);
        self.join(joins);
    }

    fn join(&mut self, joins: Vec<Joining>) {
        for Joining { item, due, .. } in joins {
            let place = item.order.as_deref().cloned().expect("a place");
            let due_ms = if due == Due::Behind { BEHIND } else { 0 };
            self.unwritten.push((place.clone(), Some(due_ms)));
            item.abandon();
        }
    }

    /// As the store does it: what is there stays due as it is, but for what is given back.
    fn write(&mut self) {
        self.batch += 1;
        // What joins what is owed from now on is written with the next one.
        drop(self.recorder.take(0));
        self.recorder.wrote_taken();
        for (place, due_ms) in std::mem::take(&mut self.unwritten) {
            let rows = self.rows.entry(place.key).or_default();
            match due_ms {
                Some(due_ms) => drop(rows.insert(place.offset, (due_ms, false))),
                None => drop(rows.remove(&place.offset)),
            }
            if let Some((due_ms, _)) = rows.values_mut().next()
                && *due_ms == BEHIND
            {
                *due_ms = 0;
            }
        }
        self.written = self.batch;
    }

    fn claim(&mut self) {
        let key = OrderKey::new("", TOPIC, 0, &self.random(3).to_be_bytes());
        let most = usize::try_from(1 + self.random(3)).unwrap_or(1);
        let Some(rows) = self.rows.get_mut(&key) else {
            return;
        };
        if rows
            .values()
            .next()
            .is_none_or(|(due_ms, is_claimed)| *is_claimed || *due_ms > 0)
        {
            return;
        }
        let is_more = rows.len() > most || rows.values().any(|(_, is_claimed)| *is_claimed);
        let mut run = Vec::new();
        for (offset, (_, is_claimed)) in rows.iter_mut().take(most) {
            if std::mem::replace(is_claimed, true) {
                break;
            }
            run.push(*offset);
        }
        let of_key = |offset| KeyPlace {
            key,
            ..place(0, offset)
        };
        if !self.order.accepts(key, self.written) {
            let behind = run.into_iter().map(of_key);
            self.unwritten
                .extend(behind.map(|place| (place, Some(BEHIND))));
            return;
        }
        for offset in run {
            let item = item(&self.recorder, of_key(offset), true);
            if let Entered::Ready(item) = self.order.enter(item, 0, Ends::Awaited) {
                self.queue.push(item);
            }
        }
        if is_more {
            self.order.hold(key);
        } else {
            self.order.is_complete(key, self.written);
        }
    }

    fn check_held(&mut self) {
        for owing in self.order.owing(self.written) {
            let rows = self
                .rows
                .get_mut(&owing.key)
                .filter(|rows| !rows.is_empty());
            match rows {
                None => self.order.owes_nothing(&owing),
                Some(rows) => {
                    if let Some((due_ms, _)) = rows.values_mut().next()
                        && *due_ms == BEHIND
                    {
                        *due_ms = 0;
                    }
                }
            }
        }
    }

    /// Nothing came behind something newer, and in the end all came that is not dead.
    fn check(&mut self) {
        for _ in 0..100_000 {
            self.step(false);
            if self.order.is_empty() && self.unwritten.is_empty() {
                break;
            }
        }
        let mut came: BTreeSet<u64> = BTreeSet::new();
        for offsets in self.delivered.values() {
            assert!(offsets.is_sorted(), "{offsets:?}");
            came.extend(offsets);
        }
        let missing =
            (0..self.sent).find(|offset| !came.contains(offset) && !self.dead.contains(offset));
        assert_eq!(missing, None, "{:?}", self.rows);
        assert!(self.order.is_empty());
    }
}

#[test]
fn whatever_fails_each_key_is_delivered_in_order_and_to_its_end() {
    for seed in 0..100 {
        let mut model = Model::new(seed);
        for _ in 0..2_000 {
            model.step(true);
        }
        model.check();
    }
}

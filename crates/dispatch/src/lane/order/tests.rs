//! Lines of keys beside a ledger that is nothing but lists: whatever happens, nothing of a key is
//! delivered for the first time behind something newer, and nothing is forgotten.

mod model;

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
        Entered::Joins(Joining { item, due }) => {
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

#[test]
fn what_comes_behind_what_is_claimed_of_a_key_does_not_hold_it_back() {
    let recorder = Arc::new(Recorder::new(&Clock::default()));
    let mut order = Order::default();
    let key = place(1, 0).key;
    let join = |order: &mut Order, offset, batch| {
        let item = item(&recorder, place(1, offset), false);
        let entered = order.enter(item, 0, Ends::Awaited);
        let Entered::Joins(joining) = entered else {
            panic!("something is owed");
        };
        joining.item.abandon();
        if let Some(batch) = batch {
            order.joined(key, 1, batch);
        }
    };
    order.hold(key);
    join(&mut order, 5, Some(1));
    assert!(!order.accepts(key, 5, 0) && order.accepts(key, 5, 1));
    for batch in 2..30 {
        join(&mut order, 5 + batch, Some(batch));
        assert!(order.accepts(key, 4 + batch, batch - 1));
        assert!(!order.accepts(key, 5 + batch, batch - 1));
    }
    // It is not with the recorder yet, and stands before others.
    join(&mut order, 7, None);
    assert!(order.accepts(key, 6, 29) && !order.accepts(key, 7, 29));
    order.joined(key, 1, 30);
    assert!(!order.accepts(key, 7, 29) && order.accepts(key, 40, 30));
}

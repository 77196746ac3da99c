//! What is gathered between two writes: in order, and of each range what has become of it.

use std::sync::Arc;

use bytes::Bytes;
use dovecast_notification::NotificationId;
use uuid::Uuid;

use super::*;
use crate::ledger::Owed;
use Happened::{
    Begun, Disabled, Done, Ended, FailedAgain, GivenBack, Grown, Postponed, Progress, Released,
    Unwanted, UnwantedRange,
};

fn range(start: u64) -> RangeId {
    RangeId {
        endpoint: EndpointId(Uuid::nil()),
        topic: Arc::from("t"),
        partition: 0,
        start,
    }
}

fn id(number: u128) -> OwedId {
    (
        EndpointId(Uuid::nil()),
        NotificationId(Uuid::from_u128(number)),
    )
}

fn owed(number: u128) -> Owed {
    let (endpoint, notification) = id(number);
    Owed {
        note: String::new(),
        endpoint,
        notification,
        content: Bytes::new(),
        failures: 0,
        due_ms: 0,
        reason: String::new(),
        place: None,
    }
}

fn gathered(all: &[Happened]) -> Gathered {
    let mut gathered = Gathered::default();
    for happened in all {
        gathered.push(happened.clone());
    }
    gathered
}

fn check(said: &[Happened], expected: &[Happened]) {
    let taken = gathered(said).take().into_list();
    assert_eq!(taken, expected, "{said:?}");
}

#[test]
fn deliveries_are_taken_in_the_order_in_which_they_were_said() {
    let said = [
        Happened::UnderWay(owed(1)),
        Done(id(1)),
        // Read again, after it was done.
        Happened::Owed(owed(1)),
        GivenBack(owed(2)),
        Unwanted(id(2)),
        FailedAgain(owed(3)),
    ];
    check(&said, &said);
}

#[test]
fn of_a_range_what_has_become_of_it_is_taken() {
    let (one, two) = (|| range(1), || range(2));
    check(
        &[
            Grown(two(), 7),
            Progress(one(), 4),
            Grown(two(), 9),
            Progress(one(), 3),
        ],
        &[Progress(one(), 4), Grown(two(), 9)],
    );
    check(
        &[Grown(one(), 9), Ended(one(), 9), Progress(one(), 9)],
        &[Grown(one(), 9), Progress(one(), 9), Ended(one(), 9)],
    );
    check(
        &[Released(one()), UnwantedRange(two()), Progress(one(), 5)],
        &[Progress(one(), 5), Released(one()), UnwantedRange(two())],
    );
    // Two threads, of which the second was faster.
    check(&[Grown(one(), 9), Begun(one(), 5)], &[Begun(one(), 9)]);
    check(&[Begun(one(), 5), Grown(one(), 9)], &[Begun(one(), 9)]);
}

#[test]
fn nothing_that_was_said_before_holds_for_a_range_that_begins_anew() {
    let before: [fn(RangeId) -> Happened; 4] = [
        |id| Progress(id, 8),
        |id| Ended(id, 9),
        Released,
        UnwantedRange,
    ];
    for before in before {
        check(
            &[before(range(1)), Begun(range(1), 5)],
            &[Begun(range(1), 5)],
        );
        let after = [Begun(range(1), 5), before(range(1))];
        check(&after, &after);
    }
}

#[test]
fn an_endpoint_is_disabled_once_for_the_last_reason() {
    let disabled = |why: &str| Disabled(EndpointId(Uuid::nil()), why.to_owned());
    check(&[disabled("one"), disabled("two")], &[disabled("two")]);
}

#[test]
fn due_times_come_last_and_no_more_than_one_transaction_takes() {
    let mut gathered = Gathered::default();
    let due = |number| (id(number), 5);
    let few = POSTPONED_AT_A_TIME as u128;
    let unwritten = Permits::default();
    gathered.postpone(vec![due(0)], &unwritten);
    gathered.postpone((0..few + 2).map(due).collect(), &unwritten);
    gathered.push(FailedAgain(owed(1)));
    assert_eq!((gathered.waiting(), gathered.attempts()), (1, 0));
    let first = gathered.take();
    let first = first.into_list();
    assert_eq!(first.len(), 1_001);
    assert_eq!(first.first(), Some(&FailedAgain(owed(1))));
    let rest = [few, few + 1].map(|number| Postponed(id(number), 5));
    assert_eq!(gathered.take().into_list(), rest);
    assert_eq!(gathered.take().into_list(), []);
    assert_eq!(gathered.waiting(), 0);
}

#[test]
fn due_times_are_unwritten_until_the_last_list_of_them_is_dropped() {
    let mut gathered = Gathered::default();
    let unwritten = Permits::default();
    let due = |number| (id(number), 5);
    gathered.postpone(Vec::new(), &unwritten);
    assert!(!unwritten.is_any(), "there are none");
    gathered.postpone(vec![due(0)], &unwritten);
    let more = POSTPONED_AT_A_TIME as u128 + 1;
    gathered.postpone((0..more).map(due).collect(), &unwritten);
    let mut batches = [gathered.take(), gathered.take()];
    let permits = batches.each_mut().map(Gathered::take_permit);
    assert!(gathered.take().take_permit().is_none(), "nothing is left");
    for permit in permits {
        assert!(unwritten.is_any(), "one is held still");
        drop(permit.expect("due times are among it"));
    }
    assert!(!unwritten.is_any());
}

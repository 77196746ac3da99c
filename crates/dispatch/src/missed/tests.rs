//! What a lane notes of records that it misses, and how its ranges grow by that.

use std::sync::Arc;

use dovecast_notification::EndpointId;
use uuid::Uuid;

use super::*;
use crate::behind::Part;
use crate::driver::nowhere;
use crate::endpoint::Endpoint;
use crate::lane::State;
use crate::room::Share;

fn of() -> TopicPartition {
    TopicPartition {
        topic: Arc::from("t"),
        partition: 0,
    }
}

fn stretch(first: u64, last: u64) -> Stretch {
    Stretch {
        of: of(),
        first,
        last,
        records: 1,
    }
}

fn lane(is_ordered: bool) -> State {
    let mut endpoint = Endpoint::new(EndpointId(Uuid::nil()), "1".into(), nowhere());
    endpoint.is_ordered = is_ordered;
    State::new(Arc::new(endpoint), Share::alone())
}

/// Has a lane miss something, and says what its ranges are.
fn missed(state: &mut State, stretches: &[Stretch]) -> Vec<(u64, u64)> {
    let shed = state.miss(stretches);
    state.recorded(&shed);
    let parts = state.behind.as_ref().map(|behind| {
        let parts = behind.parts(EndpointId(Uuid::nil()));
        parts
            .iter()
            .map(|Part { from, to, .. }| (*from, *to))
            .collect()
    });
    parts.unwrap_or_default()
}

#[test]
fn only_a_lane_that_is_behind_need_not_be_asked() {
    let (mut missed, all) = (Missed::default(), AllMissed::default());
    let of = of();
    let other = TopicPartition {
        partition: 1,
        ..of.clone()
    };
    assert_eq!(missed.note(&of, 5), Noted::No);
    assert!(!all.is_any_open());
    missed.open(&all);
    missed.open(&all);
    assert!(all.is_any_open());
    assert_eq!(missed.note(&of, 5), Noted::Yes { is_first: true });
    assert_eq!(missed.note(&other, 2), Noted::Yes { is_first: false });
    assert_eq!(missed.note(&of, 9), Noted::Yes { is_first: false });
    // The log was made anew, or is read again.
    assert_eq!(missed.note(&of, 9), Noted::Back);
    assert_eq!(missed.note(&other, 1), Noted::Back);
    let stretches: Vec<_> = missed
        .stretches
        .iter()
        .map(|one| (one.first, one.last, one.records))
        .collect();
    assert_eq!(stretches, [(5, 9, 2), (2, 2, 1)]);
    assert!(!missed.close_if_empty() && all.is_any_open());
    missed.close();
    assert!(!all.is_any_open());
}

#[test]
fn what_a_thread_does_not_come_to_an_end_with_is_missed_as_before() {
    let endpoint = Endpoint::new(EndpointId(Uuid::nil()), "1".into(), nowhere());
    let lane = Arc::new(Lane::new(Arc::new(endpoint), Share::alone()));
    let all = AllMissed::default();
    let offsets = || {
        let missed = lane.missed.lock();
        let offsets = missed.stretches.iter();
        offsets.map(|one| one.first).collect::<Vec<_>>()
    };
    lane.missed.lock().open(&all);
    lane.missed.lock().note(&of(), 3);
    let deferring = Deferring::begin(&lane);
    assert_eq!(deferring.stretches(), [stretch(3, 3)]);
    assert!(offsets().is_empty());
    lane.missed.lock().note(&of(), 8);
    assert!(deferring.is_alone() && !Deferring::begin(&lane).is_alone());
    assert!(!lane.missed.lock().close_if_empty());
    drop(deferring);
    assert_eq!(offsets(), [3, 8]);
    let deferring = Deferring::begin(&lane);
    assert!(deferring.is_alone());
    deferring.done();
    assert!(lane.missed.lock().close_if_empty() && !all.is_any_open());
}

#[test]
fn a_record_is_in_a_range_when_the_recorder_knows_that() {
    let mut state = lane(false);
    missed(&mut state, &[stretch(3, 7)]);
    let shed = state.miss(&[stretch(8, 9)]);
    let covers = |state: &State, offset| {
        let behind = state.behind.as_ref().expect("it is behind");
        behind.covers(&of().topic, 0, offset)
    };
    assert_eq!(
        [2, 3, 5, 7, 8].map(|at| covers(&state, at)),
        [false, true, true, true, false]
    );
    state.recorded(&shed);
    assert!(covers(&state, 8) && !covers(&state, 10));
}

#[test]
fn ranges_grow_by_what_was_missed() {
    let mut state = lane(false);
    // One that was behind no more by the time it is told is so again.
    assert_eq!(missed(&mut state, &[stretch(3, 7)]), [(3, 8)]);
    assert_eq!(
        missed(&mut state, &[stretch(8, 8), stretch(12, 20)]),
        [(3, 21)]
    );
    // The log has gone back.
    assert_eq!(missed(&mut state, &[stretch(0, 1)]), [(3, 21), (0, 2)]);
    assert!(
        state
            .behind
            .is_some_and(|behind| behind.unknown().is_empty())
    );
}

#[test]
fn one_that_is_in_order_by_now_asks_what_comes_before() {
    let mut state = lane(true);
    missed(&mut state, &[stretch(3, 7)]);
    assert_eq!(state.behind.expect("it is behind").unknown(), [of()]);
    assert!(!state.order.knows(&of(), Some(1)));
}

//! Ranges of one partition: where they begin, grow, cover each other and end.

use uuid::Uuid;

use super::*;

const ENDPOINT: EndpointId = EndpointId(Uuid::nil());

/// Offsets that are owed one after the other, how far the newest range is read before each, and
/// the ranges in the end.
#[track_caller]
fn check(offsets: &[(u64, Option<u64>)], ranges: &[(u64, u64)]) -> Behind {
    let mut behind = Behind::default();
    let mut newest = None;
    for (offset, position) in offsets {
        if let (Some(id), Some(position)) = (&newest, position) {
            behind.read_to(id, *position);
        }
        newest = Some(owe(&mut behind, *offset));
    }
    assert_eq!(found(&behind), ranges, "{offsets:?}");
    behind
}

/// A record is owed, and the recorder knows.
fn owe(behind: &mut Behind, offset: u64) -> RangeId {
    let growth = behind.defer(ENDPOINT, &Arc::from("t"), 3, offset);
    behind.announce(&growth.id);
    behind.recorded(&growth.id, growth.to);
    growth.id
}

fn found(behind: &Behind) -> Vec<(u64, u64)> {
    let parts = behind.parts(ENDPOINT).into_iter();
    parts.map(|part| (part.id.start, part.to)).collect()
}

fn id(start: u64) -> RangeId {
    RangeId {
        endpoint: ENDPOINT,
        topic: Arc::from("t"),
        partition: 3,
        start,
    }
}

#[test]
fn a_range_that_was_claimed_is_delivered_with_the_one_of_its_name() {
    let mut behind = Behind::default();
    owe(&mut behind, 100);
    let claimed = |from, to| OwedRange {
        id: id(100),
        from,
        to,
    };
    behind.adopt(&claimed(110, 150));
    assert_eq!(found(&behind), [(100, 150)]);
    assert!(!behind.remove(&id(100), 101), "it goes further");
    behind.adopt(&claimed(110, 120));
    assert_eq!(found(&behind), [(100, 150)]);
    owe(&mut behind, 160);
    assert_eq!(found(&behind), [(100, 161)]);
    assert!(behind.remove(&id(100), 161));
}

#[test]
fn an_offset_before_a_range_or_before_what_was_read_of_it_begins_another() {
    check(&[(100, None), (119, None)], &[(100, 120)]);
    check(
        &[(100, None), (119, None), (10, None)],
        &[(100, 120), (10, 11)],
    );
    // It was not looked at yet.
    check(&[(100, None), (119, None), (110, Some(110))], &[(100, 120)]);
    check(
        &[(100, None), (119, None), (110, Some(111))],
        &[(100, 120), (110, 111)],
    );
    check(
        &[
            (100, None),
            (119, None),
            (10, None),
            (11, Some(11)),
            (3, None),
        ],
        &[(100, 120), (10, 12), (3, 4)],
    );
}

#[test]
fn a_range_whose_first_record_comes_again_is_read_again() {
    let mut behind = check(&[(100, None), (119, None), (100, Some(110))], &[(100, 120)]);
    // What the former reader says counts no more.
    behind.read_to(&id(100), 115);
    assert!(behind.take_set_back(&id(100)) && !behind.take_set_back(&id(100)));
    let growth = behind.defer(ENDPOINT, &Arc::from("t"), 3, 100);
    assert!(!growth.begins && growth.to == 120);
    assert_eq!(found(&behind), [(100, 120)]);
}

#[test]
fn what_the_newest_range_covers_is_owed_once() {
    let mut behind = check(
        &[(100, None), (119, None), (10, None)],
        &[(100, 120), (10, 11)],
    );
    assert_eq!(behind.take_covered(ENDPOINT), []);
    owe(&mut behind, 119);
    assert_eq!(behind.take_covered(ENDPOINT), [(id(100), 120)]);
    assert_eq!(found(&behind), [(10, 120)]);
}

#[test]
fn a_range_beyond_the_end_is_taken_out_unless_it_grows() {
    let mut behind = check(&[(100, None), (119, None)], &[(100, 120)]);
    assert_eq!(behind.is_missing(&id(100)), None);
    assert_eq!(behind.is_missing(&id(100)), None);
    owe(&mut behind, 112);
    assert_eq!(behind.is_missing(&id(100)), None);
    assert_eq!(behind.is_missing(&id(100)), None);
    assert_eq!(behind.is_missing(&id(100)), Some(120));
    assert!(behind.is_empty());
}

#[test]
fn what_the_recorder_does_not_know_is_neither_delivered_nor_ended() {
    let mut behind = check(&[(100, None), (104, None)], &[(100, 105)]);
    let growth = behind.defer(ENDPOINT, &Arc::from("t"), 3, 109);
    let (grown, to) = (growth.id, growth.to);
    behind.announce(&grown);
    assert_eq!(found(&behind), [(100, 105)]);
    assert!(!behind.remove(&grown, 105), "it goes further");
    for _ in 0..MISSING_CHECKS {
        assert_eq!(behind.is_missing(&grown), None);
    }
    behind.recorded(&grown, to);
    assert_eq!(found(&behind), [(100, 110)]);
    assert!(behind.remove(&grown, to) && behind.is_empty());
}

#[test]
fn a_range_of_which_a_growth_is_not_recorded_yet_is_not_taken_out() {
    let mut behind = check(&[(100, None), (104, None)], &[(100, 105)]);
    let early = behind.defer(ENDPOINT, &Arc::from("t"), 3, 106);
    behind.announce(&early.id);
    // Another thread is faster.
    let late = owe(&mut behind, 109);
    assert!(!behind.remove(&late, 110));
    behind.recorded(&early.id, early.to);
    assert!(behind.remove(&late, 110));
}

#[test]
fn a_question_keeps_the_batch_that_it_waits_for_and_is_asked_once() {
    let mut behind = Behind::default();
    let of = id(0).partition();
    let other = TopicPartition {
        partition: 4,
        ..of.clone()
    };
    behind.ask(of.clone());
    assert!(!behind.may_ask(&of, 100), "it is not known yet after which");
    assert!(behind.ask_after(5));
    // Whoever finds that the ledger has to be asked says so again and again.
    behind.ask(of.clone());
    behind.ask(other.clone());
    assert!(behind.ask_after(7) && !behind.ask_after(9));
    assert_eq!(behind.next_question(), Some(5));
    assert!(!behind.may_ask(&of, 4) && behind.may_ask(&of, 6));
    assert!(!behind.may_ask(&of, 100) && behind.unknown().contains(&of));
    assert_eq!(behind.next_question(), Some(7));
    behind.answered(&other);
    assert!(behind.ask_after(11));
    assert_eq!(behind.next_question(), Some(11));
}

#[test]
fn a_question_waits_for_what_is_said_of_a_range_that_goes_and_of_no_other() {
    let mut behind = check(
        &[(100, None), (119, None), (10, None)],
        &[(100, 120), (10, 11)],
    );
    behind.ask(id(0).partition());
    let mut waits_for = |change: &mut dyn FnMut(&mut Behind), batch| {
        change(&mut behind);
        behind.ask_after(batch);
        behind.next_question()
    };
    assert_eq!(waits_for(&mut |_| {}, 5), Some(5));
    // What grows stays here, and so does what is claimed.
    let grow = &mut |behind: &mut Behind| drop(owe(behind, 119));
    assert_eq!(waits_for(grow, 6), Some(5));
    let claimed = OwedRange {
        id: id(3),
        from: 3,
        to: 9,
    };
    let adopt = &mut |behind: &mut Behind| behind.adopt(&claimed);
    assert_eq!(waits_for(adopt, 7), Some(5));
    let cover = &mut |behind: &mut Behind| drop(behind.take_covered(ENDPOINT));
    assert_eq!(waits_for(cover, 8), Some(8));
    let keep = &mut |behind: &mut Behind| assert!(!behind.remove(&id(10), 50));
    assert_eq!(waits_for(keep, 9), Some(8));
    let leave = &mut |behind: &mut Behind| assert!(behind.remove(&id(10), 120));
    assert_eq!(waits_for(leave, 10), Some(10));
}

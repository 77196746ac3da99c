//! Transactions of which parts were delivered and whose ends do not come: each is told its end,
//! once, though no event of it is left.

use super::*;
use crate::lane::order::tests::range;
use crate::ledger::RangeId;

/// An end that is told alone, behind the event at that offset.
fn lost_end(at: u64) -> (Vec<u64>, Part) {
    (vec![at], Part::LOST_END)
}

/// Lines of a key of which one event was delivered, and the end of its transaction was not; when
/// that is lost.
fn begun() -> (Lines, Instant) {
    let mut lines = Lines::new();
    let first = lines.enter((0, 1, false), Ends::NotAwaited);
    assert_eq!(first, Some((vec![0], part(true, false, true))));
    assert_eq!(lines.over(), None);
    (lines, Instant::now() + CUT_OFF + Duration::from_secs(1))
}

impl Lines {
    /// What is delivered without anything new.
    fn take_open(&mut self, now: Instant) -> Option<(Vec<u64>, Part)> {
        let mut taken = self.order.take_open(now, ALONE);
        let first = taken.pop();
        assert!(taken.is_empty());
        first.map(|first| self.deliver(first))
    }
}

#[test]
fn what_was_delivered_while_no_end_was_awaited_ends_once() {
    let (mut lines, later) = begun();
    let too_early = later.checked_sub(CUT_OFF).expect("a time");
    assert_eq!(lines.take_open(too_early), None);
    assert_eq!(lines.take_open(later), Some(lost_end(0)));
    assert_eq!(lines.over(), None);
    assert!(lines.order.is_empty());
    // What comes of it all the same is a further transaction.
    let late = lines.enter((1, 1, true), Ends::Awaited);
    assert_eq!(late, Some((vec![1], Part::WHOLE)));
}

#[test]
fn a_lost_end_is_told_when_nothing_more_is_owed_behind_it() {
    let mut lines = Lines::new();
    // As many as are claimed at a time, and more are owed.
    let mut run = vec![lines.owed_or_read((0, 1, false), true)];
    run.extend((1..100).map(|at| lines.owed_or_read((at, 1000 + u128::from(at), true), true)));
    lines.order.line_up(run);
    lines.order.hold(place(1, 0).key);
    let first = lines.order.ready(&place(1, 0), Ends::Awaited);
    let first = first.map(|first| lines.deliver(first));
    assert_eq!(first, Some((vec![0], part(true, false, true))));
    for at in 1..100 {
        assert_eq!(lines.over(), Some((vec![at], Part::WHOLE)));
    }
    assert_eq!(lines.over(), None);
    let later = Instant::now() + CUT_OFF + Duration::from_secs(1);
    assert_eq!(lines.take_open(later), None);
    // The rest is claimed, and nothing of it is there.
    let last = lines.owed_or_read((100, 1100, true), true);
    lines.order.line_up(vec![last]);
    lines.order.is_complete(place(1, 0).key, 0);
    let end = lines.order.ready(&place(1, 0), Ends::Awaited);
    let end = end.map(|end| lines.deliver(end));
    assert_eq!(end, Some(lost_end(0)));
    assert_eq!(lines.over(), Some((vec![100], Part::WHOLE)));
    assert_eq!(lines.over(), None);
    assert!(lines.order.is_empty());
}

#[test]
fn an_end_is_told_before_others_of_a_key_that_is_never_idle() {
    let (mut lines, later) = begun();
    let other = lines.enter((1, 2, true), Ends::Awaited);
    assert_eq!(other, Some((vec![1], Part::WHOLE)));
    assert_eq!(lines.enter((2, 3, true), Ends::Awaited), None);
    assert_eq!(lines.take_open(later), None);
    assert_eq!(lines.over(), Some(lost_end(0)));
    assert_eq!(lines.over(), Some((vec![2], Part::WHOLE)));
    assert_eq!(lines.over(), None);
    assert!(lines.order.is_empty());
}

#[test]
fn what_comes_in_time_says_that_a_transaction_has_not_lost_its_end() {
    let (mut lines, later) = begun();
    let other = lines.enter((1, 2, true), Ends::Awaited);
    assert_eq!(other, Some((vec![1], Part::WHOLE)));
    assert_eq!(lines.take_open(later), None);
    assert_eq!(lines.enter((2, 1, true), Ends::Awaited), None);
    assert_eq!(lines.over(), Some((vec![2], part(false, true, true))));
}

#[test]
fn no_end_is_lost_that_may_be_in_a_range() {
    let (mut lines, later) = begun();
    let (range, mut behind): (_, Behind) = (range(1, 9), Behind::default());
    behind.adopt(&range);
    let id: RangeId = range.id;
    let unread = lines.order.take_open(later, with(&behind, Ends::Awaited));
    assert!(unread.is_empty());
    behind.read_to(&id, 9);
    let mut ends = lines.order.take_open(later, with(&behind, Ends::Awaited));
    let end = ends.pop().map(|end| lines.deliver(end));
    assert_eq!(end, Some(lost_end(0)));
}

#[test]
fn an_end_that_was_not_taken_is_told_again_after_a_while() {
    let (mut lines, later) = begun();
    let mut end = lines.order.take_open(later, ALONE);
    let mut end = end.pop().expect("an end");
    // As the outcome of an attempt has it that has failed.
    (end.failures, end.part.is_last) = (1, false);
    lines.order.hand_over(&end);
    end.settle();
    assert_eq!(lines.over(), None);
    let now = Instant::now();
    assert_eq!(lines.take_open(now), None);
    let mut again = lines
        .order
        .take_open(now + CUT_OFF + Duration::from_secs(1), ALONE);
    let again = again.pop().expect("an end");
    assert_eq!((again.failures, again.part), (1, Part::LOST_END));
    assert_eq!(lines.deliver(again), lost_end(0));
}

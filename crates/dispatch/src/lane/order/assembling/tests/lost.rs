//! Transactions whose ends do not come: how long they are waited for, and what is told of them.

use super::*;
use crate::item::Origin;
use crate::lane::order::tests::range;
use crate::ledger::RangeId;
use crate::range_run::RangeRun;

#[test]
fn an_end_that_does_not_come_is_a_transaction_that_has_failed() {
    let mut lines = Lines::new();
    assert_eq!(lines.enter((0, 1, false), Ends::Awaited), None);
    assert_eq!(lines.enter((1, 1, false), Ends::Awaited), None);
    let now = Instant::now();
    assert!(lines.order.take_open(now, ALONE).is_empty());
    let later = now + CUT_OFF + Duration::from_secs(1);
    let mut cut_off = lines.order.take_open(later, ALONE);
    let first = cut_off.pop().expect("a transaction that was cut off");
    assert!(cut_off.is_empty());
    assert_eq!(lines.deliver(first), (vec![0, 1], part(true, true, false)));
    // What comes of it all the same is told of as well.
    assert_eq!(lines.over(), None);
    let late = lines.enter((2, 1, true), Ends::Awaited);
    assert_eq!(late, Some((vec![2], Part::WHOLE)));
}

#[test]
fn an_end_that_does_not_come_is_not_waited_for_anew_with_whatever_comes() {
    let mut lines = Lines::new();
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    assert_eq!(lines.enter((0, 1, false), Ends::Awaited), None);
    assert!(lines.order.take_open(at(1), ALONE).is_empty());
    // Others of the key come, and all of it is owed and claimed again.
    let mut other = lines.event((1, 2, true));
    other.since = at(20);
    assert!(matches!(
        lines.order.enter(other, 0, Ends::Awaited),
        Entered::Waits
    ));
    for Joining { item, .. } in lines.order.take_late(at(25)) {
        item.abandon();
    }
    let mut claimed = [(0, 1, false), (1, 2, true)].map(|event| lines.owed_or_read(event, true));
    for item in &mut claimed {
        item.since = at(26);
    }
    lines.order.line_up(claimed.into());
    lines.order.is_complete(place(1, 0).key, 1);
    assert!(lines.order.ready(&place(1, 0), Ends::Awaited).is_none());
    assert!(lines.order.take_open(at(27), ALONE).is_empty());
    // Something new of it counts.
    let mut more = lines.event((2, 1, false));
    more.since = at(29);
    assert!(matches!(
        lines.order.enter(more, 0, Ends::Awaited),
        Entered::Waits
    ));
    assert!(lines.order.take_open(at(58), ALONE).is_empty());
    let mut other = lines.event((3, 3, true));
    other.since = at(59);
    assert!(matches!(
        lines.order.enter(other, 0, Ends::Awaited),
        Entered::Waits
    ));
    let first = lines.order.take_open(at(60), ALONE).pop();
    let first = first.expect("a transaction that was cut off");
    assert_eq!(lines.deliver(first), (vec![0, 2], part(true, true, false)));
    assert_eq!(lines.over(), Some((vec![1], Part::WHOLE)));
}

#[test]
fn in_a_full_line_a_lost_end_is_told_soon() {
    let mut lines = Lines::new();
    let begin = Instant::now();
    for at in 0..2 {
        assert_eq!(lines.enter((at, 1, false), Ends::Awaited), None);
    }
    let mut delivered = Vec::new();
    for at in 2..LINE as u64 {
        delivered.extend(lines.enter((at, at.into(), true), Ends::Awaited));
    }
    // What there is of it, but for the last.
    assert_eq!(delivered, [(vec![0], part(true, false, true))]);
    assert_eq!(lines.over(), None);
    assert_eq!(lines.enter((100, 100, true), Ends::Awaited), None);
    let soon = begin + Duration::from_secs(3);
    assert!(lines.order.take_open(soon, ALONE).is_empty());
    let later = Instant::now() + CUT_OFF_FULL + Duration::from_secs(1);
    let mut cut_off = lines.order.take_open(later, ALONE);
    let first = cut_off.pop().expect("a transaction that was cut off");
    assert_eq!(lines.deliver(first), (vec![1], part(false, true, false)));
    assert_eq!(lines.over(), Some((vec![2], Part::WHOLE)));
}

#[test]
fn lost_ends_are_waited_for_together() {
    let mut lines = Lines::new();
    for event in [(0, 1, false), (1, 2, false), (2, 3, false)] {
        assert_eq!(lines.enter(event, Ends::Awaited), None);
    }
    let begin = Instant::now();
    assert!(lines.order.take_open(begin, ALONE).is_empty());
    // All of it is owed and claimed again.
    for Joining { item, .. } in lines.order.take_late(begin + Duration::from_secs(5)) {
        item.abandon();
    }
    let mut claimed =
        [(0, 1, false), (1, 2, false), (2, 3, false)].map(|event| lines.owed_or_read(event, true));
    let later = begin + CUT_OFF + Duration::from_secs(1);
    for item in &mut claimed {
        item.since = later;
    }
    lines.order.line_up(claimed.into());
    lines.order.is_complete(place(1, 0).key, 1);
    for at in 0..3 {
        let mut cut_off = lines.order.take_open(later, ALONE);
        let first = cut_off.pop().expect("a transaction that was cut off");
        assert_eq!(lines.deliver(first), (vec![at], part(true, true, false)));
        assert_eq!(lines.over(), None);
    }
    assert!(lines.order.is_empty());
}

/// A line of which the first has been cut off, with another event of it and one behind it.
fn cut_off() -> (Lines, Item, Instant) {
    let mut lines = Lines::new();
    let claimed = [(0, 1, false), (1, 1, false)].map(|event| lines.owed_or_read(event, true));
    lines.order.line_up(claimed.into());
    let later = Instant::now() + CUT_OFF + Duration::from_secs(1);
    let mut other = lines.event((2, 2, true));
    other.since = later;
    let entered = lines.order.enter(other, 0, Ends::Awaited);
    assert!(matches!(entered, Entered::Waits));
    let mut cut_off = lines.order.take_open(later, ALONE);
    let first = cut_off.pop().expect("a transaction that was cut off");
    (lines, first, later)
}

#[test]
fn what_is_cut_off_stays_together_while_others_are_owed() {
    let (mut lines, first, later) = cut_off();
    let owed = lines.order.take_late(later + Duration::from_secs(5));
    let mut offsets = Vec::new();
    for Joining { item, .. } in owed {
        offsets.push(offset(&item));
        item.abandon();
    }
    assert_eq!(offsets, [2]);
    assert_eq!(lines.deliver(first), (vec![0, 1], part(true, true, false)));
}

#[test]
fn what_has_come_since_says_that_a_transaction_lives() {
    let (mut lines, first, later) = cut_off();
    let mut new = lines.event((3, 1, false));
    new.since = later + Duration::from_secs(1);
    let entered = lines.order.enter(new, 0, Ends::Awaited);
    assert!(matches!(entered, Entered::Waits));
    // One is kept back.
    assert_eq!(lines.deliver(first), (vec![0, 1], part(true, false, true)));
}

/// A range of the key's partition, and a lane that owes it.
fn behind() -> (RangeId, Behind) {
    let range = range(1, 9);
    let mut behind = Behind::default();
    behind.adopt(&range);
    (range.id, behind)
}

#[test]
fn an_end_that_may_be_in_a_range_is_not_lost() {
    let mut lines = Lines::new();
    let (id, mut behind) = behind();
    assert_eq!(lines.enter((0, 1, false), Ends::Awaited), None);
    let later = Instant::now() + 10 * CUT_OFF;
    for ends in [Ends::Awaited, Ends::NotAwaited] {
        let mut taken = lines.order.take_open(later, with(&behind, ends));
        let first = taken.pop();
        assert_eq!(first.is_some(), ends == Ends::NotAwaited);
        if let Some(mut first) = first {
            // What is tried meanwhile is a part.
            lines.order.gather(&mut first);
            assert!(first.part.success && !first.part.is_last);
            lines.order.scatter(&mut first);
            let line = lines.order.lines.get_mut(&place(1, 0).key).expect("a line");
            line.is_busy = false;
            line.waiting.push_front(first);
            lines.order.waiting += 1;
        }
    }
    behind.read_to(&id, 9);
    let first = lines
        .order
        .take_open(later, with(&behind, Ends::Awaited))
        .pop();
    let first = first.expect("a transaction that was cut off");
    assert_eq!(lines.deliver(first), (vec![0], part(true, true, false)));
}

/// What was read of a range.
fn read(lines: &Lines, event: (u64, u128, bool), id: &RangeId) -> Item {
    let mut read = lines.event(event);
    let run = RangeRun::new(id.clone(), event.0);
    run.begin(event.0);
    read.origin = Origin::Range {
        run,
        offset: event.0,
    };
    read
}

#[test]
fn what_waits_of_a_range_holds_that_up_for_no_longer_than_ever() {
    let mut lines = Lines::new();
    let (id, behind) = behind();
    let item = read(&lines, (0, 1, false), &id);
    assert!(matches!(
        lines.order.enter(item, 0, Ends::Awaited),
        Entered::Waits
    ));
    let later = Instant::now() + CUT_OFF + Duration::from_secs(1);
    // Its reader waits for others.
    let busy = Beside {
        has_queue: true,
        ..with(&behind, Ends::Awaited)
    };
    assert!(lines.order.take_open(later, busy).is_empty());
    let beside = with(&behind, Ends::Awaited);
    let first = lines.order.take_open(later, beside).pop();
    // Its end may stand behind it.
    let first = first.expect("a part");
    assert_eq!(lines.deliver(first), (vec![0], part(true, false, true)));
}

#[test]
fn an_endpoint_is_tried_with_what_was_kept_back() {
    let mut lines = Lines::new();
    let id = range(1, 9).id;
    let first = lines.enter((0, 1, false), Ends::NotAwaited);
    assert_eq!(first, Some((vec![0], part(true, false, true))));
    assert_eq!(lines.over(), None);
    let next = read(&lines, (1, 1, false), &id);
    let Entered::Ready(next) = lines.order.enter(next, 0, Ends::NotAwaited) else {
        panic!("there is nothing else to try with");
    };
    assert_eq!(lines.deliver(next), (vec![1], part(false, false, true)));
}

#[test]
fn what_joins_the_ledger_says_that_a_transaction_lives() {
    let (mut lines, first, later) = cut_off();
    for Joining { item, .. } in lines.order.take_late(later + Duration::from_secs(5)) {
        item.abandon();
    }
    let end = lines.event((3, 1, true));
    let Entered::Joins(joining) = lines.order.enter(end, 0, Ends::Awaited) else {
        panic!("something is owed");
    };
    joining.item.abandon();
    assert_eq!(lines.deliver(first), (vec![0, 1], part(true, false, true)));
}

#[test]
fn in_a_crowd_the_last_event_of_what_is_lost_is_kept_back() {
    let mut lines = Lines::new();
    for at in 0..2 {
        assert_eq!(lines.enter((at, 1, false), Ends::Awaited), None);
    }
    lines.order.waiting += OPEN;
    let place = place(1, 0);
    let first = lines.order.ready(&place, Ends::Awaited).expect("a part");
    assert_eq!(lines.deliver(first), (vec![0], part(true, false, true)));
    assert_eq!(lines.over(), None);
    assert!(lines.order.ready(&place, Ends::Awaited).is_none());
    lines.order.waiting -= OPEN;
    let later = Instant::now() + CUT_OFF + Duration::from_secs(1);
    let first = lines.order.take_open(later, ALONE).pop();
    let first = first.expect("a transaction that was cut off");
    assert_eq!(lines.deliver(first), (vec![1], part(false, true, false)));
}

#[test]
fn in_a_crowd_an_event_that_is_alone_is_kept_back() {
    let mut lines = Lines::new();
    lines.order.waiting += OPEN;
    assert_eq!(lines.enter((0, 1, false), Ends::Awaited), None);
    let later = Instant::now() + CUT_OFF_FULL + Duration::from_secs(1);
    let first = lines.order.take_open(later, ALONE).pop();
    let first = first.expect("a transaction that was cut off");
    lines.order.waiting -= OPEN;
    assert_eq!(lines.deliver(first), (vec![0], part(true, true, false)));
}

#[test]
fn a_live_event_of_what_is_cut_off_takes_all_of_it_along() {
    let (mut lines, first, later) = cut_off();
    // Before what the ledger owes of it.
    let mut read = lines.event((1, 1, false));
    read.since = later;
    let line = lines.order.lines.get_mut(&place(1, 0).key).expect("a line");
    line.waiting.push_front(read);
    lines.order.waiting += 1;
    let owed = lines.order.take_late(later + Duration::from_secs(5));
    assert_eq!(owed.len(), 3);
    for Joining { item, .. } in owed {
        item.abandon();
    }
    assert_eq!(lines.deliver(first), (vec![0], part(true, false, true)));
}

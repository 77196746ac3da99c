//! Transactions of one key: which deliveries go together, and what becomes of ends that do not
//! come.

mod lost;
mod lost_parts;

use std::sync::Arc;

use dovecast_notification::Transaction;
use uuid::Uuid;

use super::super::tests::{item, offset, place};
use super::*;
use crate::clock::Clock;
use crate::lane::order::{Entered, Joining, Over};
use crate::recorder::Recorder;

/// The lines of a lane that delivers whole transactions.
struct Lines {
    order: Order,
    recorder: Arc<Recorder>,
}

impl Lines {
    fn new() -> Self {
        Self {
            order: Order::default(),
            recorder: Arc::new(Recorder::new(&Clock::default())),
        }
    }

    fn event(&self, event: (u64, u128, bool)) -> Item {
        self.owed_or_read(event, false)
    }

    fn owed_or_read(&self, (at, id, is_last): (u64, u128, bool), is_owed: bool) -> Item {
        let mut item = item(&self.recorder, place(1, at), is_owed);
        item.transaction = Some(Transaction {
            id: Uuid::from_u128(id),
            seq: 0,
            is_last,
        });
        item
    }

    /// Takes an event in; the offsets of what is delivered now, and the part.
    fn enter(&mut self, event: (u64, u128, bool), ends: Ends) -> Option<(Vec<u64>, Part)> {
        match self.order.enter(self.event(event), 0, ends) {
            Entered::Ready(first) => Some(self.deliver(first)),
            Entered::Waits => None,
            Entered::Joins(_) => panic!("nothing is owed"),
        }
    }

    fn deliver(&mut self, mut first: Item) -> (Vec<u64>, Part) {
        self.order.gather(&mut first);
        self.order.hand_over(&first);
        let delivered = first.together().map(offset).collect();
        let part = first.part;
        first.abandon();
        (delivered, part)
    }

    /// What was under way is delivered; what is delivered next.
    fn over(&mut self) -> Option<(Vec<u64>, Part)> {
        let (next, _) = self.order.over(&place(1, 0), Over::Done, 1);
        next.map(|next| self.deliver(next))
    }
}

/// Nothing is of ranges, or waits elsewhere.
const ALONE: Beside<'_> = Beside {
    behind: None,
    has_queue: false,
    ends: Ends::Awaited,
};

const fn with(behind: &Behind, ends: Ends) -> Beside<'_> {
    Beside {
        behind: Some(behind),
        has_queue: false,
        ends,
    }
}

const fn part(is_first: bool, is_last: bool, success: bool) -> Part {
    Part {
        is_first,
        is_last,
        success,
        is_end_only: false,
    }
}

#[test]
fn a_transaction_is_delivered_with_its_end_and_what_comes_between_behind_it() {
    let mut lines = Lines::new();
    assert_eq!(lines.enter((0, 1, false), Ends::Awaited), None);
    assert_eq!(lines.enter((1, 2, false), Ends::Awaited), None);
    assert_eq!(lines.enter((2, 2, true), Ends::Awaited), None);
    let first = lines.enter((3, 1, true), Ends::Awaited);
    assert_eq!(first, Some((vec![0, 3], Part::WHOLE)));
    assert_eq!(lines.enter((4, 3, true), Ends::Awaited), None);
    assert_eq!(lines.over(), Some((vec![1, 2], Part::WHOLE)));
    assert_eq!(lines.over(), Some((vec![4], Part::WHOLE)));
    assert_eq!(lines.over(), None);
    assert!(lines.order.is_empty());
}

#[test]
fn a_large_transaction_is_delivered_in_parts_of_which_the_last_says_so() {
    let mut lines = Lines::new();
    let mut delivered = Vec::new();
    for at in 0..LINE as u64 {
        delivered.extend(lines.enter((at, 1, false), Ends::Awaited));
    }
    let (offsets, first) = delivered.pop().expect("a part");
    // One is left, with which the end can be told.
    assert_eq!(offsets.len(), LINE - 1);
    assert_eq!((delivered.len(), first), (0, part(true, false, true)));
    assert_eq!(lines.enter((100, 1, false), Ends::Awaited), None);
    assert_eq!(lines.over(), None);
    let last = lines.enter((101, 1, true), Ends::Awaited);
    assert_eq!(last, Some((vec![99, 100, 101], part(false, true, true))));
    assert_eq!(lines.over(), None);
    assert!(lines.order.is_empty());
}

#[test]
fn parts_of_a_transaction_are_one_whatever_is_told_between_them() {
    let mut lines = Lines::new();
    let first = lines.enter((0, 1, false), Ends::NotAwaited);
    assert_eq!(first, Some((vec![0], part(true, false, true))));
    assert_eq!(lines.over(), None);
    let other = lines.enter((1, 2, true), Ends::Awaited);
    assert_eq!(other, Some((vec![1], Part::WHOLE)));
    assert_eq!(lines.over(), None);
    assert!(!lines.order.is_empty());
    let last = lines.enter((2, 1, true), Ends::Awaited);
    assert_eq!(last, Some((vec![2], part(false, true, true))));
    assert_eq!(lines.over(), None);
    assert!(lines.order.is_empty());
}

#[test]
fn parts_are_remembered_as_long_as_the_rest_is_owed() {
    let mut lines = Lines::new();
    assert!(lines.enter((0, 1, false), Ends::NotAwaited).is_some());
    assert_eq!(lines.over(), None);
    lines.order.hold(place(1, 0).key);
    let later = Instant::now() + Duration::from_hours(1);
    assert!(lines.order.take_open(later, ALONE).is_empty());
    assert!(!lines.order.is_empty());
    let rest = lines.owed_or_read((1, 1, true), true);
    lines.order.line_up(vec![rest]);
    lines.order.is_complete(place(1, 0).key, 0);
    let last = lines.order.ready(&place(1, 0), Ends::Awaited);
    let last = last.expect("the rest");
    assert_eq!(lines.deliver(last), (vec![1], part(false, true, true)));
}

#[test]
fn an_attempt_that_is_put_back_is_gathered_again() {
    let mut lines = Lines::new();
    assert_eq!(lines.enter((0, 1, false), Ends::Awaited), None);
    let event = lines.event((1, 1, true));
    let Entered::Ready(mut first) = lines.order.enter(event, 0, Ends::Awaited) else {
        panic!("it is complete");
    };
    for _ in 0..2 {
        lines.order.gather(&mut first);
        let gathered: Vec<u64> = first.together().map(offset).collect();
        assert_eq!(gathered, [0, 1]);
        lines.order.scatter(&mut first);
    }
    assert_eq!(lines.deliver(first), (vec![0, 1], Part::WHOLE));
}

#[test]
fn while_little_is_read_no_end_is_awaited() {
    let mut lines = Lines::new();
    let first = lines.enter((0, 1, false), Ends::NotAwaited);
    assert_eq!(first, Some((vec![0], part(true, false, true))));
    assert_eq!(lines.over(), None);
    let last = lines.enter((1, 1, true), Ends::Awaited);
    assert_eq!(last, Some((vec![1], part(false, true, true))));
}

/// A transaction of which the beginning waits for another one, and the ledger owes the rest.
fn divided() -> Lines {
    let mut lines = Lines::new();
    let alone = lines.enter((0, 1, true), Ends::Awaited);
    assert_eq!(alone, Some((vec![0], Part::WHOLE)));
    assert_eq!(lines.enter((1, 2, false), Ends::Awaited), None);
    lines.order.hold(place(1, 0).key);
    // Its beginning is not delivered alone.
    assert_eq!(lines.over(), None);
    lines
}

#[test]
fn what_was_read_of_a_transaction_waits_for_what_is_owed_of_it() {
    let mut lines = divided();
    let rest = [(2, 2, false), (3, 2, true)].map(|event| lines.owed_or_read(event, true));
    lines.order.line_up(rest.into());
    lines.order.is_complete(place(1, 0).key, 0);
    let first = lines.order.ready(&place(1, 0), Ends::Awaited);
    let first = first.expect("a whole transaction");
    assert_eq!(lines.deliver(first), (vec![1, 2, 3], Part::WHOLE));
    assert_eq!(lines.over(), None);
}

#[test]
fn what_is_owed_of_a_transaction_and_does_not_come_is_not_cut_off() {
    let mut lines = divided();
    let later = Instant::now() + CUT_OFF + Duration::from_secs(1);
    let first = lines.order.take_open(later, ALONE).pop();
    let first = first.expect("a part");
    assert_eq!(lines.deliver(first), (vec![1], part(true, false, true)));
}

#[test]
fn what_was_claimed_without_its_end_is_a_part() {
    let mut lines = divided();
    let rest = lines.owed_or_read((2, 2, false), true);
    lines.order.line_up(vec![rest]);
    lines.order.hold(place(1, 0).key);
    let first = lines.order.ready(&place(1, 0), Ends::Awaited);
    let first = first.expect("a part");
    assert_eq!(lines.deliver(first), (vec![1, 2], part(true, false, true)));
}

#[test]
fn what_waits_for_what_the_ledger_does_not_give_is_owed_again() {
    let mut lines = Lines::new();
    let claimed = lines.owed_or_read((0, 1, false), true);
    lines.order.line_up(vec![claimed]);
    assert!(lines.order.ready(&place(1, 0), Ends::Awaited).is_none());
    let later = Instant::now() + Duration::from_secs(5);
    assert!(lines.order.take_late(later).is_empty());
    // The end has joined what is owed.
    lines.order.hold(place(1, 0).key);
    let mut owed = lines.order.take_late(later);
    let Some(Joining { item, .. }) = owed.pop() else {
        panic!("it waits for ever");
    };
    assert_eq!((offset(&item), owed.len()), (0, 0));
    item.abandon();
}

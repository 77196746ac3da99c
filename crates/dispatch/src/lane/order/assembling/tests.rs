//! Transactions of one key: which deliveries go together, and what becomes of ends that do not
//! come.

use std::sync::Arc;

use dovecast_notification::Transaction;
use uuid::Uuid;

use super::super::tests::{item, offset, place};
use super::*;
use crate::clock::Clock;
use crate::lane::order::{Entered, Joining, Over};
use crate::recording::Recorder;

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

const fn part(is_first: bool, is_last: bool, success: bool) -> Part {
    Part {
        is_first,
        is_last,
        success,
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
    assert_eq!(offsets.len(), LINE);
    assert_eq!((delivered.len(), first), (0, part(true, false, true)));
    assert_eq!(lines.enter((100, 1, false), Ends::Awaited), None);
    assert_eq!(lines.over(), None);
    let last = lines.enter((101, 1, true), Ends::Awaited);
    assert_eq!(last, Some((vec![100, 101], part(false, true, true))));
    assert_eq!(lines.over(), None);
    assert!(lines.order.is_empty());
}

#[test]
fn an_end_that_does_not_come_is_a_transaction_that_has_failed() {
    let mut lines = Lines::new();
    assert_eq!(lines.enter((0, 1, false), Ends::Awaited), None);
    assert_eq!(lines.enter((1, 1, false), Ends::Awaited), None);
    let now = Instant::now();
    assert!(lines.order.take_open(now, Ends::Awaited).is_empty());
    let later = now + CUT_OFF + Duration::from_secs(1);
    let mut cut_off = lines.order.take_open(later, Ends::Awaited);
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
    assert!(lines.order.take_open(at(1), Ends::Awaited).is_empty());
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
    lines.order.joined(place(1, 0).key, 2, 1);
    let mut claimed = [(0, 1, false), (1, 2, true)].map(|event| lines.owed_or_read(event, true));
    for item in &mut claimed {
        item.since = at(26);
    }
    lines.order.line_up(claimed.into());
    lines.order.is_complete(place(1, 0).key, 1);
    assert!(lines.order.ready(&place(1, 0), Ends::Awaited).is_none());
    assert!(lines.order.take_open(at(27), Ends::Awaited).is_empty());
    // Something new of it counts.
    let mut more = lines.event((2, 1, false));
    more.since = at(29);
    assert!(matches!(
        lines.order.enter(more, 0, Ends::Awaited),
        Entered::Waits
    ));
    assert!(lines.order.take_open(at(58), Ends::Awaited).is_empty());
    let mut other = lines.event((3, 3, true));
    other.since = at(59);
    assert!(matches!(
        lines.order.enter(other, 0, Ends::Awaited),
        Entered::Waits
    ));
    let first = lines.order.take_open(at(60), Ends::Awaited).pop();
    let first = first.expect("a transaction that was cut off");
    assert_eq!(lines.deliver(first), (vec![0, 2], part(true, true, false)));
    assert_eq!(lines.over(), Some((vec![1], Part::WHOLE)));
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
    let first = lines.order.take_open(later, Ends::Awaited).pop();
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

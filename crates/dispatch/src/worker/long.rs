//! Attempts that take long: they are owed while they are under way, so that nothing waits for them;
//! or they are cut off, where too many hang.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use crate::hanging::Exhausted;
use crate::item::{Item, Origin};
use crate::lane::Lane;
use crate::lane::order::Over;
use crate::ledger::{BEHIND, Happened, Ledger, Millis};
use crate::offer::NOT_NOW;
use crate::shared::Shared;
use crate::stats::count;

/// Too many attempts hang: this one is made again, and is no failure of the endpoint.
pub(super) fn cut_off<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    mut item: Item,
    exhausted: Exhausted,
) {
    count(&shared.counters.cut_off, 1);
    lane.is_cut_off.store(true, Ordering::Release);
    if let Some(suppressed) = shared.cut_off_lines.take_counted() {
        tracing::warn!(
            endpoint.id = %lane.id,
            ?exhausted,
            suppressed,
            hanging = shared.counters.hanging.load(Ordering::Relaxed),
            "an attempt was cancelled because too many attempts hang; it is retried"
        );
    }
    let until = Instant::now() + NOT_NOW;
    let over = if item.is_end() {
        // It is told again after a while.
        item.part.is_last = false;
        Over::Done
    } else {
        owe_cut_off(shared, &item);
        Over::Owed
    };
    shared.over(lane, &mut item, over);
    item.settle();
    shared.step_aside(lane, None, until);
    lane.ended.notify_one();
}

fn owe_cut_off<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>, item: &Item) {
    let mut due_ms = shared.recorder.due(item.id(), NOT_NOW);
    for item in item.together() {
        if item.is_owed() {
            let owed = item.owed(due_ms, "");
            shared.recorder.note(Happened::GivenBack(owed));
        } else {
            let owed = item.owed(due_ms, "too many attempts hang");
            shared.recorder.note(Happened::Owed(owed));
        }
        shared.recorder.hold(item.held.clone());
        due_ms = BEHIND;
    }
}

/// What is under way is owed from now on, and claimed by us.
pub(super) fn hand_over<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    lane: &Lane,
    item: &mut Item,
) {
    if item.is_end() {
        return;
    }
    // It waits for nothing here any more, and keeps nothing else from being read or claimed.
    let mut due_ms = shared.now_ms();
    item.for_each(|item| {
        (item.place, item.claim) = (None, None);
        if !item.is_owed() {
            owe_under_way(shared, item, due_ms);
        }
        due_ms = BEHIND;
    });
    if let Some(place) = &item.order {
        let joins = lane.state().order.hangs(place);
        shared.join(joins, Duration::ZERO);
    }
}

fn owe_under_way<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    item: &mut Item,
    due_ms: Millis,
) {
    let owed = item.owed(due_ms, "the process ended while it was under way");
    shared.recorder.note(Happened::UnderWay(owed));
    shared.recorder.hold(item.held.clone());
    let origin = std::mem::replace(&mut item.origin, Origin::Owed);
    shared.recorder.end(&origin);
}

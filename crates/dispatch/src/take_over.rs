//! Order by key: when a partition becomes this process's, takes over what is still to be delivered
//! of it to endpoints that want order.
//!
//! Ranges of such an endpoint are delivered by the process that reads their partition, one after
//! the other, and before anything new of it. So the process that gets a partition claims them,
//! waits for those that another process has still claimed, and learns of which keys single
//! deliveries are owed. A process that has lost a partition leaves its ranges to the next. The
//! steps are told in `lane/order`.
//!
//! What this process has said itself has to be written before it asks. That is waited for by all
//! questions of an endpoint together, beside what is known of other partitions, and for as long as
//! a store takes that is slow: a question keeps the batch that it waits for (`behind`).

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::Log;
use dovecast_notification::EndpointId;
use tokio::time::Instant;

use crate::behind::Behind;
use crate::catch_up::{self, Open, leave};
use crate::lane::Lane;
use crate::ledger::{Debts, Ledger, LedgerError, RangeId, TopicPartition};
use crate::shared::Shared;
use crate::stats::count;

/// Endpoints that are named in one question: the statement stays short.
const ENDPOINTS_PER_QUESTION: usize = 50;
/// How long an endpoint asks about one partition after the other before it goes on with those that
/// are known: the answer to a question is waited for, however long it takes.
const ASKING: Duration = Duration::from_secs(1);

/// Has lanes of endpoints with an order take over what is free of partitions that are ours.
pub(crate) async fn take_free<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    endpoints: Vec<EndpointId>,
) -> Result<(), LedgerError> {
    for some in endpoints.chunks(ENDPOINTS_PER_QUESTION) {
        for (id, of) in shared.ledger.free_ranges(some.to_vec()).await? {
            let endpoint = shared.directory.endpoint(id);
            if let Some(endpoint) = endpoint.filter(|_| shared.partitions.number(&of).is_some()) {
                shared.take_over_later(&endpoint, of);
            }
        }
    }
    Ok(())
}

/// Asks what is owed of partitions of which that is not known, and leaves those that are not ours.
/// Gives the batch of the recorder after which there is more to ask.
pub(crate) async fn ask<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    open: &mut Open<L>,
) -> Option<u64> {
    leave_lost(shared, lane, open);
    let (unknown, is_new) = {
        let mut state = lane.state();
        let behind = state.behind.as_mut()?;
        // What has gone from the lane so far is with the recorder: this task has told it.
        let is_new = behind.ask_after(shared.recorder.batch());
        (behind.unknown(), is_new)
    };
    if is_new {
        shared.recorder.news.notify_one();
    }
    let written = shared.recorder.written();
    let began = Instant::now();
    for of in unknown {
        let Some(number) = shared.partitions.number(&of) else {
            answered(lane, &of, None);
            continue;
        };
        if began.elapsed() < ASKING && may_ask(shared, lane, &of, written) {
            take_over(shared, lane, &of, number).await;
        }
    }
    let may_take = can_take(shared);
    let state = lane.state();
    let behind = state.behind.as_ref().filter(|_| may_take);
    behind.and_then(Behind::next_question)
}

/// Waits until the lane may go on, or has more to ask.
pub(crate) async fn rest<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    question: Option<u64>,
) {
    let Some(batch) = question else {
        return catch_up::rest(shared, lane).await;
    };
    tokio::select! {
        biased;
        () = catch_up::rest(shared, lane) => {}
        () = shared.recorder.until_written(batch) => {}
    }
}

/// Whether what is claimed now can be delivered, as far as is known.
fn can_take<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>) -> bool {
    shared.alive.is_believed() && shared.can_read()
}

fn may_ask<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    lane: &Lane,
    of: &TopicPartition,
    written: u64,
) -> bool {
    let may_take = can_take(shared);
    let mut state = lane.state();
    let behind = state.behind.as_mut().filter(|_| may_take);
    behind.is_some_and(|behind| behind.may_ask(of, written))
}

/// Leaves the ranges of partitions that are not ours any more, when nothing of them is under way;
/// of those that have come back others may have been at it.
fn leave_lost<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    open: &mut Open<L>,
) {
    let partitions = match &lane.state().behind {
        Some(behind) => behind.partitions(),
        None => return,
    };
    for of in partitions {
        let number = shared.partitions.number(&of);
        if number.is_some() {
            let mut state = lane.state();
            if !state.order.knows(&of, number)
                && let Some(behind) = &mut state.behind
            {
                behind.ask(of);
            }
            continue;
        }
        let parts = match &lane.state().behind {
            Some(behind) => behind.parts(lane.id),
            None => return,
        };
        for part in parts.into_iter().filter(|part| part.id.partition() == of) {
            if let Some(reader) = open.get_mut(&part.id) {
                reader.give_up(shared, lane);
                if !reader.is_idle() {
                    continue;
                }
            }
            if leave(lane, &part.id, part.to) {
                open.remove(&part.id);
                shared.release(part.id);
            }
        }
    }
}

/// Asks about one partition. An answer that does not say all is asked for again, when what has gone
/// from the lane meanwhile is written, too.
async fn take_over<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    of: &TopicPartition,
    number: u64,
) {
    let life = shared.alive.life();
    let endpoint = lane.id;
    let now_ms = shared.now_ms();
    let asked = async { shared.ledger.take_over(now_ms, endpoint, of.clone()).await };
    let debts = match shared.claim(asked).await {
        Ok(debts) => debts,
        Err(error) => {
            count(&shared.counters.ledger_errors, 1);
            tracing::debug!(%error, "what an endpoint owes of a partition is not known now");
            return;
        }
    };
    if life != shared.alive.life() {
        // Others may have claimed it since.
        for range in debts.claimed {
            shared.release(range.id);
        }
        return;
    }
    if adopt(lane, &debts) {
        answered(lane, of, Some(number));
    }
}

/// Takes in what was claimed, and the keys that wait; `false`: another process is at some ranges
/// still.
fn adopt(lane: &Lane, debts: &Debts) -> bool {
    let mut state = lane.state();
    for key in &debts.keys {
        state.order.hold(*key);
    }
    let behind = state.behind.get_or_insert_default();
    for range in &debts.claimed {
        behind.adopt(range);
    }
    let is_ours = |id: &RangeId| behind.has(id);
    debts.others.iter().all(is_ours)
}

/// What is owed of a partition is known; without a number it is not ours.
fn answered(lane: &Lane, of: &TopicPartition, number: Option<u64>) {
    let mut state = lane.state();
    if let Some(behind) = &mut state.behind {
        behind.answered(of);
    }
    match number {
        Some(number) => state.order.learn(of, number),
        None => state.order.doubt(Some(of)),
    }
}

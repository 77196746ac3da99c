//! What comes of an attempt: how the delivery goes on, and what is written down of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::Log;
use dovecast_notification::EndpointId;

use crate::driver::{Answer, Attempt, Outcome};
use crate::endpoint::Endpoint;
use crate::item::{Item, Origin};
use crate::lane::Lane;
use crate::lane::gate::Turned;
use crate::lane::order::Over;
use crate::ledger::{AttemptRow, BEHIND, DeadLetter, Happened, Ledger, Millis, Owed};
use crate::offer::NOT_NOW;
use crate::shared::Shared;
use crate::stats::count;

/// Attempts that may wait to be noted.
const MOST_ATTEMPTS: usize = 50_000;

/// How long behind the next probe of an open breaker a delivery is due that has failed: what has
/// not failed is tried first, so that one that always fails does not keep the breaker open.
const BEHIND_PROBE: Duration = Duration::from_secs(1);

/// Longest note of a driver that is kept with a delivery, in bytes.
const NOTE_BYTES: usize = 16 * 1024;
/// How long a delivery waits for an attempt at the endpoint as it is now, if its last retry was
/// made at the endpoint as it was before.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// Most characters that are kept of what a driver says: what it should cut itself, and a bound for
/// one that does not.
const SAID_CHARS: usize = 4096;

/// How often the end of a transaction that is lost is told at most.
const MOST_ENDS: u32 = 5;

/// What came of an attempt.
struct Made {
    answer: Option<Answer>,
    latency: Duration,
    reason: String,
    is_failure: bool,
    end: End,
}

/// How it goes on.
enum End {
    Delivered,
    Dead,
    /// The delivery is made again, after that time.
    Again(Duration),
    /// The range it is of waits for the breaker.
    Later,
}

/// Writes down what came of an attempt, which was made at what the endpoint was when it began.
pub(crate) fn settle<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    mut item: Item,
    mut attempt: Attempt,
    made_at: &Endpoint,
) {
    if let Some(answer) = &mut attempt.answer {
        cut(&mut answer.head);
    }
    let is_outdated = outdate(shared, &mut attempt, made_at);
    if let Some(note) = attempt.note.take()
        && note.len() <= NOTE_BYTES
    {
        item.note = note;
    }
    let is_failure = matches!(
        attempt.outcome,
        Outcome::Failed { .. } | Outcome::NotMade { .. }
    );
    let is_gone = matches!(attempt.outcome, Outcome::Gone { .. });
    item.for_each(|item| item.failures += u32::from(is_failure));
    let (turned, endpoint) = {
        let mut state = lane.state();
        let turned = state.gate.turn(is_failure, Instant::now());
        (turned, Arc::clone(state.gate.endpoint()))
    };
    let end = end_of(&item, &attempt, &turned, &endpoint, is_outdated);
    let mut reason = attempt.outcome.into_reason().unwrap_or_default();
    cut(&mut reason);
    let made = Made {
        answer: attempt.answer,
        latency: attempt.latency,
        reason,
        is_failure,
        end,
    };
    if item.is_end() {
        told_end(lane, &mut item, &made);
    } else {
        write_down_all(shared, &endpoint, &item, &made);
    }
    let ends_use = is_gone || endpoint.is_disabled_by_failure;
    if matches!(made.end, End::Dead) && ends_use && !is_outdated {
        disable(shared, lane, &made.reason, is_gone);
    }
    // Before what waits is shed: what waits for this one is owed behind it.
    if let Some(over) = over(&item, &made.end) {
        shared.over(lane, &mut item, over);
    }
    if turned.opens {
        opened(shared, lane);
    }
    if is_gone {
        // Until it is written that it is disabled, and that is known here.
        shared.step_aside(lane, None, Instant::now() + NOT_NOW);
    }
    leave(shared, lane, item, &made.end);
    if turned.closes {
        shared.wake_all(lane);
    }
    lane.ended.notify_one();
}

/// Has an endpoint disabled after a dead letter: the endpoint says that it is gone, or its retry
/// policy wants that.
fn disable<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    lane: &Lane,
    reason: &str,
    is_gone: bool,
) {
    if is_gone {
        tracing::warn!(endpoint.id = %lane.id, reason, "an endpoint is disabled: it says that it is gone");
    } else {
        tracing::warn!(endpoint.id = %lane.id, reason, "an endpoint is disabled: a delivery was given up and its retry policy is `hooks`");
    }
    let disabled = Happened::Disabled(lane.id, reason.to_owned());
    shared.recorder.note(disabled);
}

/// Whether somebody has given the endpoint another address since the attempt began, or mended it
/// elsewise: what it was has not the last word. From another address, a refusal is a failure.
fn outdate<L, S>(shared: &Shared<L, S>, attempt: &mut Attempt, made_at: &Endpoint) -> bool {
    let Some(now) = shared.directory.endpoint(made_at.id) else {
        return false;
    };
    let is_elsewhere = !Arc::ptr_eq(&now.target, &made_at.target);
    if is_elsewhere
        && let Outcome::Gone { reason } | Outcome::Refused { reason } = &mut attempt.outcome
    {
        attempt.outcome = Outcome::Failed {
            reason: std::mem::take(reason),
            retry_after: None,
        };
    }
    is_elsewhere || now.saved_ms != made_at.saved_ms
}

/// How the delivery is over; `None`: it is not.
fn over(item: &Item, end: &End) -> Option<Over> {
    match end {
        // The ledger owes nothing of it.
        _ if item.is_end() => Some(Over::Done),
        End::Delivered => Some(Over::Done),
        End::Dead => Some(Over::Dead),
        End::Again(_) => Some(Over::Owed),
        End::Later => None,
    }
}

/// The delivery is not under way any more: what waits for the breaker is the next one of the lane.
fn leave<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>, lane: &Lane, mut item: Item, end: &End) {
    if !matches!(end, End::Later) {
        return item.settle();
    }
    if shared.is_stopping() {
        // It is read again when the range goes on.
        return item.abandon();
    }
    // A probe is none of its attempts.
    item.for_each(|item| {
        item.failures -= 1;
        item.probes += 1;
    });
    lane.state().put_back(item);
}

/// What comes of an end that is told alone is not written down: when that has failed, it is told
/// again after a while.
fn told_end(lane: &Lane, item: &mut Item, made: &Made) {
    let is_told = matches!(made.end, End::Delivered);
    let is_again = matches!(made.end, End::Again(_)) && item.failures < MOST_ENDS;
    item.part.is_last = !is_again;
    if !is_told && !is_again {
        tracing::warn!(
            endpoint.id = %lane.id,
            transaction = ?item.transaction_id(),
            reason = made.reason,
            "the missing end of a mailbox transaction cannot be delivered and is given up"
        );
    }
}

/// Writes down what came of an attempt at deliveries that were made together.
fn write_down_all<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    endpoint: &Endpoint,
    item: &Item,
    made: &Made,
) {
    count_times(shared, item, made);
    for (place, item) in item.together().enumerate() {
        write_down(shared, endpoint, item, made, place > 0);
        if matches!(made.end, End::Again { .. } | End::Dead) {
            shared.recorder.hold(item.held.clone());
        }
    }
}

/// Counts how long the attempt took, and the delivery.
fn count_times<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>, item: &Item, made: &Made) {
    let timings = &shared.counters.timings;
    let status = made.answer.as_ref().and_then(|answer| answer.status);
    timings.attempt(status, made.latency);
    if matches!(made.end, End::Delivered) {
        for item in item.together() {
            timings.delivered(item.notification.id, shared.now_ms());
        }
    }
}

/// How the delivery goes on. After an attempt at what the endpoint was before somebody saved it
/// there is another one, however many have failed.
fn end_of(
    item: &Item,
    attempt: &Attempt,
    turned: &Turned,
    endpoint: &Endpoint,
    is_outdated: bool,
) -> End {
    match &attempt.outcome {
        Outcome::Delivered => End::Delivered,
        Outcome::Refused { .. } | Outcome::Gone { .. } => End::Dead,
        // The endpoint was not there. Where it has answered, or the same has failed before, it may
        // be this notification; and what is noted of one has to be written down.
        Outcome::Failed { .. }
            if turned.is_open
                && matches!(item.origin, Origin::Range { .. })
                && attempt.answer.is_none()
                && item.note.is_empty()
                && item.probes == 0 =>
        {
            End::Later
        }
        Outcome::Failed { .. } | Outcome::NotMade { .. } => {
            let retry_after = match &attempt.outcome {
                Outcome::Failed { retry_after, .. } => *retry_after,
                _ => None,
            };
            let chance = item.notification.id.0.as_u64_pair().1 ^ u64::from(item.failures);
            let schedule = &endpoint.schedule;
            let delay = if is_outdated {
                let failures = item.failures.min(schedule.retries());
                let delay = schedule.delay(failures, retry_after, chance);
                Some(delay.unwrap_or(ONCE_MORE))
            } else {
                schedule.delay(item.failures, retry_after, chance)
            };
            let probe = turned.probe_at.map_or(Duration::ZERO, |at| {
                at.saturating_duration_since(Instant::now()) + BEHIND_PROBE
            });
            delay.map_or(End::Dead, |delay| End::Again(delay.max(probe)))
        }
    }
}

/// `follows`: whether it was delivered together with another one, and is owed behind that.
fn write_down<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    of: &Endpoint,
    item: &Item,
    made: &Made,
    follows: bool,
) {
    let time_ms = shared.now_ms();
    let is_owed = item.is_owed();
    // Rendered before the lock is taken.
    let owed = match made.end {
        End::Again(_) if follows => Some(item.owed(BEHIND, &*made.reason)),
        End::Again(delay) => Some(item.owed(shared.recorder.due(item.id(), delay), &*made.reason)),
        End::Dead => Some(item.owed(time_ms, &*made.reason)),
        End::Delivered | End::Later => None,
    };
    let mut happened = shared.recorder.happened();
    match (&made.end, owed) {
        (End::Delivered, _) => count(&shared.counters.delivered, 1),
        (End::Again(_), Some(owed)) => {
            count(&shared.counters.failed, 1);
            if is_owed {
                happened.push(Happened::FailedAgain(owed));
            } else {
                happened.push(Happened::Owed(owed));
            }
        }
        (End::Dead, Some(owed)) => {
            count(&shared.counters.dead, 1);
            happened.push(Happened::Dead(dead_letter(item, made, &owed)));
            if let Some(fallback) = of.fallback {
                count(&shared.counters.fallen_back, 1);
                happened.push(Happened::Owed(fallen_back(fallback, owed)));
            }
        }
        (End::Later | End::Again(_) | End::Dead, _) => count(&shared.counters.failed, 1),
    }
    if is_owed && matches!(made.end, End::Delivered | End::Dead) {
        happened.push(Happened::Done(item.id()));
    }
    if happened.attempts() >= MOST_ATTEMPTS {
        // The ledger is away: the deliveries count, their history does not.
        count(&shared.counters.attempts_lost, 1);
        return;
    }
    happened.push(Happened::Attempt(attempt_row(item, made, time_ms)));
}

/// The dead letter of a delivery; `owed`: as it would be owed now.
fn dead_letter(item: &Item, made: &Made, owed: &Owed) -> DeadLetter {
    // A refusal is no failure that is counted.
    let attempts = item.failures + u32::from(!made.is_failure && made.answer.is_some());
    DeadLetter {
        note: item.note.clone(),
        together: item.redelivered(),
        record: None,
        endpoint: Some(owed.endpoint),
        notification: owed.notification,
        content: owed.content.clone(),
        reason: made.reason.clone(),
        time_ms: owed.due_ms,
        attempts,
    }
}

/// What another endpoint gets instead of a dead letter.
fn fallen_back(fallback: EndpointId, owed: Owed) -> Owed {
    Owed {
        endpoint: fallback,
        failures: 0,
        note: String::new(),
        place: None,
        reason: format!(
            "it could not be delivered to the endpoint {}",
            owed.endpoint
        ),
        ..owed
    }
}

fn attempt_row(item: &Item, made: &Made, time_ms: Millis) -> AttemptRow {
    let answer = made.answer.as_ref();
    AttemptRow {
        endpoint: item.endpoint,
        notification: item.notification.id,
        time_ms,
        number: item.failures + u32::from(!made.is_failure),
        is_delivered: matches!(made.end, End::Delivered),
        status: answer.and_then(|answer| answer.status),
        latency_us: u64::try_from(made.latency.as_micros()).unwrap_or(u64::MAX),
        said: answer.map_or(&made.reason, |answer| &answer.head).clone(),
    }
}

/// Leaves what is kept of a text that a driver has given.
fn cut(text: &mut String) {
    // Most are short: their characters need not be counted.
    if text.len() > SAID_CHARS
        && let Some((end, _)) = text.char_indices().nth(SAID_CHARS)
    {
        text.truncate(end);
    }
}

/// The breaker has opened: what waits is owed, as ranges or as it was.
pub(crate) fn opened<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) {
    tracing::warn!(endpoint.id = %lane.id, "the circuit breaker of an endpoint has opened; it is only probed until it answers");
    let (shed, owed, wait) = {
        let mut state = lane.state();
        let shed = state.fall_behind();
        (shed, state.take_owed(), state.gate.probe_at())
    };
    shared.deferred(lane, shed);
    let wait = wait.map_or(NOT_NOW, |at| at.saturating_duration_since(Instant::now()));
    shared.join(owed, wait.max(NOT_NOW));
}

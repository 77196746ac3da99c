//! Workers of a lane: each has one connection, takes the next delivery, and writes down what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_drivers::webhook::Sender;
use dovecast_drivers::{Attempt, Delivery, Outcome};
use dovecast_log::Log;
use tokio::sync::Notify;
use tracing::Instrument;

use super::breaker::Breaker;
use super::endpoint::Endpoint;
use super::item::{Item, Origin};
use super::lane::{Lane, Next, Offered, PATIENCE};
use super::ledger::{AttemptRow, DeadLetter, Ledger, Millis, Owed, RangeId};
use super::stats::count;
use super::{Shared, catch_up, ms, now_ms, trace};
use crate::{EndpointId, NotificationId};

/// A worker that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(30);
/// Attempts that may wait to be noted.
const MOST_ATTEMPTS: usize = 50_000;
/// When a delivery that cannot be made now is asked for again.
const NOT_NOW: Duration = Duration::from_secs(5);

/// What receivers de-duplicate by: the same for each attempt, after a restart, on each node.
pub fn webhook_id(notification: NotificationId, endpoint: EndpointId) -> String {
    format!(
        "msg_{}_{}",
        notification.0.as_simple(),
        endpoint.0.as_simple()
    )
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Offers what was just read from the log; gives it back where its lane is full and drains fast.
    pub(super) fn offer_live(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        item: Item,
    ) -> Option<(Item, Arc<Lane>)> {
        let lane = self.lane(endpoint);
        let Origin::Live { group, .. } = &item.origin else {
            return None;
        };
        let group = Arc::clone(group);
        let mut state = lane.state();
        if !Arc::ptr_eq(&state.endpoint, endpoint) {
            state.endpoint = Arc::clone(endpoint);
        }
        let span = item.span.clone();
        match state.offer_live(item) {
            Offered::Queued => {
                group.add();
                count(&self.counters.in_flight, 1);
                self.wake(&lane, &mut state);
            }
            Offered::Deferred { grown, shed } => {
                trace::deferred(&span, lane.id);
                self.deferred(grown, shed);
                count(&self.counters.deferred, 1);
                catch_up::start(self, &lane, &mut state);
            }
            Offered::Full(item) | Offered::NotNow(item, _) => {
                drop(state);
                return Some((item, lane));
            }
        }
        None
    }

    /// Offers what was owed and is due.
    pub(super) fn offer_owed(self: &Arc<Self>, endpoint: &Arc<Endpoint>, item: Item) {
        let lane = self.lane(endpoint);
        count(&self.counters.in_flight, 1);
        let mut state = lane.state();
        state.endpoint = Arc::clone(endpoint);
        if let Offered::NotNow(item, probe_at) = state.offer_owed(item) {
            let wait = probe_at.map_or(NOT_NOW, |at| at.saturating_duration_since(Instant::now()));
            drop(state);
            self.give_back(lane.id, vec![item], wait.max(NOT_NOW));
        } else {
            self.wake(&lane, &mut state);
        }
    }

    /// Sees to it that somebody takes what waits.
    pub(super) fn wake(self: &Arc<Self>, lane: &Arc<Lane>, state: &mut super::lane::State) {
        if !state.wake() && state.workers < state.endpoint.concurrency.max(1) {
            state.workers += 1;
            tokio::spawn(run(Arc::clone(self), Arc::clone(lane)));
        }
    }

    /// The same for all that waits.
    pub(super) fn wake_all(self: &Arc<Self>, lane: &Arc<Lane>, state: &mut super::lane::State) {
        for _ in 0..state.waiting().min(state.endpoint.concurrency) {
            self.wake(lane, state);
        }
    }

    /// Ranges have grown, and these deliveries are part of them now.
    pub(super) fn deferred(&self, grown: Vec<(RangeId, u64)>, shed: Vec<Item>) {
        let endpoint = grown.first().map(|(range, _)| range.endpoint);
        self.recorder.happened().grown.extend(grown);
        count(&self.counters.deferred, shed.len() as u64);
        self.leave(shed.len() as u64);
        for item in shed {
            if let Some(endpoint) = endpoint {
                trace::deferred(&item.span, endpoint);
            }
            if let Origin::Live { group, .. } = item.origin
                && group.done()
            {
                self.recorder.news.notify_one();
            }
        }
    }

    /// Owed deliveries that are not made now: they are owed as before.
    pub(super) fn give_back(&self, endpoint: EndpointId, items: Vec<Item>, wait: Duration) {
        let due_ms = now_ms() + ms(wait);
        self.leave(items.iter().map(|item| item.in_flight).sum());
        let ids = items.into_iter().map(|item| (endpoint, item.notification));
        let mut happened = self.recorder.happened();
        happened.given_back.extend(ids.map(|id| (id, due_ms)));
        drop(happened);
        self.recorder.news.notify_one();
    }

    /// The item is not under way any more, and what came of it is written down.
    fn end(&self, origin: &Origin) {
        match origin {
            Origin::Live { group, .. } => {
                if group.done() {
                    self.recorder.news.notify_one();
                }
            }
            Origin::Owed => self.recorder.news.notify_one(),
            Origin::Range { run, offset } => {
                if let Some(from) = run.done(*offset) {
                    self.progress(&run.id, from);
                }
            }
        }
    }

    pub(super) fn ended(&self, range: RangeId, to: u64) {
        let mut happened = self.recorder.happened();
        happened.ended.insert(range, to);
        drop(happened);
        self.recorder.news.notify_one();
    }

    pub(super) fn progress(&self, range: &RangeId, from: u64) {
        let mut happened = self.recorder.happened();
        happened.progress.insert(range.clone(), from);
        drop(happened);
        self.recorder.news.notify_one();
    }
}

async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>, lane: Arc<Lane>) {
    let sleeper = Arc::new(Notify::new());
    let mut worker: Option<(Arc<Endpoint>, Option<Sender>)> = None;
    loop {
        let (next, endpoint) = {
            let mut state = lane.state();
            (state.pop_or_sleep(&sleeper), Arc::clone(&state.endpoint))
        };
        let item = match next {
            Next::Deliver(item) => item,
            Next::NotBefore(at) => {
                tokio::time::sleep_until(at.into()).await;
                continue;
            }
            Next::Sleep => {
                let sender = worker.as_mut().and_then(|(_, sender)| sender.as_mut());
                if !is_woken(&sleeper, sender).await {
                    if lane.state().sign_off(&sleeper) {
                        return;
                    }
                    // Somebody has woken it at the same time: that must not be taken for another time.
                    sleeper.notified().await;
                }
                continue;
            }
        };
        if worker
            .as_ref()
            .is_none_or(|(of, _)| !Arc::ptr_eq(of, &endpoint))
        {
            let webhook = endpoint.driver.as_ref().ok();
            let guard = || shared.guard.for_account(Arc::clone(&endpoint.account));
            let sender = webhook.map(|webhook| Sender::new(Arc::clone(webhook), guard()));
            worker = Some((Arc::clone(&endpoint), sender));
        }
        if let Some((endpoint, sender)) = &mut worker {
            attempt(&shared, &lane, (endpoint, sender), item).await;
        }
    }
}

/// Waits for something to do; `false`: there was nothing for long, or the connection is closed.
async fn is_woken(sleeper: &Notify, sender: Option<&mut Sender>) -> bool {
    let closed = async {
        match sender {
            Some(sender) => sender.closed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = sleeper.notified() => true,
        () = tokio::time::sleep(IDLE) => false,
        () = closed => false,
    }
}

async fn attempt<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    (endpoint, sender): (&Arc<Endpoint>, &mut Option<Sender>),
    mut item: Item,
) {
    if !endpoint.is_active {
        return discard(shared, lane, &item);
    }
    let delivery = Delivery {
        webhook_id: webhook_id(item.notification, lane.id),
        body: item.body.clone(),
    };
    let span = trace::attempt(&item.span, lane.id, item.failures + 1);
    let made = match (sender, &endpoint.driver) {
        (Some(sender), _) => {
            let mut delivering = std::pin::pin!(sender.deliver(&delivery).instrument(span.clone()));
            tokio::select! {
                biased;
                made = &mut delivering => made,
                // Others are not kept waiting for it: it is owed, as long as it is under way.
                () = tokio::time::sleep(PATIENCE) => {
                    hand_over(shared, lane.id, &mut item);
                    delivering.await
                }
            }
        }
        (None, Err(reason)) => refused(reason.clone()),
        (None, Ok(_)) => refused(String::new()),
    };
    trace::tried(&span, &made);
    settle(shared, lane, item, made);
}

/// The endpoint was switched off while this waited.
fn discard<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>, item: &Item) {
    count(&shared.counters.dropped, 1);
    if matches!(item.origin, Origin::Owed) {
        let mut happened = shared.recorder.happened();
        happened.done.push((lane.id, item.notification));
    }
    {
        // It may have been the probe.
        let mut state = lane.state();
        state.breaker = Breaker::default();
        shared.wake_all(lane, &mut state);
    }
    shared.end(&item.origin);
    shared.leave(item.in_flight);
    lane.ended.notify_one();
}

fn refused(reason: String) -> Attempt {
    Attempt {
        outcome: Outcome::Refused { reason },
        status: None,
        response_head: String::new(),
        latency: Duration::ZERO,
    }
}

/// What is under way is owed from now on, and claimed by us.
fn hand_over<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    endpoint: EndpointId,
    item: &mut Item,
) {
    if matches!(item.origin, Origin::Owed) {
        return;
    }
    let owed = Owed {
        endpoint,
        notification: item.notification,
        body: item.body.clone(),
        failures: item.failures,
        due_ms: now_ms(),
        reason: "the process ended while it was under way".to_owned(),
    };
    shared.recorder.happened().under_way.push(owed);
    let origin = std::mem::replace(&mut item.origin, Origin::Owed);
    shared.end(&origin);
}

/// What came of an attempt.
struct Made {
    status: Option<u16>,
    response_head: String,
    latency: Duration,
    reason: String,
    is_failure: bool,
    end: End,
}

/// How it goes on.
enum End {
    Delivered,
    Dead,
    Again {
        due_ms: Millis,
    },
    /// The range it is of waits for the breaker.
    Later,
}

/// Writes down what came of an attempt.
fn settle<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    mut item: Item,
    attempt: Attempt,
) {
    let is_failure = matches!(attempt.outcome, Outcome::Failed { .. });
    item.failures += u32::from(is_failure);
    let turned = lane.state().breaker_turns(is_failure, Instant::now());
    let end = match &attempt.outcome {
        Outcome::Delivered => End::Delivered,
        Outcome::Refused { .. } => End::Dead,
        // The endpoint was not there. Where it has answered, or the same has failed before, it may be this notification.
        Outcome::Failed { .. }
            if turned.is_open
                && matches!(item.origin, Origin::Range { .. })
                && attempt.status.is_none()
                && item.probes == 0 =>
        {
            End::Later
        }
        Outcome::Failed { retry_after, .. } => {
            let chance = item.notification.0.as_u64_pair().1 ^ u64::from(item.failures);
            let schedule = &lane.state().endpoint.schedule;
            match schedule.delay(item.failures, *retry_after, chance) {
                Some(delay) => End::Again {
                    due_ms: now_ms() + ms(delay),
                },
                None => End::Dead,
            }
        }
    };
    let made = Made {
        status: attempt.status,
        response_head: attempt.response_head,
        latency: attempt.latency,
        reason: match attempt.outcome {
            Outcome::Delivered => String::new(),
            Outcome::Failed { reason, .. } | Outcome::Refused { reason } => reason,
        },
        is_failure,
        end,
    };
    let endpoint = Arc::clone(&lane.state().endpoint);
    write_down(shared, &endpoint, &item, &made);
    if matches!(made.end, End::Dead) && endpoint.is_switched_off_by_failure {
        tracing::warn!(endpoint.id = %lane.id, reason = made.reason, "an endpoint is switched off after a failure, as its policy says");
        let mut happened = shared.recorder.happened();
        happened.switched_off.insert(lane.id, made.reason.clone());
    }
    if turned.opens {
        opened(shared, lane);
    }
    if matches!(made.end, End::Later) && !shared.is_stopping() {
        // A probe is none of its attempts.
        item.failures -= 1;
        item.probes += 1;
        lane.state().put_back(item);
    } else if let End::Later = made.end {
        // It is read again by whoever goes on with the range.
        shared.leave(item.in_flight);
    } else {
        shared.end(&item.origin);
        shared.leave(item.in_flight);
    }
    if turned.closes {
        let mut state = lane.state();
        shared.wake_all(lane, &mut state);
    }
    lane.ended.notify_one();
}

fn write_down<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    of: &Endpoint,
    item: &Item,
    made: &Made,
) {
    let endpoint = of.id;
    let time_ms = now_ms();
    let is_owed = matches!(item.origin, Origin::Owed);
    // A refusal is no failure that is counted.
    let attempts = item.failures + u32::from(!made.is_failure && made.status.is_some());
    let owed = |due_ms| Owed {
        endpoint,
        notification: item.notification,
        body: item.body.clone(),
        failures: item.failures,
        due_ms,
        reason: made.reason.clone(),
    };
    let mut happened = shared.recorder.happened();
    match made.end {
        End::Delivered => count(&shared.counters.delivered, 1),
        End::Later => count(&shared.counters.failed, 1),
        End::Again { due_ms } => {
            count(&shared.counters.failed, 1);
            if is_owed {
                happened.failed_again.push(owed(due_ms));
            } else {
                happened.owed.push(owed(due_ms));
            }
        }
        End::Dead => {
            count(&shared.counters.dead, 1);
            if let Some(fallback) = of.fallback {
                count(&shared.counters.fallen_back, 1);
                happened.owed.push(Owed {
                    endpoint: fallback,
                    failures: 0,
                    reason: format!("it could not be delivered to the endpoint {endpoint}"),
                    ..owed(time_ms)
                });
            }
            happened.dead.push(DeadLetter {
                endpoint: Some(endpoint),
                notification: item.notification,
                body: item.body.clone(),
                reason: made.reason.clone(),
                time_ms,
                attempts,
            });
        }
    }
    if is_owed && matches!(made.end, End::Delivered | End::Dead) {
        happened.done.push((endpoint, item.notification));
    }
    let said = if made.status.is_some() {
        &made.response_head
    } else {
        &made.reason
    };
    if happened.attempts.len() >= MOST_ATTEMPTS {
        // The ledger is away: the deliveries count, their history does not.
        count(&shared.counters.attempts_lost, 1);
        return;
    }
    happened.attempts.push(AttemptRow {
        endpoint,
        notification: item.notification,
        time_ms,
        number: item.failures + u32::from(!made.is_failure),
        is_delivered: matches!(made.end, End::Delivered),
        status: made.status,
        latency_us: u64::try_from(made.latency.as_micros()).unwrap_or(u64::MAX),
        said: said.clone(),
    });
}

/// The breaker has opened: what waits is owed, as ranges or as it was.
fn opened<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, lane: &Arc<Lane>) {
    tracing::warn!(endpoint.id = %lane.id, "an endpoint fails again and again, it is left alone but for a probe now and then");
    let mut state = lane.state();
    let (grown, shed) = state.fall_behind();
    let owed = state.take_owed();
    let wait = state.breaker.probe_at();
    shared.deferred(grown, shed);
    catch_up::start(shared, lane, &mut state);
    drop(state);
    let wait = wait.map_or(NOT_NOW, |at| at.saturating_duration_since(Instant::now()));
    shared.give_back(lane.id, owed, wait.max(NOT_NOW));
}

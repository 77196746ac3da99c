//! Workers, which deliver to one endpoint: each has one connection, takes the next delivery of the
//! endpoint's queue (its lane), and has written down what came of it.

mod long;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dovecast_log::Log;
use dovecast_notification::{EndpointId, NotificationId};
use tokio::sync::Notify;
use tracing::Instrument;

use crate::driver::{Attempt, Courier, Delivery, Outcome};
use crate::endpoint::Endpoint;
use crate::hanging::{Exhausted, Wanted};
use crate::host::{Host, Visit};
use crate::item::{Item, Turn};
use crate::lane::order::Over;
use crate::lane::{Lane, Next, PATIENCE};
use crate::ledger::{Happened, Ledger};
use crate::offer::NOT_NOW;
use crate::outcome::{opened, settle};
use crate::panics::{PANIC_REST, Panicked, caught};
use crate::permits::Permit;
use crate::shared::Shared;
use crate::stats::count;
use crate::trace;
use long::{cut_off, hand_over};

/// A worker that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(30);
/// How long a worker sleeps at most until it looks whether it is still to wait for a turn.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// What receivers de-duplicate by: the same for each attempt, after a restart, on each node.
pub fn webhook_id(notification: NotificationId, endpoint: EndpointId) -> String {
    format!(
        "msg_{}_{}",
        notification.0.as_simple(),
        endpoint.0.as_simple()
    )
}

/// Counts a delivery that a worker has in hand, until what came of it is written down.
struct UnderWay<'a> {
    count: &'a AtomicUsize,
    is_first: bool,
}

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        let is_first = count.fetch_add(1, Ordering::AcqRel) == 0;
        Self { count, is_first }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Begins a worker, which the lane counts by its permit.
pub(crate) fn hire<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    permit: Permit,
) {
    tokio::spawn(run(Arc::clone(shared), Arc::clone(lane), permit));
}

async fn run<L: Log + Clone, S: Ledger>(
    shared: Arc<Shared<L, S>>,
    lane: Arc<Lane>,
    permit: Permit,
) {
    let sleeper = Arc::new(Notify::new());
    let mut permit = Some(permit);
    while let Err(panicked) = caught(work(&shared, &lane, &sleeper, &mut permit)).await {
        shared.panicked("worker", &panicked);
        // What it had in hand is owed since it was dropped. It may have been the probe.
        let turned = lane.state().panicked(&sleeper, Instant::now());
        if turned.opens {
            opened(&shared, &lane);
        }
        lane.ended.notify_one();
        tokio::time::sleep(PANIC_REST).await;
    }
}

/// What a worker delivers with.
struct Hand {
    endpoint: Arc<Endpoint>,
    /// `None`: it is not known.
    host: Option<Arc<Host>>,
    courier: Box<dyn Courier>,
}

impl Hand {
    fn new<L, S>(endpoint: Arc<Endpoint>, shared: &Shared<L, S>) -> Self {
        let authority = endpoint.target.authority();
        let host = authority.map(|authority| shared.hosts.get(authority));
        let courier = Arc::clone(&endpoint.target).open();
        Self {
            endpoint,
            host,
            courier,
        }
    }

    /// Asks the host whether an attempt may be made, where one will be; or when to ask again.
    fn admit<L, S>(
        &self,
        shared: &Shared<L, S>,
        lane: &Lane,
        (is_first, is_fresh): (bool, bool),
    ) -> Result<Option<Visit>, Instant> {
        let host = self.host.as_ref();
        let Some(host) = host.filter(|_| !self.endpoint.takes_nothing()) else {
            return Ok(None);
        };
        let now = Instant::now();
        let must_wait = !is_first && lane.is_cut_off.load(Ordering::Acquire);
        let account = &self.endpoint.account;
        if must_wait || shared.hanging.is_in_vain(account, &host.hanging) {
            count(&shared.counters.in_vain, 1);
            return Err(now + NOT_NOW);
        }
        host.admit(is_fresh, now).map(Some)
    }
}

/// Delivers until it has signed off.
async fn work<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    sleeper: &Arc<Notify>,
    permit: &mut Option<Permit>,
) {
    let mut hand: Option<Hand> = None;
    loop {
        // From before it is taken out: a stop waits for it.
        let under_way = UnderWay::new(&shared.under_way);
        let (next, endpoint, is_fresh) = {
            let mut state = lane.state();
            let next = state.pop_or_sleep(sleeper);
            (
                next,
                Arc::clone(state.gate.endpoint()),
                state.gate.is_fresh(),
            )
        };
        let item = match next {
            Next::Deliver(mut item) => {
                let place = item.order.clone();
                item.turn = place.map(|place| Turn::new(lane, place));
                item
            }
            Next::NotBefore(at) => {
                drop(under_way);
                tokio::time::sleep_until(at.into()).await;
                continue;
            }
            Next::InTurn(at) => {
                drop(under_way);
                await_turn(shared, &endpoint, at).await;
                continue;
            }
            Next::Sleep => {
                drop(under_way);
                let courier = hand.as_mut().map(|hand| &mut hand.courier);
                if !is_woken(sleeper, courier).await {
                    if lane.state().sign_off(sleeper, permit) {
                        return;
                    }
                    // Somebody has woken it at the same time: that must not be taken for another
                    // time.
                    sleeper.notified().await;
                }
                continue;
            }
        };
        let mut with = match hand.take() {
            Some(hand) if Arc::ptr_eq(&hand.endpoint, &endpoint) => hand,
            _ => Hand::new(endpoint, shared),
        };
        let tried = UnderWay::new(&lane.tries);
        match with.admit(shared, lane, (tried.is_first, is_fresh)) {
            Ok(visit) => attempt(shared, lane, &mut with, item, (visit, tried)).await,
            Err(until) => shared.step_aside(lane, Some(item), until),
        }
        hand = Some(with);
    }
}

/// Waits for the turn of an endpoint among those of its account, or for a part of that time.
async fn await_turn<L, S>(shared: &Shared<L, S>, endpoint: &Endpoint, at: Instant) {
    count(&shared.counters.account_waits, 1);
    if let Some(account) = &endpoint.account_pace {
        account.tell();
    }
    // Nobody wakes it meanwhile, and the turn may be minutes away: what has changed by then, as an
    // endpoint that is gone, is to be seen before. The turn stays its own.
    let look_again = at.min(Instant::now() + LONGEST_NAP);
    tokio::time::sleep_until(look_again.into()).await;
}

/// Waits for something to do; `false`: there was nothing for long, or the connection is closed.
async fn is_woken(sleeper: &Notify, courier: Option<&mut Box<dyn Courier>>) -> bool {
    let closed = async {
        match courier {
            Some(courier) => courier.closed().await,
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
    hand: &mut Hand,
    mut item: Item,
    (visit, tried): (Option<Visit>, UnderWay<'_>),
) {
    if hand.endpoint.takes_nothing() {
        return discard(shared, lane, item);
    }
    item.for_each(|item| item.content.clone_from(&hand.endpoint.content));
    let span = trace::attempt(&item.span, lane.id, item.failures + 1);
    let mut tried = Some(tried);
    let making = make(shared, lane, hand, &mut item, &mut tried);
    let came = making.instrument(span.clone()).await;
    let Came { made, is_stuck } = match came {
        Ok(came) => came,
        Err(exhausted) => return cut_off(shared, lane, item, exhausted),
    };
    if let (Some(visit), Ok(made)) = (visit, &made) {
        tell_host(lane, visit, made);
    }
    if is_stuck || made.is_err() {
        // Nothing is known of what it has kept open.
        *hand = Hand::new(Arc::clone(&hand.endpoint), shared);
    }
    let made = made.unwrap_or_else(|panicked| {
        shared.panicked("driver", &panicked);
        Attempt::failed(format!("the driver has panicked: {panicked}"))
    });
    trace::tried(&span, &made);
    let made_at = Arc::clone(&hand.endpoint);
    settle(shared, lane, item, made, &made_at);
}

/// What came of an attempt.
struct Came {
    made: Result<Attempt, Panicked>,
    /// Whether the driver has not ended it.
    is_stuck: bool,
}

/// Has the driver make an attempt. One that takes longer than a moment is owed while it is under
/// way, and is `tried` no more; it is given up where too many take as long.
async fn make<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    hand: &mut Hand,
    item: &mut Item,
    tried: &mut Option<UnderWay<'_>>,
) -> Result<Came, Exhausted> {
    let delivery = Delivery {
        note: item.note.clone(),
        id: webhook_id(item.notification.id, lane.id),
        number: item.failures + 1,
        notifications: item.together().map(Item::seen).collect(),
        part: item.part,
    };
    // The call is part of what is caught: a driver may panic before there is a future.
    let delivering = caught(async { hand.courier.deliver(&delivery).await });
    let mut delivering = std::pin::pin!(delivering);
    tokio::select! {
        biased;
        made = &mut delivering => {
            let is_stuck = false;
            return Ok(Came { made, is_stuck });
        }
        // Others are not kept waiting for it.
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let wanted = Wanted {
        account: &hand.endpoint.account,
        host: hand.host.as_ref().map(|host| &host.hanging),
        held: item.held.as_ref(),
    };
    let hangs = shared.hanging.try_take(lane, &wanted)?;
    *tried = None;
    // Until what comes of it is written down: a stop waits for that.
    item.hangs = Some(Box::new(hangs));
    hand_over(shared, lane, item);
    let limit = shared.options.longest_attempt;
    let ended = tokio::time::timeout(limit, delivering).await;
    let is_stuck = ended.is_err();
    let made = ended.unwrap_or_else(|_| {
        let seconds = (PATIENCE + limit).as_secs();
        Ok(Attempt::failed(format!(
            "the driver has not ended its attempt within {seconds} s"
        )))
    });
    Ok(Came { made, is_stuck })
}

/// Notes what an attempt says about its host.
fn tell_host(lane: &Lane, visit: Visit, made: &Attempt) {
    match (&made.answer, &made.outcome) {
        (None, Outcome::Failed { .. }) => visit.failed(lane.id, Instant::now()),
        // The host was asked nothing.
        (_, Outcome::NotMade { .. }) => drop(visit),
        _ => {
            lane.is_cut_off.store(false, Ordering::Release);
            visit.answered();
        }
    }
}

/// The endpoint was disabled while this waited.
fn discard<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    lane: &Arc<Lane>,
    mut item: Item,
) {
    for item in item.together() {
        count(&shared.counters.dropped, 1);
        if item.is_owed() {
            let done = item.id();
            shared.recorder.note(Happened::Done(done));
        }
    }
    shared.over(lane, &mut item, Over::Done);
    // It may have been the probe.
    lane.state().gate.close_breaker();
    shared.wake_all(lane);
    item.settle();
    lane.ended.notify_one();
}

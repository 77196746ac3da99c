//! Workers of a lane: each has one connection, takes the next delivery, and writes down what came of it.

use std::sync::Arc;
use std::time::Duration;

use dovecast_drivers::webhook::Sender;
use dovecast_drivers::{Attempt, Delivery, Outcome};
use dovecast_log::Log;
use tokio::sync::Notify;
use tracing::Instrument;

use super::breaker::Breaker;
use super::endpoint::Endpoint;
use super::item::{Item, Origin};
use super::lane::{Lane, Next, PATIENCE};
use super::ledger::{Ledger, Owed};
use super::outcome::settle;
use super::stats::count;
use super::{Shared, now_ms, trace};
use crate::{EndpointId, NotificationId};

/// A worker that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(30);

/// What receivers de-duplicate by: the same for each attempt, after a restart, on each node.
pub fn webhook_id(notification: NotificationId, endpoint: EndpointId) -> String {
    format!(
        "msg_{}_{}",
        notification.0.as_simple(),
        endpoint.0.as_simple()
    )
}

pub(super) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>, lane: Arc<Lane>) {
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
        let done = (lane.id, item.notification);
        shared.recorder.happened().done.push(done);
    }
    // It may have been the probe.
    lane.state().breaker = Breaker::default();
    shared.wake_all(lane);
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

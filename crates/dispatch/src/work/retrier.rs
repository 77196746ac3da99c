//! Fetches what is owed: deliveries that are due again, and ranges that nobody cares for because their process is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use super::item::{Item, Origin};
use super::ledger::{Ledger, Owed};
use super::stats::count;
use super::{Shared, catch_up, ms, now_ms, trace};

/// How often it is looked for deliveries that are due, and for ranges.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_FOR_RANGES: Duration = Duration::from_secs(2);
/// How many are fetched at a time.
const MOST: usize = 500;
const MOST_RANGES: usize = 50;
/// The same where the endpoint is not known here.
const UNKNOWN: Duration = Duration::from_secs(5);
/// When a delivery to an endpoint that is paused is looked at again.
const PAUSED: Duration = Duration::from_mins(1);

pub(super) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut told = None;
    let mut looked: Option<Instant> = None;
    loop {
        let mut is_more = false;
        let has_room =
            shared.counters.in_flight.load(Ordering::Acquire) < shared.options.in_flight / 2;
        if has_room {
            match shared.ledger.claim_owed(now_ms(), MOST).await {
                Ok(owed) => {
                    is_more = owed.len() == MOST;
                    for owed in owed {
                        retry(&shared, owed);
                    }
                }
                Err(error) => shared.ledger_failed(&mut told, &error).await,
            }
        }
        let may_look = looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_RANGES);
        if may_look && shared.can_read() {
            looked = Some(Instant::now());
            match shared.ledger.claim_ranges(now_ms(), MOST_RANGES).await {
                Ok(ranges) => {
                    for range in ranges {
                        tokio::spawn(catch_up::fixed(Arc::clone(&shared), range));
                    }
                }
                Err(error) => shared.ledger_failed(&mut told, &error).await,
            }
        }
        if !is_more {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn retry<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, owed: Owed) {
    let id = (owed.endpoint, owed.notification);
    let endpoint = shared.directory.endpoint(owed.endpoint);
    let mut happened = shared.recorder.happened();
    match endpoint {
        Some(endpoint) if endpoint.is_active && !endpoint.is_paused => {
            drop(happened);
            let item = Item {
                notification: owed.notification,
                body: owed.body,
                failures: owed.failures,
                since: Instant::now(),
                origin: Origin::Owed,
                in_flight: 1,
                span: trace::owed(owed.notification, owed.failures),
            };
            shared.offer_owed(&endpoint, item);
        }
        Some(endpoint) if endpoint.is_active => {
            happened.given_back.push((id, now_ms() + ms(PAUSED)));
        }
        // Gone, or not active any more; or so new that we have not heard of it.
        _ => {
            count(&shared.counters.dropped, 1);
            happened.unwanted.push(id);
            happened.given_back.push((id, now_ms() + ms(UNKNOWN)));
        }
    }
    shared.recorder.news.notify_one();
}

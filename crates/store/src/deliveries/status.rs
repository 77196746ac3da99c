//! How an endpoint is after attempts: the last one that is known, since when all have failed, and
//! for how long that was seen.
//!
//! Times of the wall order what several nodes write. A time that lies ahead of now was noted before
//! the clock was set back, and is older than anything. How long an endpoint fails is also measured,
//! from each failure to the next, by the steady clock of the process that has seen both: a clock
//! that is set makes no endpoint fail for days.

use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};

use dovecast_dispatch::ledger::AttemptRow;
use dovecast_notification::EndpointId;

use super::record::Bound;
use crate::clock::SKEW_MS;
use crate::open::Store;

/// A later failure that is known already stays; then the endpoint fails since it at the earliest.
/// $3: times after it are not believed.
const SUCCESS: &str = "UPDATE endpoint SET failing_ms = 0, \
    first_failure_ms = CASE \
        WHEN last_delivery_ms IS NULL OR last_delivery_ms <= $2 OR last_delivery_ms > $3 THEN NULL \
        WHEN first_failure_ms <= $2 THEN last_delivery_ms ELSE first_failure_ms END, \
    last_delivery_status = CASE \
        WHEN last_delivery_ms IS NULL OR last_delivery_ms <= $2 OR last_delivery_ms > $3 THEN 'success' ELSE last_delivery_status END, \
    last_delivery_ms = CASE \
        WHEN last_delivery_ms IS NULL OR last_delivery_ms <= $2 OR last_delivery_ms > $3 THEN $2 ELSE last_delivery_ms END \
    WHERE id = $1";
/// $4: the first failure of these attempts, $5: for how long failures were seen since the one
/// before.
const FAILURE: &str = "UPDATE endpoint SET last_delivery_status = 'failure', last_delivery_ms = $2, failing_ms = failing_ms + $5, \
    first_failure_ms = CASE WHEN first_failure_ms < $4 THEN first_failure_ms ELSE $4 END \
    WHERE id = $1 AND (last_delivery_ms IS NULL OR last_delivery_ms <= $2 OR last_delivery_ms > $3)";
/// Notes failures after a success that is not noted any more; $2 to $4 as in [`FAILURE`].
const FAILURE_ANEW: &str = "UPDATE endpoint SET last_delivery_status = 'failure', last_delivery_ms = $2, failing_ms = 0, \
    first_failure_ms = $4 \
    WHERE id = $1 AND (last_delivery_ms IS NULL OR last_delivery_ms <= $2 OR last_delivery_ms > $3)";

/// When this process has last seen an endpoint fail, by the steady clock, of those that have not
/// succeeded since.
#[derive(Debug, Default)]
pub(crate) struct Failing(HashMap<EndpointId, i64>);

/// What a record makes of it: `None`: the endpoint fails no more.
pub(super) type Seen = Vec<(EndpointId, Option<i64>)>;

impl Failing {
    /// How long an endpoint has been seen to fail since its last failure.
    fn seen_ms(&self, endpoint: EndpointId, steady_ms: i64) -> i64 {
        let before = self.0.get(&endpoint);
        before.map_or(0, |before| (steady_ms - before).max(0))
    }

    /// A record was committed.
    pub(super) fn apply(&mut self, seen: Seen) {
        for (endpoint, failed) in seen {
            match failed {
                Some(steady_ms) => self.0.insert(endpoint, steady_ms),
                None => self.0.remove(&endpoint),
            };
        }
    }

    /// Forgets endpoints of which nothing was seen since then: they are gone, or disabled.
    pub(super) fn forget_before(&mut self, steady_ms: i64) {
        self.0.retain(|_, failed| *failed >= steady_ms);
    }
}

/// The endpoint has got something at this time.
pub(crate) fn success(endpoint: String, time_ms: i64, now_ms: i64) -> Bound<'static> {
    sqlx::query(SUCCESS)
        .bind(endpoint)
        .bind(time_ms)
        .bind(now_ms.saturating_add(SKEW_MS))
}

/// The endpoint has failed at this time, and has been seen to fail for so long since the failure
/// before.
pub(crate) fn failure(endpoint: String, time_ms: i64, now_ms: i64, seen_ms: i64) -> Bound<'static> {
    sqlx::query(FAILURE)
        .bind(endpoint)
        .bind(time_ms)
        .bind(now_ms.saturating_add(SKEW_MS))
        .bind(time_ms)
        .bind(seen_ms)
}

impl Store {
    pub(super) fn failing(&self) -> MutexGuard<'_, Failing> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the endpoint is after these attempts, which are in order.
    pub(super) fn status(
        &self,
        endpoint: EndpointId,
        rows: &[&AttemptRow],
        seen: &mut Seen,
    ) -> Option<Bound<'static>> {
        let last = rows.last()?;
        let (id, now_ms) = (endpoint.to_string(), self.clock.now_ms());
        if last.is_delivered {
            seen.push((endpoint, None));
            return Some(success(id, last.time_ms, now_ms));
        }
        let steady_ms = self.clock.steady_ms();
        seen.push((endpoint, Some(steady_ms)));
        let success = rows.iter().rposition(|row| row.is_delivered);
        let first = rows.get(success.map_or(0, |place| place + 1))?;
        let (statement, seen_ms) = match success {
            Some(_) => (FAILURE_ANEW, None),
            None => (FAILURE, Some(self.failing().seen_ms(endpoint, steady_ms))),
        };
        let update = sqlx::query(statement)
            .bind(id)
            .bind(last.time_ms)
            .bind(now_ms.saturating_add(SKEW_MS))
            .bind(first.time_ms);
        Some(match seen_ms {
            Some(seen_ms) => update.bind(seen_ms),
            None => update,
        })
    }
}

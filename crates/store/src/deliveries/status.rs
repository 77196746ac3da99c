//! How an endpoint is after attempts: the last one that is known, since when all have failed, and
//! for how long that was seen.
//!
//! Times of the wall order what several nodes write. A time that lies ahead of now was noted before
//! the clock was set back, and is older than anything. How long an endpoint fails is also measured,
//! from each failure to the next, by the steady clock of the process that has seen both: a clock
//! that is set makes no endpoint fail for days. What several processes see counts once.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::sync::{LazyLock, MutexGuard, PoisonError};

use dovecast_dispatch::ledger::AttemptRow;
use dovecast_notification::EndpointId;
use serde::Serialize;

use super::attempts::json;
use crate::clock::SKEW_MS;
use crate::connection::Connection;
use crate::error::Result;
use crate::open::Store;

/// Endpoints that one statement updates, so that it ends soon.
const ENDPOINTS: usize = 500;

const SUCCESS: &str = "success";
const FAILURE: &str = "failure";
/// Failures after a success that is not noted any more.
const FAILURE_ANEW: &str = "failure_anew";

// The statements are the same for any number of statuses, so that they are prepared once.
static UPDATE_ON_SQLITE: LazyLock<String> = LazyLock::new(|| {
    update_from(
        "SELECT value ->> 'id' AS id, value ->> 'outcome' AS outcome, value ->> 'last_ms' AS last_ms, \
        value ->> 'first_ms' AS first_ms, value ->> 'seen_ms' AS seen_ms FROM json_each($2)",
    )
});
/// Other nodes update the same endpoints at the same time: locked in the order of their ids, so
/// that no two wait for each other.
///
/// Of arrays whose length it does not see PostgreSQL expects ten rows, and uses the index; of JSON
/// a hundred, for which it would read a table of some thousand endpoints as a whole. It sees none
/// behind a SELECT, and so plans only once.
static UPDATE_ON_POSTGRES: LazyLock<String> = LazyLock::new(|| {
    update_from(
        "SELECT said.* FROM unnest((SELECT CAST($2 AS text[])), CAST($3 AS text[]), \
        CAST($4 AS bigint[]), CAST($5 AS bigint[]), CAST($6 AS bigint[])) \
        AS said (id, outcome, last_ms, first_ms, seen_ms) \
        JOIN endpoint AS locked ON locked.id = said.id ORDER BY locked.id FOR NO KEY UPDATE OF locked",
    )
});

/// The statement; `said` selects what is said of endpoints from the values behind $1. $1: times
/// after it are not believed.
fn update_from(said: &str) -> String {
    let is_newer = "(endpoint.last_delivery_ms IS NULL OR endpoint.last_delivery_ms <= said.last_ms OR endpoint.last_delivery_ms > $1)";
    // Several processes see the same endpoint fail at the same time: each adds no more than what
    // has passed since the last attempt that any of them has noted, as far as clocks show that.
    let since_last = "said.last_ms - endpoint.last_delivery_ms";
    let seen = format!(
        "CASE WHEN {since_last} BETWEEN 0 AND said.seen_ms THEN {since_last} ELSE said.seen_ms END"
    );
    // A failure that is known already and later than a success stays; then the endpoint fails since
    // it at the earliest.
    format!(
        "UPDATE endpoint SET \
        failing_ms = CASE said.outcome WHEN 'failure' THEN endpoint.failing_ms + {seen} ELSE 0 END, \
        first_failure_ms = CASE \
            WHEN said.outcome = 'success' AND {is_newer} THEN NULL \
            WHEN said.outcome = 'success' AND endpoint.first_failure_ms <= said.last_ms THEN endpoint.last_delivery_ms \
            WHEN said.outcome = 'success' THEN endpoint.first_failure_ms \
            WHEN said.outcome = 'failure' AND endpoint.first_failure_ms < said.first_ms THEN endpoint.first_failure_ms \
            ELSE said.first_ms END, \
        last_delivery_status = CASE WHEN said.outcome <> 'success' THEN 'failure' \
            WHEN {is_newer} THEN 'success' ELSE endpoint.last_delivery_status END, \
        last_delivery_ms = CASE WHEN said.outcome <> 'success' OR {is_newer} THEN said.last_ms \
            ELSE endpoint.last_delivery_ms END \
        FROM ({said}) AS said WHERE endpoint.id = said.id AND (said.outcome = 'success' OR {is_newer})"
    )
}

/// How an endpoint is after attempts.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    id: String,
    outcome: &'static str,
    last_ms: i64,
    /// The first failure of these attempts since they have last succeeded.
    first_ms: i64,
    /// For how long failures were seen since the one before these attempts.
    seen_ms: i64,
}

impl Status {
    /// The endpoint has got something by an attempt that began at this time.
    pub(crate) fn success(endpoint: EndpointId, time_ms: i64) -> Self {
        Self::new(endpoint, SUCCESS, time_ms)
    }

    /// An attempt that began at this time has failed.
    pub(crate) fn failure(endpoint: EndpointId, time_ms: i64) -> Self {
        Self::new(endpoint, FAILURE, time_ms)
    }

    fn new(endpoint: EndpointId, outcome: &'static str, time_ms: i64) -> Self {
        Self {
            id: endpoint.to_string(),
            outcome,
            last_ms: time_ms,
            first_ms: time_ms,
            seen_ms: 0,
        }
    }
}

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

/// When an attempt began.
fn began_ms(row: &AttemptRow) -> i64 {
    let took_ms = i64::try_from(row.latency_us / 1000).unwrap_or(i64::MAX);
    row.time_ms.saturating_sub(took_ms)
}

impl Store {
    pub(super) fn failing(&self) -> MutexGuard<'_, Failing> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the endpoint is after these attempts. Which is the last goes by when they began: one
    /// that hangs for long says nothing about an endpoint that has answered a later one meanwhile.
    pub(super) fn status(
        &self,
        endpoint: EndpointId,
        rows: &[&AttemptRow],
        seen: &mut Seen,
    ) -> Option<Status> {
        let began = |row: &&AttemptRow| (began_ms(row), row.is_delivered);
        let mut attempts: Vec<_> = rows.iter().map(began).collect();
        attempts.sort_by_key(|(began_ms, _)| *began_ms);
        let (last_ms, is_delivered) = *attempts.last()?;
        if is_delivered {
            seen.push((endpoint, None));
            return Some(Status::success(endpoint, last_ms));
        }
        let steady_ms = self.clock.steady_ms();
        seen.push((endpoint, Some(steady_ms)));
        let success = attempts.iter().rposition(|(_, is_delivered)| *is_delivered);
        let (first_ms, _) = *attempts.get(success.map_or(0, |place| place + 1))?;
        let (outcome, seen_ms) = match success {
            Some(_) => (FAILURE_ANEW, 0),
            None => (FAILURE, self.failing().seen_ms(endpoint, steady_ms)),
        };
        Some(Status {
            first_ms,
            seen_ms,
            ..Status::new(endpoint, outcome, last_ms)
        })
    }

    /// Notes how endpoints are, none of them twice.
    pub(crate) async fn note_status(
        &self,
        connection: &mut Connection,
        all: &[Status],
    ) -> Result<()> {
        let until_ms = self.clock.now_ms().saturating_add(SKEW_MS);
        for part in all.chunks(ENDPOINTS) {
            let update = if self.database.is_postgres {
                sqlx::query(UPDATE_ON_POSTGRES.as_str())
                    .bind(until_ms)
                    .bind(array(part, |status| &status.id))
                    .bind(array(part, |status| &status.outcome))
                    .bind(array(part, |status| &status.last_ms))
                    .bind(array(part, |status| &status.first_ms))
                    .bind(array(part, |status| &status.seen_ms))
            } else {
                sqlx::query(UPDATE_ON_SQLITE.as_str())
                    .bind(until_ms)
                    .bind(json(&part))
            };
            update.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// A value of each as PostgreSQL writes an array. No value has to be quoted.
fn array<T: Display>(all: &[Status], value: impl Fn(&Status) -> &T) -> String {
    let mut text = String::from("{");
    for status in all {
        if text.len() > 1 {
            text.push(',');
        }
        // A String takes everything.
        let _ = write!(text, "{}", value(status));
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests;

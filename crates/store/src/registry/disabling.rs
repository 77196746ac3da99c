//! Endpoints that are disabled by the dispatcher, and what is to be told of it: noted in one
//! transaction, and kept until somebody has told it.

use sqlx::any::AnyRow;
use uuid::Uuid;

use super::EndpointId;
use crate::connection::Line;
use crate::error::Result;
use crate::feed::Change;
use crate::open::Store;
use crate::row;

const DISABLE: &str =
    "UPDATE endpoint SET active = 0, updated_ms = $1 WHERE id = $2 AND active = 1";
/// Part of the time for which an endpoint fails that processes have to have seen pass by their
/// steady clocks. Not all of it: what passes from the last failure before a restart to the first
/// one after it nobody has seen. So a clock that is set ahead disables no endpoint that does not
/// fail for half of that time in truth.
const SEEN_PART: i64 = 2;
/// Only attempts count: who was not tried for long has not failed for long. Drivers of the
/// configuration are never disabled.
const FAILING: &str = "SELECT id FROM endpoint WHERE active = 1 AND driver <> 'push_notification' \
    AND first_failure_ms <= $1 \
    AND last_delivery_status = 'failure' AND last_delivery_ms - first_failure_ms >= $2 \
    AND failing_ms >= $2 / $4 ORDER BY first_failure_ms LIMIT $3";
const DISABLE_FAILING: &str = "UPDATE endpoint SET active = 0, updated_ms = $1 WHERE id = $2 AND active = 1 \
    AND last_delivery_status = 'failure' AND last_delivery_ms - first_failure_ms >= $3 AND failing_ms >= $3 / $4";
const ANNOUNCE: &str = "INSERT INTO announcement \
    (id, account_number, endpoint_id, endpoint_name, reason, first_failure_ms, time_ms) \
    SELECT $1, account.number, endpoint.id, endpoint.name, $2, endpoint.first_failure_ms, $3 \
    FROM endpoint JOIN account ON account.id = endpoint.account_id WHERE endpoint.id = $4";
const TOO_LONG: &str = "every attempt has failed for too long";
/// Endpoints that are disabled at a time.
const MAX_DISABLED: i64 = 1_000;

/// An endpoint was disabled, and its account is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Id of the notification.
    pub id: Uuid,
    /// Number of the account that the notification is for.
    pub account_number: String,
    /// Endpoint that was disabled.
    pub endpoint: EndpointId,
    /// Name of the endpoint.
    pub endpoint_name: String,
    /// Why.
    pub reason: String,
    /// Since when every attempt has failed.
    pub first_failure_ms: Option<i64>,
    /// When it was disabled.
    pub time_ms: i64,
}

impl Announcement {
    fn from_row(found: &AnyRow) -> Result<Self> {
        let id = row::text(found, "id")?;
        Ok(Self {
            id: Uuid::try_parse(&id).map_err(|error| row::wrong("id", error))?,
            account_number: row::text(found, "account_number")?,
            endpoint: row::id(found, "endpoint_id")?,
            endpoint_name: row::text(found, "endpoint_name")?,
            reason: row::text(found, "reason")?,
            first_failure_ms: row::optional_number(found, "first_failure_ms")?,
            time_ms: row::number(found, "time_ms")?,
        })
    }
}

impl Store {
    /// Disables an endpoint for a reason that its account is told; `false`: there is none of this
    /// id that is active.
    pub async fn disable(&self, id: EndpointId, reason: &str) -> Result<bool> {
        // The dispatcher writes nothing else meanwhile.
        let mut change = self.change_in(Line::Deliveries).await?;
        let disable = sqlx::query(DISABLE)
            .bind(self.clock.now_ms())
            .bind(id.to_string());
        if disable.execute(&mut *change.tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        disabled(change, id, self.clock.now_ms(), reason).await?;
        Ok(true)
    }

    /// Disables endpoints at which every attempt has failed for so long; tells which.
    pub async fn disable_failing(&self, failing_ms: i64) -> Result<Vec<EndpointId>> {
        let found = sqlx::query(FAILING)
            .bind(self.clock.now_ms().saturating_sub(failing_ms))
            .bind(failing_ms)
            .bind(MAX_DISABLED)
            .bind(SEEN_PART)
            .fetch_all(&self.database.pool)
            .await?;
        let mut ids = Vec::new();
        for found in &found {
            let id: EndpointId = row::id(found, "id")?;
            let mut change = self.change().await?;
            let disable = sqlx::query(DISABLE_FAILING)
                .bind(self.clock.now_ms())
                .bind(id.to_string())
                .bind(failing_ms)
                .bind(SEEN_PART);
            // Another node may have done it, or an attempt has gone well.
            if disable.execute(&mut *change.tx).await?.rows_affected() == 1 {
                disabled(change, id, self.clock.now_ms(), TOO_LONG).await?;
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// What is to be told, the oldest first.
    pub async fn announcements(&self, most: i64) -> Result<Vec<Announcement>> {
        let found = sqlx::query("SELECT * FROM announcement ORDER BY id LIMIT $1")
            .bind(most)
            .fetch_all(&self.database.pool)
            .await?;
        found.iter().map(Announcement::from_row).collect()
    }

    /// Removes an announcement that is in the log.
    pub async fn announced(&self, id: Uuid) -> Result<()> {
        sqlx::query("DELETE FROM announcement WHERE id = $1")
            .bind(id.to_string())
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }
}

async fn disabled(mut change: Change<'_>, id: EndpointId, now_ms: i64, reason: &str) -> Result<()> {
    sqlx::query(ANNOUNCE)
        .bind(Uuid::now_v7().to_string())
        .bind(crate::deliveries::reason(reason))
        .bind(now_ms)
        .bind(id.to_string())
        .execute(&mut *change.tx)
        .await?;
    change.touch(id).await?;
    change.commit().await
}

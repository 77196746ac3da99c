//! What became of deliveries, as far as the endpoint shows it.
//!
//! These do not go through the feed: they change nothing about what an endpoint gets.

use super::EndpointId;
use super::words::DeliveryStatus;
use crate::error::Result;
use crate::open::Store;

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// When it was.
    pub time_ms: i64,
    /// How it went.
    pub status: DeliveryStatus,
}

impl Store {
    /// Notes an attempt, unless a newer one is noted already. The first failure after a success, or after nothing, is
    /// remembered until the next success.
    pub async fn delivered(&self, endpoint: EndpointId, delivered: Delivered) -> Result<()> {
        let statement = match delivered.status {
            DeliveryStatus::Success => {
                "UPDATE endpoint SET last_delivery_status = $1, last_delivery_ms = $2, first_failure_ms = NULL \
                 WHERE id = $3 AND (last_delivery_ms IS NULL OR last_delivery_ms <= $2)"
            }
            DeliveryStatus::Failure => {
                "UPDATE endpoint SET last_delivery_status = $1, last_delivery_ms = $2, \
                 first_failure_ms = COALESCE(first_failure_ms, $2) \
                 WHERE id = $3 AND (last_delivery_ms IS NULL OR last_delivery_ms <= $2)"
            }
        };
        sqlx::query(statement)
            .bind(delivered.status.as_str())
            .bind(delivered.time_ms)
            .bind(endpoint.to_string())
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }
}

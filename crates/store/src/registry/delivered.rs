//! What became of deliveries, as far as the endpoint shows it.
//!
//! These do not go through the feed: they change nothing about what an endpoint gets.

use super::EndpointId;
use super::stored_words::DeliveryStatus;
use crate::connection::Line;
use crate::deliveries::Status;
use crate::error::Result;
use crate::open::Store;

/// An attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// When it began.
    pub time_ms: i64,
    /// How it went.
    pub status: DeliveryStatus,
}

impl Store {
    /// Notes an attempt, unless one that began later is noted already. The first failure after a
    /// success, or after nothing, is remembered until the next success.
    pub async fn delivered(&self, endpoint: EndpointId, delivered: Delivered) -> Result<()> {
        let status = match delivered.status {
            DeliveryStatus::Success => Status::success(endpoint, delivered.time_ms),
            DeliveryStatus::Failure => Status::failure(endpoint, delivered.time_ms),
        };
        let mut connection = self.database.pool.acquire_in_turn(Line::Usual).await?;
        self.note_status(&mut connection, &[status]).await
    }
}

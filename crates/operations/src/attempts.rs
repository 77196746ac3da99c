//! What was tried: the attempts at an endpoint.

use dovecast_store::KeptAttempt;

use crate::{Operations, OwnEndpoint, Result};

impl Operations {
    /// The latest attempts at an endpoint, at most so many, the newest first.
    pub async fn attempts(&self, own: &OwnEndpoint, most: usize) -> Result<Vec<KeptAttempt>> {
        Ok(self.store.attempts(own.id(), most).await?)
    }
}

//! Acts on the keys that secrets of endpoints are sealed with.

use dovecast_store::{KeyUse, Rotated, StoreError};

use crate::{Operations, Operator, Result};

impl Operations {
    /// The keys by their ids, and how much is sealed with each.
    pub async fn secret_keys(&self, _: Operator) -> Result<Vec<KeyUse>> {
        Ok(self.store.secret_keys().await?)
    }

    /// Seals everything with a new key, and retires the old one.
    pub async fn rotate_secret_key(&self, Operator(by): Operator) -> Result<Rotated, StoreError> {
        tracing::info!(%by, "a rotation of the keys of secrets was asked for");
        self.store.rotate_secret_key().await
    }
}

//! The source of the keys during a rotation: what is put there, put back, and taken out.

use std::sync::Arc;

use super::super::adopt::{current, needed};
use super::super::error::SecretsError;
use super::super::key::{Key, KeyId};
use super::super::keyring::Keyring;
use super::ids;
use crate::error::Result;
use crate::open::Store;

/// Keys that an earlier rotation has retired.
const REMOVABLE: &str = "SELECT id FROM secret_key WHERE retired_ms < \
    (SELECT now_used.first_ms FROM feed JOIN secret_key AS now_used ON now_used.id = feed.key_id) ORDER BY id";

impl Store {
    /// Writes keys that the database needs into the file again, where it has lost them since they
    /// were read: they are in memory alone, and nothing that they have sealed would ever be opened
    /// again.
    pub(super) async fn write_back(&self) -> Result<()> {
        let mut connection = self.database.pool.acquire().await?;
        let mut wanted = needed(&mut connection).await?;
        wanted.extend(current(&mut connection).await?);
        drop(connection);
        let (ring, there) = (self.keys.ring(), self.keys.there());
        wanted.retain(|key| !there.has(*key));
        let lost: Vec<_> = wanted
            .iter()
            .filter_map(|key| ring.find(*key).map(Arc::clone))
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = lost.iter().map(|key| key.id().to_string()).collect();
        let add = |ring: &mut Keyring| lost.into_iter().try_for_each(|key| ring.add(key));
        self.keys.update(add).await?;
        tracing::warn!(place = %self.keys.source(), keys = ids.join(" "), "keys that the database needs were not in their place any more, and are written back");
        Ok(())
    }

    /// Puts a new key into the source.
    pub(super) async fn add_key(&self) -> Result<KeyId> {
        let source = self.keys.source();
        if !source.is_written() {
            let place = source.to_string();
            return Err(SecretsError::NoNewKey { place }.into());
        }
        let key = Arc::new(Key::generate()?);
        let id = key.id();
        self.keys.update(move |ring| ring.add(key)).await?;
        Ok(id)
    }

    pub(super) fn must_be_there(&self, key: KeyId) -> Result<(), SecretsError> {
        if self.keys.there().has(key) {
            return Ok(());
        }
        let place = self.keys.source().to_string();
        Err(SecretsError::NotInPlace { key, place })
    }

    /// Step 5: takes what an earlier rotation has retired out of the source; tells which keys.
    pub(super) async fn take_out(&self) -> Result<Vec<KeyId>> {
        let mut connection = self.database.pool.acquire().await?;
        let removable = sqlx::query(REMOVABLE).fetch_all(&mut connection).await?;
        let mut removable = ids(&removable)?;
        let current = current(&mut connection).await?;
        drop(connection);
        self.keys.refresh().await?;
        let there = self.keys.there();
        removable.retain(|key| there.has(*key));
        let Some(current) = current.filter(|_| !removable.is_empty()) else {
            return Ok(Vec::new());
        };
        let place = self.keys.source().to_string();
        let removed = removable.clone();
        let take_out = move |ring: &mut Keyring| {
            ring.remove(&removable);
            if ring.has(current) {
                return Ok(());
            }
            let key = current;
            Err(SecretsError::NotInPlace { key, place })
        };
        self.keys.update(take_out).await?;
        Ok(removed)
    }
}

//! A rotation: a new key, everything sealed anew with it, and the old one retired.
//!
//! 1. The new key is put into the source, and every dispatcher that lives has said that it has it.
//! 2. `feed.key_id` names it: from that commit on every node seals with it, because every change of
//!    the registry reads that column with the lock on its row.
//! 3. Rows that other keys have sealed are sealed anew, some in each transaction, in turn with the
//!    changes of others.
//! 4. When no row is left an old key is retired, and taken out of the source.
//!
//! Each step can be done twice, so a rotation that was interrupted goes on where it was: a key that
//! has sealed something and is neither current nor retired is what is left of one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::adopt::{current, needed, seal_with};
use super::error::SecretsError;
use super::key::{BadKeyId, Key, KeyId};
use super::keyring::Keyring;
use crate::clock::now_ms;
use crate::error::{Result, with_sources};
use crate::open::Store;
use crate::registry::settings;
use crate::row;

/// Rows that are sealed anew in one transaction: others wait for it no longer than a moment.
const BATCH: i64 = 200;
/// How long the dispatchers of other nodes have to say that they know a new key, which they look
/// for every second.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often they are asked.
const KNOWN_INTERVAL: Duration = Duration::from_millis(200);
/// The id of the key in a sealed value, see `envelope.rs`.
const OTHERS: &str = "SELECT id, sealed FROM endpoint WHERE id > $1 AND substr(sealed, 6, 16) <> $2 \
    ORDER BY id LIMIT $3";
const SEAL: &str = "UPDATE endpoint SET sealed = $1 WHERE id = $2";
const COUNT: &str =
    "SELECT substr(sealed, 6, 16) AS key_id, COUNT(*) AS total FROM endpoint GROUP BY 1";
const KNOWN: &str = "SELECT id, retired_ms FROM secret_key ORDER BY first_ms, id";
const RETIRE: &str = "UPDATE secret_key SET retired_ms = $1 WHERE id <> $2 AND retired_ms IS NULL \
    AND NOT EXISTS (SELECT 1 FROM endpoint WHERE substr(sealed, 6, 16) = secret_key.id)";
const ALIVE: &str = "SELECT id, key_ids FROM dispatcher WHERE alive_until_ms >= $1 ORDER BY id";

/// A key, and what it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Id of the key.
    pub id: KeyId,
    /// Whether everything is sealed with it from now on.
    pub is_current: bool,
    /// Whether it is there, in this process.
    pub is_here: bool,
    /// When it was retired, if it was.
    pub retired_ms: Option<i64>,
    /// Values that are sealed with it.
    pub rows: u64,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The key with which everything is sealed now.
    pub key: KeyId,
    /// Values that were sealed anew.
    pub sealed: u64,
    /// Values that cannot be opened, and stay as they are.
    pub damaged: u64,
    /// Keys that seal nothing any more.
    pub retired: Vec<KeyId>,
    /// Why retired keys were not taken out of their place, if they were not.
    pub kept: Option<String>,
}

impl Store {
    /// All keys that are there or were used, in the order of their first use; those that seal
    /// nothing yet come last.
    pub async fn secret_keys(&self) -> Result<Vec<KeyUse>> {
        let ring = self.keys.ring();
        let mut connection = self.database.pool.acquire().await?;
        let current = current(&mut connection).await?;
        let counted = sqlx::query(COUNT).fetch_all(&mut connection).await?;
        let mut rows = BTreeMap::new();
        for found in &counted {
            let total = row::number(found, "total")?;
            let total = u64::try_from(total).unwrap_or_default();
            // What is not sealed has no key; opening it is an error.
            if let Ok(id) = row::text(found, "key_id")?.parse::<KeyId>() {
                rows.insert(id, total);
            }
        }
        let mut keys = Vec::new();
        for found in sqlx::query(KNOWN).fetch_all(&mut connection).await? {
            let id = row::text(&found, "id")?.parse();
            let id = id.map_err(|error: BadKeyId| row::wrong("id", error))?;
            keys.push((id, row::optional_number(&found, "retired_ms")?));
        }
        for id in ring.ids().chain(rows.keys().copied()) {
            if keys.iter().all(|(known, _)| *known != id) {
                keys.push((id, None));
            }
        }
        let keys = keys.into_iter().map(|(id, retired_ms)| KeyUse {
            id,
            is_current: Some(id) == current,
            is_here: ring.has(id),
            retired_ms,
            rows: rows.get(&id).copied().unwrap_or_default(),
        });
        Ok(keys.collect())
    }

    /// Replaces the key, or finishes what an earlier rotation has left.
    pub async fn rotate_secret_key(&self) -> Result<Rotated> {
        let _alone = self.rotating.lock().await;
        self.keys.refresh().await?;
        let key = match self.unfinished_rotation().await? {
            Some(key) => key,
            None => self.begin_rotation().await?,
        };
        self.finish_rotation(key).await
    }

    /// Finishes a rotation that was interrupted, if one was.
    pub async fn resume_rotation(&self) -> Result<Option<Rotated>> {
        let _alone = self.rotating.lock().await;
        match self.unfinished_rotation().await? {
            Some(key) => Ok(Some(self.finish_rotation(key).await?)),
            None => Ok(None),
        }
    }

    /// The current key, if others are still in use.
    async fn unfinished_rotation(&self) -> Result<Option<KeyId>> {
        let mut connection = self.database.pool.acquire().await?;
        let current = current(&mut connection).await?;
        let needed = needed(&mut connection).await?;
        Ok(current.filter(|current| needed.iter().any(|key| key != current)))
    }

    /// Steps 1 and 2.
    async fn begin_rotation(&self) -> Result<KeyId> {
        let known = self.secret_keys().await?;
        let before = known.iter().find(|key| key.is_current).map(|key| key.id);
        let was_used = |id: KeyId| {
            let mut known = known.iter();
            known.any(|key| key.id == id && (key.is_current || key.retired_ms.is_some()))
        };
        // One that was put there beforehand, as where nodes have copies of a file.
        let ready = self.keys.ring().ids().rfind(|id| !was_used(*id));
        let key = match ready {
            Some(key) => key,
            None => self.add_key().await?,
        };
        self.wait_until_known(key).await?;
        let mut change = self.change().await?;
        if Some(change.key()) != before {
            return Err(SecretsError::AnotherRotation.into());
        }
        seal_with(&mut change.tx, key).await?;
        change.commit().await?;
        tracing::info!(key.id = %key, "secrets are sealed with another key from now on");
        Ok(key)
    }

    /// Puts a new key into the source.
    async fn add_key(&self) -> Result<KeyId> {
        let keys = std::sync::Arc::clone(&self.keys);
        let added = tokio::task::spawn_blocking(move || {
            let source = keys.source();
            let key = Key::generate()?;
            let id = key.id();
            let place = source.to_string();
            if !source.is_written() {
                return Err(SecretsError::NoNewKey { place });
            }
            let mut ring = source.load()?.ok_or(SecretsError::Empty { place })?;
            ring.add(key);
            source.replace(&ring)?;
            keys.read_again()?;
            Ok(id)
        });
        Ok(added.await.map_err(|error| self.not_written(error))??)
    }

    fn not_written(&self, error: tokio::task::JoinError) -> SecretsError {
        SecretsError::Write {
            place: self.keys.source().to_string(),
            source: std::io::Error::other(error),
        }
    }

    /// Waits until all dispatchers that live have a key.
    async fn wait_until_known(&self, key: KeyId) -> Result<()> {
        if !self.database.is_postgres {
            // A file has one dispatcher, and it is this one.
            return Ok(());
        }
        let until = Instant::now() + KNOWN_TIMEOUT;
        loop {
            let nodes = self.dispatchers_without(key).await?;
            if nodes.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(SecretsError::NotEverywhere {
                    key,
                    place: self.keys.source().to_string(),
                    nodes: nodes.join(", "),
                }
                .into());
            }
            tokio::time::sleep(KNOWN_INTERVAL).await;
        }
    }

    /// Dispatchers that live, and have not said that they have a key.
    async fn dispatchers_without(&self, key: KeyId) -> Result<Vec<String>> {
        let key = key.to_string();
        let mut connection = self.database.pool.acquire().await?;
        let now_ms = self.now_of_dispatchers(&mut connection, now_ms()).await?;
        let alive = sqlx::query(ALIVE).bind(now_ms);
        let mut nodes = Vec::new();
        for found in alive.fetch_all(&mut connection).await? {
            let ids = row::text(&found, "key_ids")?;
            if !ids.split(' ').any(|id| id == key) {
                nodes.push(row::text(&found, "id")?);
            }
        }
        Ok(nodes)
    }

    /// Steps 3 and 4.
    async fn finish_rotation(&self, key: KeyId) -> Result<Rotated> {
        let (sealed, damaged) = self.seal_anew(key).await?;
        let mut change = self.change().await?;
        if change.key() != key {
            return Err(SecretsError::AnotherRotation.into());
        }
        sqlx::query(RETIRE)
            .bind(now_ms())
            .bind(key.to_string())
            .execute(&mut *change.tx)
            .await?;
        change.commit().await?;
        let known = self.secret_keys().await?;
        let retired = known.iter().filter(|known| known.retired_ms.is_some());
        let retired: Vec<_> = retired.map(|known| known.id).collect();
        let kept = self.take_out(retired.clone()).await.err();
        let kept = kept.map(|error| with_sources(&error.into()));
        tracing::info!(key.id = %key, sealed, damaged, "all secrets are sealed with the new key");
        Ok(Rotated {
            key,
            sealed,
            damaged,
            retired,
            kept,
        })
    }

    /// Seals with a key what others have sealed; tells how many values, and how many cannot be
    /// opened.
    async fn seal_anew(&self, key: KeyId) -> Result<(u64, u64)> {
        let (mut after, mut sealed, mut damaged) = (String::new(), 0, 0);
        loop {
            let mut change = self.change().await?;
            if change.key() != key {
                return Err(SecretsError::AnotherRotation.into());
            }
            let others = sqlx::query(OTHERS).bind(&after).bind(key.to_string());
            let rows = others.bind(BATCH).fetch_all(&mut *change.tx).await?;
            let Some(last) = rows.last() else {
                return Ok((sealed, damaged));
            };
            after = row::text(last, "id")?;
            let ring = change.ring();
            for found in &rows {
                let id = row::text(found, "id")?;
                let field = settings::field(&id);
                let value = match ring.open(field, &row::text(found, "sealed")?) {
                    Ok(value) => value,
                    Err(error) => {
                        tracing::error!(%error, "a secret cannot be sealed with the new key");
                        damaged += 1;
                        continue;
                    }
                };
                sqlx::query(SEAL)
                    .bind(change.seal(field, &value).await?)
                    .bind(id)
                    .execute(&mut *change.tx)
                    .await?;
                sealed += 1;
            }
            change.commit().await?;
        }
    }

    /// Takes keys out of the source.
    async fn take_out(&self, ids: Vec<KeyId>) -> Result<(), SecretsError> {
        let keys = std::sync::Arc::clone(&self.keys);
        let taken = tokio::task::spawn_blocking(move || {
            let source = keys.source();
            let Some(ring) = source.load()? else {
                return Ok(());
            };
            let without: Keyring = ring.without(&ids);
            if without.ids().count() == ring.ids().count() {
                return Ok(());
            }
            source.replace(&without)
        });
        taken.await.map_err(|error| self.not_written(error))?
    }
}

//! A rotation: a new key, everything sealed anew with it, and the old one retired.
//!
//! 1. The new key is put into the source, and every dispatcher that lives has said that it has it.
//! 2. `feed.key_id` names it: from that commit on every node seals with it, because every change of
//!    the registry reads that column with the lock on its row.
//! 3. Rows that other keys have sealed are sealed anew, some in each transaction, in turn with the
//!    changes of others.
//! 4. When no row is left an old key is retired. It stays in the source until the next rotation:
//!    a database that loses its last commits (a failover, a backup) needs it again.
//! 5. Keys that were retired before the current one was in use are taken out of the source.
//!
//! Each step can be done twice, so a rotation that was interrupted goes on where it was: a key that
//! has sealed something and is neither current nor retired is what is left of one.
//!
//! A key that is in memory alone is gone when the process ends. So a key is chosen from what the
//! source holds, the source is read once more before step 2, and before step 4 what the database
//! needs is written back if somebody has replaced the file meanwhile.

mod place;
mod tables;

use std::collections::BTreeMap;
use std::time::Duration;

use dovecast_log::now_ms;
use sqlx::any::AnyRow;
use tokio::time::Instant;

use super::adopt::{current, needed, seal_with};
use super::error::SecretsError;
use super::key::{BadKeyId, KeyId};
use crate::connection::Connection;
use crate::error::{Result, with_sources};
use crate::feed::Change;
use crate::open::Store;
use crate::row;
use tables::{SealedTable, TABLES};

/// Rows that are sealed anew in one transaction: others wait for it no longer than a moment.
const BATCH: i64 = 200;
/// How long the dispatchers of other nodes have to say that they know a new key, which they look
/// for every second. Longer than one that has died counts as alive, five seconds.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(8);
/// How often they are asked.
const KNOWN_INTERVAL: Duration = Duration::from_millis(200);
/// How often others are waited for that begin to live meanwhile.
const KNOWN_TRIES: usize = 3;
const KNOWN: &str = "SELECT id, retired_ms FROM secret_key ORDER BY first_ms, id";
/// Not before the current key was in use, however clocks are set: see `place.rs`.
const RETIRE: &str = "UPDATE secret_key SET retired_ms = (SELECT CASE WHEN first_ms > $1 THEN first_ms ELSE $1 END \
    FROM secret_key WHERE id = $2) WHERE id <> $2 AND retired_ms IS NULL \
    AND NOT EXISTS (SELECT 1 FROM endpoint WHERE substr(sealed, 6, 16) = secret_key.id) \
    AND NOT EXISTS (SELECT 1 FROM push_subscription WHERE substr(sealed, 6, 16) = secret_key.id) \
    AND NOT EXISTS (SELECT 1 FROM push_credential WHERE substr(sealed, 6, 16) = secret_key.id) RETURNING id";
const ALIVE: &str = "SELECT id, key_ids FROM dispatcher WHERE alive_until_ms >= $1 ORDER BY id";

/// What is asked of the tables while no other change can be made, and one of the indexes that are
/// used for it.
#[cfg(test)]
pub(super) const WITH_THE_LOCK: [(&str, &str); 6] = [
    (TABLES[0].next, "endpoint_key"),
    (TABLES[1].next, "push_subscription_key"),
    (TABLES[2].next, "push_credential_key"),
    (RETIRE, "endpoint_key"),
    (RETIRE, "push_subscription_key"),
    (RETIRE, "push_credential_key"),
];

/// A key, and what it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Id of the key.
    pub id: KeyId,
    /// Whether everything is sealed with it from now on.
    pub is_current: bool,
    /// Whether it is in the place of the keys, as this process has read it last.
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
    /// Keys that seal nothing any more since this rotation; they stay in their place until the
    /// next.
    pub retired: Vec<KeyId>,
    /// Keys that an earlier rotation has retired, and that are not in their place any more.
    pub taken_out: Vec<KeyId>,
    /// Why such keys were not taken out of their place, if they were not.
    pub kept: Option<String>,
}

impl Store {
    /// All keys that are there or were used, in the order of their first use; those that seal
    /// nothing yet come last.
    pub async fn secret_keys(&self) -> Result<Vec<KeyUse>> {
        let ring = self.keys.there();
        let mut connection = self.database.pool.acquire().await?;
        let current = current(&mut connection).await?;
        let mut rows = BTreeMap::new();
        for table in &TABLES {
            for found in sqlx::query(table.count).fetch_all(&mut connection).await? {
                let total = row::number(&found, "total")?;
                // What is not sealed has no key; opening it is an error.
                if let Ok(id) = row::text(&found, "key_id")?.parse::<KeyId>() {
                    *rows.entry(id).or_default() += u64::try_from(total).unwrap_or_default();
                }
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
        self.write_back().await?;
        let mut taken_out = Vec::new();
        if let Some(key) = self.unfinished_rotation().await? {
            let done = self.finish_rotation(key).await?;
            // What is left then cannot be opened with any key, and must not forbid another one.
            if done.sealed > 0 || !done.retired.is_empty() {
                return Ok(done);
            }
            taken_out = done.taken_out;
        }
        let key = self.begin_rotation().await?;
        let mut done = self.finish_rotation(key).await?;
        done.taken_out.splice(0..0, taken_out);
        Ok(done)
    }

    /// Finishes a rotation that was interrupted, if one was, and takes out of the source what an
    /// earlier one has retired: it may have been interrupted before that, or on another node, which
    /// has a copy of the file.
    pub async fn resume_rotation(&self) -> Result<Option<Rotated>> {
        let _alone = self.rotating.lock().await;
        if let Some(key) = self.unfinished_rotation().await? {
            return Ok(Some(self.finish_rotation(key).await?));
        }
        if self.keys.source().is_written() {
            self.take_out().await?;
        }
        Ok(None)
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
            known.any(|key| {
                key.id == id && (key.is_current || key.retired_ms.is_some() || key.rows > 0)
            })
        };
        // One that was put there beforehand, as where nodes have copies of a file.
        let ready = self.keys.there().ids().rfind(|id| !was_used(*id));
        let key = match ready {
            Some(key) => key,
            None => self.add_key().await?,
        };
        let mut change = self.change_once_known(key, before).await?;
        self.keys.refresh().await?;
        self.must_be_there(key)?;
        seal_with(&mut change.tx, key).await?;
        change.commit().await?;
        self.keys.seals_with(key);
        tracing::info!(key.id = %key, "secrets are sealed with another key from now on");
        Ok(key)
    }

    /// Waits until all dispatchers that live have a key; begins a change in which nothing is sealed
    /// with another one than `before` yet.
    async fn change_once_known(&self, key: KeyId, before: Option<KeyId>) -> Result<Change<'_>> {
        let mut late = Vec::new();
        for _ in 0..KNOWN_TRIES {
            self.wait_until_known(key).await?;
            let mut change = self.change().await?;
            if Some(change.key()) != before {
                return Err(SecretsError::AnotherRotation.into());
            }
            // Once more, now that nobody else changes anything: a dispatcher may have begun to live
            // since, and the file may have been replaced. It has as long as the others had.
            late = self.dispatchers_without(&mut change.tx, key).await?;
            if late.is_empty() {
                return Ok(change);
            }
        }
        Err(self.not_everywhere(key, &late).into())
    }

    /// Waits until all dispatchers that live have a key.
    async fn wait_until_known(&self, key: KeyId) -> Result<()> {
        let until = Instant::now() + KNOWN_TIMEOUT;
        loop {
            let mut connection = self.database.pool.acquire().await?;
            let nodes = self.dispatchers_without(&mut connection, key).await?;
            drop(connection);
            if nodes.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(self.not_everywhere(key, &nodes).into());
            }
            tokio::time::sleep(KNOWN_INTERVAL).await;
        }
    }

    fn not_everywhere(&self, key: KeyId, nodes: &[String]) -> SecretsError {
        SecretsError::NotEverywhere {
            key,
            place: self.keys.source().to_string(),
            nodes: nodes.join(", "),
        }
    }

    /// Dispatchers that live, and have not said that they have a key.
    async fn dispatchers_without(
        &self,
        connection: &mut Connection,
        key: KeyId,
    ) -> Result<Vec<String>> {
        if !self.database.is_postgres {
            // A file has one dispatcher, and it is this one.
            return Ok(Vec::new());
        }
        let key = key.to_string();
        let now_ms = self.now_of_dispatchers(connection, now_ms()).await?;
        let alive = sqlx::query(ALIVE).bind(now_ms);
        let mut nodes = Vec::new();
        for found in alive.fetch_all(connection).await? {
            let ids = row::text(&found, "key_ids")?;
            if !ids.split(' ').any(|id| id == key) {
                nodes.push(row::text(&found, "id")?);
            }
        }
        Ok(nodes)
    }

    /// Steps 3 to 5.
    async fn finish_rotation(&self, key: KeyId) -> Result<Rotated> {
        let (sealed, damaged) = self.seal_anew(key).await?;
        let retired = self.retire(key).await?;
        let taken_out = self.take_out().await;
        let (taken_out, kept) = match taken_out {
            Ok(ids) => (ids, None),
            Err(error) => (Vec::new(), Some(with_sources(&error))),
        };
        tracing::info!(key.id = %key, sealed, damaged, "all secrets are sealed with the new key");
        Ok(Rotated {
            key,
            sealed,
            damaged,
            retired,
            taken_out,
            kept,
        })
    }

    /// Step 4: keys that seal nothing any more.
    async fn retire(&self, key: KeyId) -> Result<Vec<KeyId>> {
        self.keys.refresh().await?;
        self.write_back().await?;
        let mut change = self.change().await?;
        if change.key() != key {
            return Err(SecretsError::AnotherRotation.into());
        }
        self.keys.refresh().await?;
        self.must_be_there(key)?;
        let retire = sqlx::query(RETIRE).bind(now_ms()).bind(key.to_string());
        let retired = retire.fetch_all(&mut *change.tx).await?;
        let retired = ids(&retired)?;
        change.commit().await?;
        Ok(retired)
    }

    /// Seals with a key what others have sealed; tells how many values, and how many cannot be
    /// opened.
    async fn seal_anew(&self, key: KeyId) -> Result<(u64, u64)> {
        let (mut sealed, mut damaged) = (0, 0);
        for table in &TABLES {
            let others = sqlx::query(table.others).bind(key.to_string());
            // Nothing is sealed with another one any more, so none is added to these.
            for other in &others.fetch_all(&self.database.pool).await? {
                let other = row::text(other, "key_id")?;
                let mut after = String::new();
                while let Some(batch) = self.seal_batch(table, key, (&other, &after)).await? {
                    sealed += batch.sealed;
                    damaged += batch.damaged;
                    after = batch.last;
                }
            }
        }
        Ok((sealed, damaged))
    }

    /// Seals some rows anew, in one transaction; `None`: there are no more.
    async fn seal_batch(
        &self,
        table: &SealedTable,
        key: KeyId,
        (other, after): (&str, &str),
    ) -> Result<Option<Batch>> {
        let mut change = self.change().await?;
        if change.key() != key {
            return Err(SecretsError::AnotherRotation.into());
        }
        let next = sqlx::query(table.next).bind(other).bind(after).bind(BATCH);
        let rows = next.fetch_all(&mut *change.tx).await?;
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        let mut batch = Batch {
            last: row::text(last, "id")?,
            sealed: 0,
            damaged: 0,
        };
        let ring = change.ring();
        for found in &rows {
            let id = row::text(found, "id")?;
            let field = (table.field)(&id);
            let value = match ring.open(field, &row::text(found, "sealed")?) {
                Ok(value) => value,
                Err(error) => {
                    tracing::error!(table = field.table, row = id, %error, "a secret cannot be sealed with the new key");
                    batch.damaged += 1;
                    continue;
                }
            };
            sqlx::query(table.seal)
                .bind(change.seal(field, &value).await?)
                .bind(id)
                .execute(&mut *change.tx)
                .await?;
            batch.sealed += 1;
        }
        change.commit().await?;
        Ok(Some(batch))
    }
}

/// Rows that were sealed anew in one transaction.
struct Batch {
    /// Id of the last one.
    last: String,
    sealed: u64,
    damaged: u64,
}

fn ids(rows: &[AnyRow]) -> Result<Vec<KeyId>> {
    let ids = rows.iter().map(|found| {
        let id = row::text(found, "id")?.parse();
        Ok(id.map_err(|error: BadKeyId| row::wrong("id", error))?)
    });
    ids.collect()
}

//! The feed of changes: which endpoints have changed since one looked last, so that a dispatcher
//! keeps its filters in memory and asks nothing per notification.
//!
//! A change takes the next number first, and with it the lock on the row that holds it: changes are
//! one after the other, and whoever has seen a number has seen everything before it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use tokio::sync::watch;

use crate::connection::{Line, Transaction};
use crate::error::Result;
use crate::open::{Database, Store};
use crate::registry::EndpointId;
use crate::secrets::{BadKeyId, Field, KeyId, Keyring, Keys};
use crate::statement::{ROWS, Statement};

/// The channel of LISTEN and NOTIFY.
pub(crate) const CHANNEL: &str = "dovecast_change";
/// How often a PostgreSQL is asked, in case that a notification was lost.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Old rows are removed once in so many changes.
const PRUNE_EVERY: i64 = 64;

#[derive(Debug)]
pub(crate) struct ChangeFeed {
    last: watch::Sender<i64>,
    kept: i64,
}

impl ChangeFeed {
    pub(crate) async fn load(database: &Database, kept: i64) -> Result<Self> {
        let last = last_seq(database).await?;
        Ok(Self {
            last: watch::Sender::new(last),
            kept,
        })
    }

    /// Tells whoever waits.
    pub(crate) fn publish(&self, seq: i64) {
        self.last.send_if_modified(|last| {
            let is_news = seq > *last;
            *last = seq.max(*last);
            is_news
        });
    }

    /// The number that is known now.
    pub(crate) fn known(&self) -> i64 {
        *self.last.borrow()
    }

    /// The number that was found in the database by a question that was asked when `known` was
    /// known.
    ///
    /// A change that was committed meanwhile has a number that the question may not have seen: then
    /// the higher one holds. Where nothing has come in between, a lower number is of another
    /// database, such as one that was put back to an earlier state.
    pub(crate) fn found(&self, known: i64, seq: i64) {
        self.last.send_if_modified(|last| {
            let found = if *last == known { seq } else { seq.max(*last) };
            let is_news = found != *last;
            *last = found;
            is_news
        });
    }

    /// Resolves when the store is dropped.
    pub(crate) fn subscribe(&self) -> watch::Receiver<i64> {
        self.last.subscribe()
    }
}

pub(crate) async fn last_seq(database: &Database) -> Result<i64> {
    let row = sqlx::query("SELECT seq FROM feed")
        .fetch_one(&database.pool)
        .await?;
    Ok(row.try_get("seq")?)
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These endpoints: load them again. One that is not there then is gone.
    Endpoints {
        /// Each once.
        ids: Vec<EndpointId>,
        /// Where to go on.
        seq: i64,
    },
    /// Too much: load all endpoints again, then go on at `seq`.
    Everything {
        /// Where to go on.
        seq: i64,
    },
}

impl Store {
    /// The number of the last change. Who loads all endpoints asks for it first.
    pub async fn last_change(&self) -> Result<i64> {
        last_seq(&self.database).await
    }

    /// The number of the last change that this process knows of, its own included.
    pub fn known_change(&self) -> i64 {
        self.feed.known()
    }

    /// Waits until something has changed after `seq`, or `seq` is of no use any more.
    pub async fn changed(&self, seq: i64) {
        // The sender lives as long as this.
        let _ = self.feed.subscribe().wait_for(|last| *last != seq).await;
    }

    /// Counts how often this process has read other keys of secrets: an endpoint that could not be
    /// opened may be one that can.
    pub fn key_changes(&self) -> watch::Receiver<u64> {
        self.keys.changes()
    }

    /// What has changed after `seq`.
    pub async fn changes_since(&self, seq: i64) -> Result<Changes> {
        let mut tx = self.database.begin_reading().await?;
        let row = sqlx::query("SELECT seq, pruned_seq FROM feed")
            .fetch_one(&mut *tx)
            .await?;
        let (last, pruned): (i64, i64) = (row.try_get("seq")?, row.try_get("pruned_seq")?);
        // A number that was never given out is of another database.
        if seq < pruned || seq > last {
            return Ok(Changes::Everything { seq: last });
        }
        let rows = sqlx::query("SELECT DISTINCT endpoint_id FROM change WHERE seq > $1")
            .bind(seq)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        let ids: Result<Vec<_>> = rows
            .iter()
            .map(|row| crate::row::id(row, "endpoint_id"))
            .collect();
        self.feed.publish(last);
        Ok(Changes::Endpoints {
            ids: ids?,
            seq: last,
        })
    }

    /// Begins a change of the registry: every function that writes there goes through it.
    pub(crate) async fn change(&self) -> Result<Change<'_>> {
        self.change_in(Line::Usual).await
    }

    /// A change, as [`Self::change`], that waits in this line.
    pub(crate) async fn change_in(&self, line: Line) -> Result<Change<'_>> {
        let mut tx = self.database.begin_writing_in(line).await?;
        let row = sqlx::query("UPDATE feed SET seq = seq + 1 RETURNING seq, key_id")
            .fetch_one(&mut *tx)
            .await?;
        let key: String = row.try_get("key_id")?;
        let wrong = |error: BadKeyId| crate::row::wrong("key_id", error);
        let key = key.parse().map_err(wrong)?;
        self.keys.seals_with(key);
        Ok(Change {
            seq: row.try_get("seq")?,
            key,
            leaves_rows: false,
            tx,
            store: self,
        })
    }
}

/// A transaction that changes the registry, the only one at this moment. Dropped without a commit
/// nothing has happened.
pub(crate) struct Change<'a> {
    pub(crate) tx: Transaction,
    seq: i64,
    /// What everything is sealed with at this moment, on all nodes.
    key: KeyId,
    /// Whether it deletes endpoints, of which there may be rows.
    leaves_rows: bool,
    store: &'a Store,
}

impl Change<'_> {
    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.store.keys
    }

    /// The keys of this process.
    pub(crate) fn ring(&self) -> Arc<Keyring> {
        self.store.keys.ring()
    }

    /// What everything is sealed with.
    pub(crate) fn key(&self) -> KeyId {
        self.key
    }

    /// Seals a value for its place.
    pub(crate) async fn seal(&mut self, field: Field<'_>, value: &[u8]) -> Result<String> {
        // Where it is not there, sealing says so.
        self.store.keys.has(self.key).await?;
        Ok(self.ring().seal(self.key, field, value)?)
    }

    /// The dispatcher has to look at this endpoint again.
    pub(crate) async fn touch(&mut self, endpoint: EndpointId) -> Result<()> {
        sqlx::query("INSERT INTO change (seq, endpoint_id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(self.seq)
            .bind(endpoint.to_string())
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// The dispatcher has to look at these endpoints again.
    pub(crate) async fn touch_all(&mut self, endpoints: &[EndpointId]) -> Result<()> {
        let seq = self.seq;
        for part in endpoints.chunks(ROWS) {
            let mut insert = Statement::new("INSERT INTO change (seq, endpoint_id) VALUES ");
            insert.bind_rows(part, |insert, endpoint| {
                insert.bind(seq).bind_next(endpoint.to_string());
            });
            insert.push(" ON CONFLICT DO NOTHING");
            insert.execute(&mut self.tx).await?;
        }
        Ok(())
    }

    /// Has what a deleted endpoint leaves removed, once this is committed.
    pub(crate) fn leaves_rows(&mut self) {
        self.leaves_rows = true;
    }

    pub(crate) async fn commit(mut self) -> Result<()> {
        if self.seq % PRUNE_EVERY == 0 {
            self.prune().await?;
        }
        if self.store.database.is_postgres {
            sqlx::query("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(self.seq.to_string())
                .execute(&mut *self.tx)
                .await?;
        }
        let Self {
            tx,
            store,
            seq,
            leaves_rows,
            ..
        } = self;
        // Whoever has asked for it may wait no more: what is committed is told nevertheless.
        let store = store.clone();
        let told = tokio::spawn(async move {
            tx.commit().await?;
            store.feed.publish(seq);
            if leaves_rows {
                store.gone.notify_one();
            }
            Ok(())
        });
        match told.await {
            Ok(told) => told,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The process stops.
                Err(error) => Err(sqlx::Error::Io(std::io::Error::other(error)).into()),
            },
        }
    }

    async fn prune(&mut self) -> Result<()> {
        let upto = self.seq - self.store.feed.kept;
        if upto <= 0 {
            return Ok(());
        }
        for statement in [
            "DELETE FROM change WHERE seq <= $1",
            "UPDATE feed SET pruned_seq = $1",
        ] {
            let query = sqlx::query(statement).bind(upto);
            query.execute(&mut *self.tx).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::{DatabasePlace, StoreOptions};

    /// A client goes while its change is being committed, at any moment.
    #[tokio::test]
    async fn what_is_committed_is_told_though_nobody_waits_for_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = DatabasePlace::Sqlite(dir.path().join("state.db"));
        let store = Store::open(&StoreOptions::new(place)).await;
        let store = store.expect("a store");
        for moment in 0..100 {
            let cut = Instant::now() + Duration::from_micros(50 * moment);
            let mut change = Box::pin(async {
                let mut change = store.change().await?;
                change.touch(EndpointId(Uuid::from_u128(7))).await?;
                change.commit().await
            });
            while change.as_mut().now_or_never().is_none() && Instant::now() < cut {
                tokio::task::yield_now().await;
            }
            drop(change);
            // What is still under way is done when another one has its turn.
            drop(store.change().await.expect("a turn"));
            let committed = store.last_change().await.expect("a number");
            let told = async {
                while store.known_change() != committed {
                    tokio::task::yield_now().await;
                }
            };
            let told = tokio::time::timeout(Duration::from_mins(1), told).await;
            let known = store.known_change();
            assert!(told.is_ok(), "{known} of {committed} is told");
        }
    }

    /// `known` when the question was asked, what was published before its answer, the answer, and
    /// what is known then.
    #[test]
    fn an_answer_that_is_overtaken_by_a_change_does_not_take_it_back() {
        for (known, published, answer, expected) in [
            (10, None, 10, 10),
            (10, None, 12, 12),
            // A database that was put back.
            (10, None, 3, 3),
            // Our own change was committed after the question was answered, and is known before the
            // answer is here.
            (10, Some(11), 10, 11),
            (10, Some(11), 14, 14),
        ] {
            let feed = ChangeFeed {
                last: watch::Sender::new(known),
                kept: 1,
            };
            if let Some(seq) = published {
                feed.publish(seq);
            }
            feed.found(known, answer);
            assert_eq!(feed.known(), expected, "{known} {published:?} {answer}");
        }
    }
}

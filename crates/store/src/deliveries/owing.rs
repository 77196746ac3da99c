//! Writing down what has become of owed deliveries, each in the order in which that was said.

use dovecast_dispatch::ledger::{BEHIND, Millis, Owed, OwedId};

use super::order::{Keys, bind_place, make_next_due};
use super::record::{Bound, reason};
use crate::connection::Connection;
use crate::error::Result;
use crate::row;

const OWE: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, reason, made_ms, claimed_by, \
    log, topic, part, record_offset, order_key, note) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING";
/// An owed delivery has failed again. Where its row is gone the database has lost it, or others
/// have made the delivery since, and then it is made once more and known by its `webhook-id`. Who
/// was taken for dead meanwhile takes nothing from the one that has claimed it now.
const FAIL: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, reason, made_ms, \
    log, topic, part, record_offset, order_key, note) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $9, $10, $11, $12, $13, $14) ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET failures = excluded.failures, due_ms = excluded.due_ms, made_ms = excluded.made_ms, claimed_by = NULL, \
    reason = excluded.reason, note = excluded.note WHERE owed.claimed_by IS NULL OR owed.claimed_by = $8";
const GIVE_BACK: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, reason, made_ms, \
    log, topic, part, record_offset, order_key, note) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $9, $10, $11, $12, $13, $14) ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET due_ms = excluded.due_ms, made_ms = excluded.made_ms, claimed_by = NULL \
    WHERE owed.claimed_by IS NULL OR owed.claimed_by = $8";
const POSTPONE: &str = "UPDATE owed SET due_ms = $3, made_ms = $4 \
    WHERE endpoint_id = $1 AND notification_id = $2 AND claimed_by IS NULL";
const DONE: &str =
    "DELETE FROM owed WHERE endpoint_id = $1 AND notification_id = $2 RETURNING order_key";
const UNWANTED: &str = "DELETE FROM owed WHERE endpoint_id = $1 AND notification_id = $2 \
    AND NOT EXISTS (SELECT 1 FROM endpoint WHERE id = $1 AND active = 1) RETURNING order_key";

/// A record of owed deliveries that is being written.
pub(super) struct Owing<'a> {
    pub(super) us: String,
    pub(super) log: &'a str,
    pub(super) time: Time,
    /// Keys of which the first may be another one now.
    pub(super) keys: Keys,
}

/// The time in which deliveries are due.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// Now.
    pub(super) made_ms: i64,
    /// How far it is ahead of this node's clock.
    pub(super) ahead_ms: i64,
}

impl Owing<'_> {
    /// A delivery is owed; claimed by us, if it is under way.
    pub(super) async fn owe(
        &mut self,
        connection: &mut Connection,
        owed: &Owed,
        is_under_way: bool,
    ) -> Result<()> {
        let claimed_by = is_under_way.then(|| self.us.clone());
        let insert = self.write(OWE, owed).bind(claimed_by);
        let insert = bind_place(insert, owed.place.as_ref(), self.log).bind(note(owed));
        insert.execute(connection).await?;
        Ok(())
    }

    /// A delivery that is owed has failed again.
    pub(super) async fn fail(&mut self, connection: &mut Connection, owed: &Owed) -> Result<()> {
        self.put_back(FAIL, connection, owed).await
    }

    /// A delivery that is owed was not tried.
    pub(super) async fn give_back(
        &mut self,
        connection: &mut Connection,
        owed: &Owed,
    ) -> Result<()> {
        self.put_back(GIVE_BACK, connection, owed).await
    }

    async fn put_back(
        &mut self,
        statement: &'static str,
        connection: &mut Connection,
        owed: &Owed,
    ) -> Result<()> {
        let us = self.us.clone();
        let upsert = self.write(statement, owed).bind(us);
        let upsert = bind_place(upsert, owed.place.as_ref(), self.log).bind(note(owed));
        upsert.execute(connection).await?;
        Ok(())
    }

    pub(super) async fn postpone(
        &mut self,
        connection: &mut Connection,
        (endpoint, notification): &OwedId,
        due_ms: Millis,
    ) -> Result<()> {
        sqlx::query(POSTPONE)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .bind(due_ms.saturating_add(self.time.ahead_ms))
            .bind(self.time.made_ms)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// A delivery is done.
    pub(super) async fn done(&mut self, connection: &mut Connection, id: &OwedId) -> Result<()> {
        self.remove(DONE, connection, id).await
    }

    /// A delivery to an endpoint that is gone, as far as we know.
    pub(super) async fn unwanted(
        &mut self,
        connection: &mut Connection,
        id: &OwedId,
    ) -> Result<()> {
        self.remove(UNWANTED, connection, id).await
    }

    async fn remove(
        &mut self,
        statement: &'static str,
        connection: &mut Connection,
        (endpoint, notification): &OwedId,
    ) -> Result<()> {
        let removed = sqlx::query(statement)
            .bind(endpoint.to_string())
            .bind(notification.to_string())
            .fetch_all(connection)
            .await?;
        for removed in removed {
            if row::optional_text(&removed, "order_key")?.is_some() {
                self.keys
                    .insert((*endpoint, row::id(&removed, "order_key")?));
            }
        }
        Ok(())
    }

    /// Makes what waits for nothing any more due. After everything else: what is written of a key
    /// may be written in any order.
    pub(super) async fn end(self, connection: &mut Connection) -> Result<()> {
        make_next_due(connection, &self.keys, self.time.made_ms).await
    }

    /// A statement that writes a delivery; what depends on the statement is bound by the caller.
    fn write(&mut self, statement: &'static str, owed: &Owed) -> Bound<'static> {
        if let Some(place) = owed.place.as_ref().filter(|_| owed.due_ms == BEHIND) {
            self.keys.insert((owed.endpoint, place.key));
        }
        sqlx::query(statement)
            .bind(owed.endpoint.to_string())
            .bind(owed.notification.to_string())
            // Canonical JSON is UTF-8.
            .bind(String::from_utf8_lossy(&owed.content).into_owned())
            .bind(i64::from(owed.failures))
            .bind(self.time.due_ms(owed.due_ms))
            .bind(reason(&owed.reason))
            .bind(self.time.made_ms)
    }
}

/// PostgreSQL takes no NUL.
fn note(owed: &Owed) -> String {
    owed.note.replace('\0', "\u{fffd}")
}

impl Time {
    /// When a delivery is due, in the time of rows.
    fn due_ms(self, due_ms: i64) -> i64 {
        if due_ms == BEHIND {
            return due_ms;
        }
        due_ms.saturating_add(self.ahead_ms)
    }
}

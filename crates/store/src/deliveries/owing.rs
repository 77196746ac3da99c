//! Writing down what has become of owed deliveries: what is said of many is written with one
//! statement, and what is said of one in the order in which that was said.

use std::collections::{BTreeMap, HashSet};

use dovecast_dispatch::ledger::{BEHIND, Millis, Owed, OwedId};

use super::order::{Keys, make_next_due, push_place};
use super::record::reason;
use crate::connection::Connection;
use crate::error::Result;
use crate::row;
use crate::statement::{ROWS, ROWS_BYTES, Statement};

const INSERT: &str = "INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, reason, made_ms, claimed_by, \
    log, topic, part, record_offset, order_key, note) VALUES ";
/// An owed delivery has failed again. Where its row is gone the database has lost it, or others
/// have made the delivery since, and then it is made once more and known by its `webhook-id`. Who
/// was taken for dead meanwhile takes nothing from the one that has claimed it now.
const FAILED: &str = " ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET failures = excluded.failures, due_ms = excluded.due_ms, made_ms = excluded.made_ms, claimed_by = NULL, \
    reason = excluded.reason, note = excluded.note WHERE owed.claimed_by IS NULL OR owed.claimed_by = ";
const GIVEN_BACK: &str = " ON CONFLICT (endpoint_id, notification_id) \
    DO UPDATE SET due_ms = excluded.due_ms, made_ms = excluded.made_ms, claimed_by = NULL \
    WHERE owed.claimed_by IS NULL OR owed.claimed_by = ";
const POSTPONE: &str = "UPDATE owed SET due_ms = $3, made_ms = $4 \
    WHERE endpoint_id = $1 AND notification_id = $2 AND claimed_by IS NULL";
const REMOVE: &str = "DELETE FROM owed WHERE (endpoint_id, notification_id) IN (VALUES ";
/// The endpoint is gone, or disabled.
const IS_UNWANTED: &str =
    " AND NOT EXISTS (SELECT 1 FROM endpoint WHERE id = owed.endpoint_id AND active = 1)";

/// A record of owed deliveries that is being written.
pub(super) struct Owing<'a> {
    us: String,
    log: &'a str,
    time: Time,
    /// Keys of which the first may be another one now.
    keys: Keys,
    /// What is not written yet, by what has become of it: nothing is said twice of a delivery.
    rows: BTreeMap<Became, Rows<'a>>,
    removed: BTreeMap<Removed, Vec<OwedId>>,
    said: HashSet<OwedId>,
}

#[derive(Default)]
struct Rows<'a> {
    /// Whether the delivery is under way, with each.
    owed: Vec<(&'a Owed, bool)>,
    bytes: usize,
}

/// What has become of a delivery that is there after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Became {
    /// Delivery that is owed from now on, or is already.
    Owed,
    /// Delivery that was owed, and has failed again.
    Failed,
    /// Delivery that was owed, and was not tried.
    GivenBack,
}

/// Why a delivery is there no more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Removed {
    /// Delivery that was made.
    Done,
    /// Delivery to an endpoint that is gone, as far as we know.
    Unwanted,
}

/// The time in which deliveries are due.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// Now.
    pub(super) made_ms: i64,
    /// How far it is ahead of this node's clock.
    pub(super) ahead_ms: i64,
}

impl<'a> Owing<'a> {
    /// `us` is the name of this dispatcher, `log` that of the log.
    pub(super) fn new(us: String, log: &'a str, time: Time) -> Self {
        Self {
            us,
            log,
            time,
            keys: Keys::new(),
            rows: BTreeMap::new(),
            removed: BTreeMap::new(),
            said: HashSet::new(),
        }
    }

    /// A delivery is owed; claimed by us, if it is under way.
    pub(super) async fn put(
        &mut self,
        connection: &mut Connection,
        (owed, became): (&'a Owed, Became),
        is_under_way: bool,
    ) -> Result<()> {
        self.say(connection, (owed.endpoint, owed.notification))
            .await?;
        if let Some(place) = owed.place.as_ref().filter(|_| owed.due_ms == BEHIND) {
            self.keys.insert((owed.endpoint, place.key));
        }
        let rows = self.rows.entry(became).or_default();
        rows.owed.push((owed, is_under_way));
        rows.bytes += owed.content.len();
        if rows.owed.len() >= ROWS || rows.bytes >= ROWS_BYTES {
            self.write(connection).await?;
        }
        Ok(())
    }

    /// A delivery is owed no more.
    pub(super) async fn remove(
        &mut self,
        connection: &mut Connection,
        id: OwedId,
        why: Removed,
    ) -> Result<()> {
        self.say(connection, id).await?;
        let removed = self.removed.entry(why).or_default();
        removed.push(id);
        if removed.len() >= ROWS {
            self.write(connection).await?;
        }
        Ok(())
    }

    /// A delivery is due at another time.
    pub(super) async fn postpone(
        &mut self,
        connection: &mut Connection,
        id: &OwedId,
        due_ms: Millis,
    ) -> Result<()> {
        if self.said.contains(id) {
            self.write(connection).await?;
        }
        sqlx::query(POSTPONE)
            .bind(id.0.to_string())
            .bind(id.1.to_string())
            .bind(due_ms.saturating_add(self.time.ahead_ms))
            .bind(self.time.made_ms)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Makes what waits for nothing any more due. After everything else: what is written of a key
    /// may be written in any order.
    pub(super) async fn end(mut self, connection: &mut Connection) -> Result<()> {
        self.write(connection).await?;
        make_next_due(connection, &self.keys, self.time.made_ms).await
    }

    /// Something is said of a delivery; what was said of it before is written first.
    async fn say(&mut self, connection: &mut Connection, id: OwedId) -> Result<()> {
        if self.said.contains(&id) {
            self.write(connection).await?;
        }
        self.said.insert(id);
        Ok(())
    }

    async fn write(&mut self, connection: &mut Connection) -> Result<()> {
        self.said.clear();
        for (became, rows) in std::mem::take(&mut self.rows) {
            let put = self.statement(became, &rows.owed);
            put.execute(connection).await?;
        }
        for (why, ids) in std::mem::take(&mut self.removed) {
            for removed in remove(&ids, why).fetch_all(connection).await? {
                if row::optional_text(&removed, "order_key")?.is_some() {
                    let endpoint = row::id(&removed, "endpoint_id")?;
                    self.keys
                        .insert((endpoint, row::id(&removed, "order_key")?));
                }
            }
        }
        Ok(())
    }

    fn statement(&self, became: Became, owed: &[(&Owed, bool)]) -> Statement {
        let mut put = Statement::new(INSERT);
        put.bind_rows(owed, |put, (owed, is_under_way)| {
            put.bind(owed.endpoint.to_string())
                .bind_next(owed.notification.to_string())
                // Canonical JSON is UTF-8.
                .bind_next(String::from_utf8_lossy(&owed.content).into_owned())
                .bind_next(i64::from(owed.failures))
                .bind_next(self.time.due_ms(owed.due_ms))
                .bind_next(reason(&owed.reason))
                .bind_next(self.time.made_ms)
                .bind_next(is_under_way.then(|| self.us.clone()))
                .push(", ");
            push_place(put, owed.place.as_ref(), self.log);
            // PostgreSQL takes no NUL.
            put.bind_next(owed.note.replace('\0', "\u{fffd}"));
        });
        match became {
            Became::Owed => put.push(" ON CONFLICT DO NOTHING"),
            Became::Failed => put.push(FAILED).bind(self.us.clone()),
            Became::GivenBack => put.push(GIVEN_BACK).bind(self.us.clone()),
        };
        put
    }
}

pub(super) fn remove(ids: &[OwedId], why: Removed) -> Statement {
    let mut remove = Statement::new(REMOVE);
    remove.bind_rows(ids, |remove, (endpoint, notification)| {
        remove
            .bind(endpoint.to_string())
            .bind_next(notification.to_string());
    });
    remove.push(")");
    if why == Removed::Unwanted {
        remove.push(IS_UNWANTED);
    }
    remove.push(" RETURNING endpoint_id, order_key");
    remove
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

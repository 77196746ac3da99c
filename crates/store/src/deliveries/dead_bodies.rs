//! What dead letters are of, once for all endpoints of a notification: without that a large
//! notification to a thousand endpoints would be a thousand times in the database.
//!
//! A body is written before the letters that name it, and in their transaction; it is removed when
//! no letter names it any more, in the transaction that removed the last one. On PostgreSQL both
//! lock the row of the body first, so that neither takes away what the other one counts on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use dovecast_notification::EndpointId;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;

use crate::connection::{Connection, deadlock};
use crate::error::Result;
use crate::open::{Database, Store};
use crate::row;
use crate::statement::{Statement, parts};

const INSERT: &str = "INSERT INTO dead_body (id, bytes, made_ms, content, account_id) VALUES ";
// The update changes nothing: it locks a row that is there.
const OR_LOCK: &str = " ON CONFLICT (id) DO UPDATE SET made_ms = dead_body.made_ms";
// A file of SQLite has one writer, and would write the whole row anew.
const ONCE: &str = " ON CONFLICT (id) DO NOTHING";
/// Bodies that one statement looks at.
const AT_A_TIME: usize = 500;
/// Times that [`AT_A_TIME`] bodies are looked at by one call of [`Store::sweep_bodies`].
const SWEPT_PARTS: usize = 20;

/// Bodies that a transaction writes, by their contents: each is hashed once, however many letters
/// name it.
#[derive(Default)]
pub(super) struct Bodies<'a>(BTreeMap<&'a str, Body>);

struct Body {
    id: String,
    endpoint: EndpointId,
    time_ms: i64,
}

impl<'a> Bodies<'a> {
    /// Adds a body that the letter of an endpoint names by the id that this returns.
    pub(super) fn add(&mut self, endpoint: EndpointId, content: &'a str, time_ms: i64) -> String {
        let body = self.0.entry(content).or_insert_with(|| Body {
            id: id_of(content),
            endpoint,
            time_ms,
        });
        body.id.clone()
    }

    /// Writes those that are not there, in the order of their ids. No statement has an id twice:
    /// PostgreSQL would refuse to lock a row that the same statement has inserted.
    pub(super) async fn put(&self, database: &Database, tx: &mut Connection) -> Result<()> {
        let if_there = if database.is_postgres { OR_LOCK } else { ONCE };
        let mut bodies: Vec<_> = self.0.iter().collect();
        bodies.sort_by_key(|(_, body)| &body.id);
        for part in parts(&bodies, |(content, _)| content.len()) {
            let mut insert = Statement::new(INSERT);
            insert.bind_rows(part, |insert, (content, body)| {
                insert
                    .bind(body.id.clone())
                    .bind_next(i64::try_from(content.len()).unwrap_or(i64::MAX))
                    .bind_next(body.time_ms)
                    .bind_next((**content).to_owned());
                push_account(insert.push(", "), Some(body.endpoint));
            });
            insert.push(if_there);
            insert.execute(tx).await?;
        }
        Ok(())
    }
}

/// The id of the account whose quota counts what is of this endpoint; empty: of none.
pub(super) fn push_account(statement: &mut Statement, endpoint: Option<EndpointId>) {
    statement
        .push("COALESCE((SELECT account_id FROM endpoint WHERE id = ")
        .bind(endpoint.map(|endpoint| endpoint.to_string()))
        .push("), '')");
}

/// Removes those of the bodies of removed letters that no other letter names.
pub(super) async fn remove_unused(
    database: &Database,
    tx: &mut Connection,
    removed: &[AnyRow],
) -> Result<()> {
    let ids = removed.iter().map(|row| row::optional_text(row, "body_id"));
    // In one order, so that two of us wait for one another and not in a circle.
    let ids: BTreeSet<String> = ids.filter_map(Result::transpose).collect::<Result<_>>()?;
    remove_unnamed(database, tx, ids).await?;
    Ok(())
}

/// Removes those of these bodies that no letter names; how many those were.
pub(super) async fn remove_unnamed(
    database: &Database,
    tx: &mut Connection,
    ids: BTreeSet<String>,
) -> Result<u64> {
    let ids: Vec<String> = ids.into_iter().collect();
    let mut removed = 0;
    for part in ids.chunks(AT_A_TIME) {
        if database.is_postgres {
            // What another one has begun to name is seen by the next statement.
            let mut lock = Statement::new("SELECT id FROM dead_body WHERE id IN (");
            lock.bind_list(part.iter().cloned(), ", ");
            lock.push(") ORDER BY id FOR UPDATE");
            lock.fetch_all(tx).await?;
        }
        let mut delete = Statement::new("DELETE FROM dead_body WHERE id IN (");
        delete.bind_list(part.iter().cloned(), ", ");
        delete.push(") AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE body_id = dead_body.id)");
        removed += delete.execute(tx).await?;
    }
    Ok(removed)
}

impl Store {
    /// Removes bodies that no letter names, some at each call, all in turn: a node of before there
    /// were any, which runs beside this one during an upgrade, removes letters without them.
    pub(super) async fn sweep_bodies(&self) -> Result<u64> {
        let mut removed = 0;
        for _ in 0..SWEPT_PARTS {
            let after = self.sweep().bodies_after.clone();
            let rows = sqlx::query("SELECT id FROM dead_body WHERE id > $1 ORDER BY id LIMIT $2")
                .bind(after)
                .bind(i64::try_from(AT_A_TIME).unwrap_or(i64::MAX))
                .fetch_all(&self.database.pool)
                .await?;
            let ids = rows.iter().map(|found| row::text(found, "id"));
            let ids: BTreeSet<String> = ids.collect::<Result<_>>()?;
            self.sweep().bodies_after = ids.last().cloned().unwrap_or_default();
            if ids.is_empty() {
                break;
            }
            let remove = || async {
                let mut tx = self.database.begin_writing().await?;
                let removed = remove_unnamed(&self.database, &mut tx, ids.clone()).await?;
                tx.commit().await?;
                Ok(removed)
            };
            removed += deadlock::again(remove).await?;
        }
        Ok(removed)
    }
}

fn id_of(content: &str) -> String {
    let mut id = String::with_capacity(64);
    for byte in Sha256::digest(content.as_bytes()) {
        // Writing to a String does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

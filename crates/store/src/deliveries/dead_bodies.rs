//! What dead letters are of, once for all endpoints of a notification: without that a large
//! notification to a thousand endpoints would be a thousand times in the database.
//!
//! A body is written before the letters that name it, and in their transaction; it is removed when
//! no letter names it any more, in the transaction that removed the last one. On PostgreSQL both
//! lock the row of the body first, so that neither takes away what the other one counts on.

use std::collections::BTreeSet;
use std::fmt::Write;

use dovecast_notification::EndpointId;
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;

use crate::connection::Connection;
use crate::error::Result;
use crate::open::Database;
use crate::row;
use crate::statement::Statement;

// The update changes nothing: it locks a row that is there.
const LOCK_OR_INSERT: &str = "INSERT INTO dead_body (id, account_id, bytes, made_ms, content) \
    VALUES ($1, COALESCE((SELECT account_id FROM endpoint WHERE id = $2), ''), $3, $4, $5) \
    ON CONFLICT (id) DO UPDATE SET made_ms = dead_body.made_ms";
// A file of SQLite has one writer, and would write the whole row anew.
const INSERT_ONCE: &str = "INSERT INTO dead_body (id, account_id, bytes, made_ms, content) \
    VALUES ($1, COALESCE((SELECT account_id FROM endpoint WHERE id = $2), ''), $3, $4, $5) \
    ON CONFLICT (id) DO NOTHING";
/// Bodies that one statement looks at.
const AT_A_TIME: usize = 500;

/// Bodies that a transaction has written.
#[derive(Default)]
pub(super) struct Bodies(BTreeSet<String>);

impl Bodies {
    /// Writes a body unless it is there, and gives its id.
    pub(super) async fn put(
        &mut self,
        (database, tx): (&Database, &mut Connection),
        endpoint: EndpointId,
        content: &str,
        time_ms: i64,
    ) -> Result<String> {
        let id = id_of(content);
        if self.0.insert(id.clone()) {
            let statement = if database.is_postgres {
                LOCK_OR_INSERT
            } else {
                INSERT_ONCE
            };
            sqlx::query(statement)
                .bind(id.clone())
                .bind(endpoint.to_string())
                .bind(i64::try_from(content.len()).unwrap_or(i64::MAX))
                .bind(time_ms)
                .bind(content.to_owned())
                .execute(tx)
                .await?;
        }
        Ok(id)
    }
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
    let ids: Vec<String> = ids.into_iter().collect();
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
        delete.execute(tx).await?;
    }
    Ok(())
}

fn id_of(content: &str) -> String {
    let mut id = String::with_capacity(64);
    for byte in Sha256::digest(content.as_bytes()) {
        // Writing to a String does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

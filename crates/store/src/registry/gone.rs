//! What endpoints that are deleted leave behind: what they owe, their dead letters and attempts.
//!
//! The transaction that deletes an endpoint writes it down as gone. Its rows go behind that in
//! steps, each a short transaction, however many there are and whichever process ends meanwhile;
//! and once more later, because nodes note what was under way at the time.

use sqlx::AssertSqlSafe;

use super::EndpointId;
use crate::error::Result;
use crate::feed::Change;
use crate::open::Store;
use crate::row;

/// How long after the first sweep the last one is: no attempt takes so long, and no node keeps to
/// itself for so long what it has to note while the database is there.
const LATE_MS: i64 = 60 * 60 * 1000;
/// The first sweep is due at any time.
const AT_ONCE: i64 = 0;
/// Endpoints that are asked for at a time.
const ENDPOINTS_AT_A_TIME: i64 = 100;
/// Rows of one statement, so that none takes long.
const ROWS_AT_A_TIME: u32 = 5_000;

/// Tables of what hangs on an endpoint, but for dead letters, and what tells the rows of one
/// endpoint apart.
const OF_ENDPOINT_ROWS: [(&str, &str); 3] = [
    ("attempts", "id"),
    ("owed", "notification_id"),
    ("owed_range", "start_offset"),
];

const GONE: &str = "INSERT INTO gone_endpoint (endpoint_id, sweep_ms) VALUES ($1, $2) \
    ON CONFLICT (endpoint_id) DO UPDATE SET sweep_ms = excluded.sweep_ms";
/// What is due at twice the time, or later, was written by a clock that was ahead; those of nodes
/// differ by less.
const DUE: &str = "SELECT endpoint_id, sweep_ms, \
    (SELECT COUNT(*) FROM endpoint WHERE endpoint.id = gone_endpoint.endpoint_id) AS is_back \
    FROM gone_endpoint WHERE sweep_ms <= $1 OR sweep_ms > $2 ORDER BY sweep_ms LIMIT $3";
const LATER: &str =
    "UPDATE gone_endpoint SET sweep_ms = $3 WHERE endpoint_id = $1 AND sweep_ms = $2";
const DONE: &str = "DELETE FROM gone_endpoint WHERE endpoint_id = $1 AND sweep_ms = $2";

/// Deletes rows of a table that hang on an endpoint ($1), so many at a time ($2). Made of
/// constants.
fn delete_rows(table: &str, key: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE endpoint_id = $1 AND {key} IN \
         (SELECT {key} FROM {table} WHERE endpoint_id = $1 LIMIT $2)"
    )
}

impl Change<'_> {
    /// An endpoint is deleted: the dispatcher has to look at it, and what it leaves is swept.
    pub(super) async fn gone(&mut self, endpoint: EndpointId) -> Result<()> {
        self.touch(endpoint).await?;
        sqlx::query(GONE)
            .bind(endpoint.to_string())
            .bind(AT_ONCE)
            .execute(&mut *self.tx)
            .await?;
        self.leaves_rows();
        Ok(())
    }
}

impl Store {
    /// Returns when this process has deleted an endpoint since it was last asked.
    pub async fn endpoint_gone(&self) {
        self.gone.notified().await;
    }

    /// Removes what endpoints that are deleted have left, as far as it is due; how many endpoints
    /// that was.
    pub async fn sweep_gone(&self) -> Result<u64> {
        let mut swept = 0;
        loop {
            let now_ms = self.clock.now_ms();
            let due = sqlx::query(DUE)
                .bind(now_ms)
                .bind(now_ms.saturating_add(2 * LATE_MS))
                .bind(ENDPOINTS_AT_A_TIME)
                .fetch_all(&self.database.pool)
                .await?;
            if due.is_empty() {
                return Ok(swept);
            }
            for found in &due {
                let endpoint: EndpointId = row::id(found, "endpoint_id")?;
                let sweep_ms = row::number(found, "sweep_ms")?;
                // Of the same id as one before: what is there is its own.
                let is_back = row::truth(found, "is_back")?;
                if !is_back {
                    self.delete_rows_of(endpoint).await?;
                    swept += 1;
                }
                let is_last = is_back || sweep_ms != AT_ONCE;
                let mut next = sqlx::query(if is_last { DONE } else { LATER })
                    .bind(endpoint.to_string())
                    .bind(sweep_ms);
                if !is_last {
                    next = next.bind(now_ms.saturating_add(LATE_MS));
                }
                next.execute(&self.database.pool).await?;
            }
        }
    }

    /// Deletes what an endpoint owes, its dead letters and its attempts.
    pub(super) async fn delete_rows_of(&self, endpoint: EndpointId) -> Result<()> {
        // With what only they are of.
        self.drop_dead_letters_since(endpoint, i64::MIN).await?;
        for (table, key) in OF_ENDPOINT_ROWS {
            let statement = delete_rows(table, key);
            self.delete_in_steps(&statement, endpoint.to_string())
                .await?;
        }
        Ok(())
    }

    /// Has a statement delete rows of something ($1), so many at a time ($2).
    pub(super) async fn delete_in_steps(&self, statement: &str, of: String) -> Result<()> {
        loop {
            // Made of constants.
            let done = sqlx::query(AssertSqlSafe(statement.to_owned()))
                .bind(of.clone())
                .bind(i64::from(ROWS_AT_A_TIME))
                .execute(&self.database.pool)
                .await?;
            if done.rows_affected() < u64::from(ROWS_AT_A_TIME) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::steps;

    /// Steps of SQLite's virtual machine that it takes to delete what an endpoint owes, among so
    /// many ranges of others.
    fn counted(others: u32) -> Vec<i32> {
        let connection = steps::empty();
        let fill = format!(
            "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {others}) \
             INSERT INTO owed_range (log, endpoint_id, topic, part, start_offset, from_offset, to_offset) \
             SELECT 'log', 'endpoint ' || value, 't', 0, 1, 1, 2 FROM n"
        );
        connection.execute_batch(&fill).expect("ranges");
        let counted = OF_ENDPOINT_ROWS.iter().map(|(table, key)| {
            let delete = delete_rows(table, key);
            let mut delete = connection.prepare(&delete).expect("a statement");
            let deleted = delete.execute(("endpoint 7", 100)).expect("rows");
            assert_eq!(deleted, usize::from(*table == "owed_range"));
            delete.get_status(StatementStatus::VmStep)
        });
        counted.collect()
    }

    #[test]
    fn deleting_what_an_endpoint_owes_reads_no_more_where_others_owe_a_hundred_times_as_much() {
        for (few, many) in counted(1_000).into_iter().zip(counted(100_000)) {
            steps::are_no_more(few, many, "deleting");
        }
    }
}

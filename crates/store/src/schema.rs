//! The schema: brought up to date when a store is opened.
//!
//! Each file of `migrations/` is one version, part of the binary, and never changed after a
//! release. Nodes that start at the same time wait for one another; a schema that is newer than the
//! binary is left alone.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

use crate::error::{Result, StoreError};
use crate::open::Database;

/// Version 1 is the first.
pub(crate) const MIGRATIONS: [&str; 11] = [
    include_str!("../migrations/0001_registry.sql"),
    include_str!("../migrations/0002_deliveries.sql"),
    include_str!("../migrations/0003_requests.sql"),
    include_str!("../migrations/0004_announcements.sql"),
    include_str!("../migrations/0005_flow.sql"),
    include_str!("../migrations/0006_logs.sql"),
    include_str!("../migrations/0007_probes.sql"),
    include_str!("../migrations/0008_claims.sql"),
    include_str!("../migrations/0009_steady.sql"),
    include_str!("../migrations/0010_refused_records.sql"),
    include_str!("../migrations/0011_canonical.sql"),
];
/// PostgreSQL's advisory lock of whoever changes the schema: "dovecast" in ASCII.
const ADVISORY_LOCK: i64 = 0x646f_7665_6361_7374;

/// How long one may take, and the wait for another node that is at it.
const MIGRATION: Duration = Duration::from_mins(10);

/// A migration in the words of a database: `json_text(...)` is a text as JSON, which each calls by
/// another name.
pub(crate) fn spoken(migration: &str, is_postgres: bool) -> String {
    if is_postgres {
        migration.replace("json_text(", "to_json(")
    } else {
        migration.replace("json_text(", "json_quote(")
    }
}

/// Applies what is missing, all or nothing.
pub(crate) async fn migrate(database: &Database) -> Result<()> {
    let mut tx = database.begin_writing().await?;
    if database.is_postgres {
        tx.limit(MIGRATION);
        let limit = format!("SET LOCAL statement_timeout = {}", MIGRATION.as_millis());
        let limit = sqlx::raw_sql(AssertSqlSafe(limit));
        limit.execute(&mut *tx).await?;
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(ADVISORY_LOCK);
        lock.execute(&mut *tx).await?;
    }
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .execute(&mut *tx)
        .await?;
    let found = sqlx::query("SELECT version FROM schema_version")
        .fetch_optional(&mut *tx)
        .await?;
    let found = match found {
        Some(row) => row.try_get("version")?,
        None => 0,
    };
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    let done = usize::try_from(found).unwrap_or_default();
    for migration in &MIGRATIONS[done..] {
        let migration = spoken(migration, database.is_postgres);
        let migration = sqlx::raw_sql(AssertSqlSafe(migration));
        migration.execute(&mut *tx).await?;
    }
    if found < known {
        sqlx::raw_sql("DELETE FROM schema_version")
            .execute(&mut *tx)
            .await?;
        let version = sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(known);
        version.execute(&mut *tx).await?;
        tracing::info!(from = found, to = known, "the database schema is upgraded");
    }
    tx.commit().await?;
    Ok(())
}

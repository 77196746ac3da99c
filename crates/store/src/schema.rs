//! The schema: brought up to date when a store is opened.
//!
//! Each file of `migrations/` is one version, part of the binary, and never changed after a
//! release. Nodes that start at the same time wait for one another; a schema that is newer than the
//! binary is left alone.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

use crate::connection::Transaction;
use crate::error::{Result, StoreError};
use crate::open::Database;
use crate::registry::sealing;
use crate::secrets::{KeySource, Keys, adopt};

/// Version 1 is the first.
pub(crate) const MIGRATIONS: [&str; 34] = [
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
    include_str!("../migrations/0012_settings.sql"),
    include_str!("../migrations/0013_sealed.sql"),
    include_str!("../migrations/0014_index_of_keys.sql"),
    include_str!("../migrations/0015_order.sql"),
    include_str!("../migrations/0016_flow.sql"),
    include_str!("../migrations/0017_dead_bodies.sql"),
    include_str!("../migrations/0018_who.sql"),
    include_str!("../migrations/0020_mail_push.sql"),
    include_str!("../migrations/0021_person_tokens.sql"),
    include_str!("../migrations/0022_listeners.sql"),
    include_str!("../migrations/0023_heard.sql"),
    include_str!("../migrations/0024_push_lanes.sql"),
    include_str!("../migrations/0025_new_mail.sql"),
    include_str!("../migrations/0026_metadata.sql"),
    include_str!("../migrations/0027_push_held.sql"),
    include_str!("../migrations/0028_letters_by_notification.sql"),
    include_str!("../migrations/0029_gone_endpoints.sql"),
    include_str!("../migrations/0030_quiet_pushes.sql"),
    include_str!("../migrations/0031_passes_quiet.sql"),
    include_str!("../migrations/0032_letters_in_order.sql"),
    include_str!("../migrations/0033_notes.sql"),
    include_str!("../migrations/0034_steps.sql"),
    include_str!("../migrations/0035_lease_states.sql"),
];
/// Version in which there are columns for what is sealed, and still those of what was not.
const BEFORE_SEALED: usize = 12;
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

/// Applies what is missing, all or nothing. Gives the keys that secrets are sealed with.
pub(crate) async fn migrate(database: &Database, source: &KeySource) -> Result<Arc<Keys>> {
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
    let before_sealed = done.max(BEFORE_SEALED);
    apply(database, &mut tx, done..before_sealed).await?;
    let (keys, key) = adopt(&mut tx, source).await?;
    if done <= BEFORE_SEALED {
        let count = sealing::seal_existing(&mut tx, &keys.ring(), key).await?;
        if done > 0 {
            sqlx::raw_sql("UPDATE feed SET unclean = 1")
                .execute(&mut *tx)
                .await?;
            tracing::info!(endpoints = count, key.id = %key, "secrets are sealed");
        }
    }
    apply(database, &mut tx, before_sealed..MIGRATIONS.len()).await?;
    if found < known {
        sqlx::raw_sql("DELETE FROM schema_version")
            .execute(&mut *tx)
            .await?;
        let version = sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(known);
        version.execute(&mut *tx).await?;
        tracing::info!(from = found, to = known, "the database schema is upgraded");
    }
    tx.commit().await?;
    Ok(keys)
}

async fn apply(database: &Database, tx: &mut Transaction, which: Range<usize>) -> Result<()> {
    for migration in &MIGRATIONS[which] {
        let migration = spoken(migration, database.is_postgres);
        let migration = sqlx::raw_sql(AssertSqlSafe(migration));
        migration.execute(&mut **tx).await?;
    }
    Ok(())
}

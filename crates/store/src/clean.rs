//! Text that is sealed now, and was not before: taken out of the pages that the database does not
//! use any more.
//!
//! What an update or a dropped column leaves behind stays in the file until its page is used again.
//! So the file is written anew after the migration, once; where that fails the next start does it.

use crate::connection::Connection;
use crate::error::{Result, with_sources};
use crate::open::Database;
use crate::row;

/// Writes the database anew if it may hold such text. What goes wrong is logged: nothing depends on
/// it but secrecy.
pub(crate) async fn clean(database: &Database) {
    match clean_if_needed(database).await {
        Ok(false) => {}
        Ok(true) => tracing::info!(
            "the database was written anew, without the secrets that were not sealed"
        ),
        Err(error) => {
            let error = with_sources(&error);
            tracing::error!(
                error,
                "secrets that were not sealed may still be in unused pages of the database: the next start tries again to write it anew"
            );
        }
    }
}

async fn clean_if_needed(database: &Database) -> Result<bool> {
    let mut connection = database.pool.acquire().await?;
    let found = sqlx::query("SELECT unclean FROM feed")
        .fetch_one(&mut connection)
        .await?;
    if !row::truth(&found, "unclean")? {
        return Ok(false);
    }
    if database.is_postgres {
        // Alone in the table for a moment; other nodes that have just started wait.
        tell(&mut connection, "VACUUM FULL endpoint").await?;
    } else {
        tell(&mut connection, "VACUUM").await?;
        // The pages from before are in the write-ahead log, too. Of its own accord SQLite only
        // begins to write over it.
        let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut connection)
            .await?;
        if row::truth(&done, "busy")? {
            let said = "the write-ahead log is in use".to_owned();
            return Err(sqlx::Error::Protocol(said).into());
        }
    }
    tell(&mut connection, "UPDATE feed SET unclean = 0").await?;
    Ok(true)
}

async fn tell(connection: &mut Connection, statement: &'static str) -> Result<()> {
    sqlx::raw_sql(statement).execute(connection).await?;
    Ok(())
}

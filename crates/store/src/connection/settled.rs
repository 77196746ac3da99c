//! Connections that are used again: whether one answers, and is in no transaction, within a limit.

use std::io;
use std::time::Duration;

use sqlx::{AnyConnection, Connection as _, Error};

/// Whether it answers; what was left of a statement that nobody waits for is read first.
pub(super) async fn check(
    connection: &mut AnyConnection,
    patience: Option<Duration>,
) -> Result<bool, Error> {
    within(patience, connection.ping()).await?;
    Ok(true)
}

/// Does something, or gives up.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    what: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(limit) = limit else {
        return what.await;
    };
    tokio::time::timeout(limit, what).await.unwrap_or_else(|_| {
        let said = format!("the database does not answer within {} s", limit.as_secs());
        Err(Error::Io(io::Error::new(io::ErrorKind::TimedOut, said)))
    })
}

/// Makes sure that a connection is in no transaction; where that is not certain it is an error.
///
/// `ROLLBACK` fails where there is no transaction any more, because SQLite has rolled back by
/// itself; so it is a transaction that can be begun that shows that there is none.
pub(super) async fn settle(connection: &mut AnyConnection, is_limited: bool) -> Result<(), Error> {
    let rolled_back = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
    if is_limited {
        return rolled_back.map(|_| ());
    }
    for statement in ["BEGIN", "ROLLBACK"] {
        sqlx::raw_sql(statement).execute(&mut *connection).await?;
    }
    Ok(())
}

//! Transactions that PostgreSQL has rolled back because of a deadlock, begun again.
//!
//! Whoever locks several rows of one table does it in the order of their ids. What is locked of
//! several tables cannot always be in one order: who redelivers dead letters has to remove them
//! before it knows what it owes, and who records what has happened writes them last. One of two
//! that wait for each other is rolled back whole, so it can be done again.

use sqlx::Error;

use crate::error::{Result, StoreError};

/// `deadlock_detected`.
const DEADLOCK: &str = "40P01";
/// Times that a transaction is tried: the other one of a deadlock goes on, and is gone by then.
const TRIES: u32 = 5;

/// Does something in one transaction, again where that was rolled back because of a deadlock.
pub(crate) async fn again<T, Doing>(act: impl Fn() -> Doing) -> Result<T>
where
    Doing: Future<Output = Result<T>>,
{
    for _ in 1..TRIES {
        match act().await {
            Err(StoreError::Database(error)) if is_deadlock(&error) => {
                tracing::debug!(%error, "a transaction is begun again after a deadlock");
            }
            done => return done,
        }
    }
    act().await
}

fn is_deadlock(error: &Error) -> bool {
    let Error::Database(error) = error else {
        return false;
    };
    error.code().is_some_and(|code| code == DEADLOCK)
}

//! Connections that nobody waits for without end.
//!
//! A network that is cut, or a host that is gone, ends no connection: whoever waits for its answer
//! waits until TCP gives up, a quarter of an hour or more. So each statement has a limit here, and
//! a connection that has exceeded it is closed rather than used again. What became of the statement
//! is not known then; every caller has to bear that it was done. PostgreSQL is told the same limit,
//! so that what is slow is ended there first, with its own error, and what a node that is gone has
//! locked is free soon.
//!
//! A file of SQLite has no limits: it is there, and waits for locks no longer than its
//! `busy_timeout`. Those who write to it in this process take turns (see `turns`).
//!
//! Transactions are begun and ended here by plain statements, not by sqlx: sqlx counts how deep a
//! connection is in transactions, and its count is wrong for ever once a `ROLLBACK` fails, as it
//! does after SQLite has rolled back by itself on a full disk. A connection goes back to the pool
//! only when it is known to be in no transaction; else it is closed (see `settled`).

pub(crate) mod deadlock;
mod execute;
mod failure;
mod settled;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::FutureExt;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Error};

pub(crate) use failure::is_unavailable;
use settled::{check, settle, within};
pub(crate) use turns::Line;
use turns::{Turn, Turns};

/// Time that a statement is waited for beyond what PostgreSQL itself is given.
const GRACE: Duration = Duration::from_secs(1);
/// Time in which a connection has to answer whether it is there; else it is not used again.
const CHECK: Duration = Duration::from_secs(2);

/// Connections to one database. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    inner: AnyPool,
    /// How long a statement may take.
    limit: Option<Duration>,
    /// Statements that were sent, those that begin and end transactions included.
    statements: Arc<AtomicU64>,
    /// Turns of those who write to a file of SQLite.
    turns: Option<Turns>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `None` once it is given back.
    raw: Option<PoolConnection<Any>>,
    limit: Option<Duration>,
    state: State,
    statements: Arc<AtomicU64>,
    /// The turn to write, until the transaction has ended.
    turn: Option<Turn>,
    /// Whether it was acquired for writing.
    may_write: bool,
    is_postgres: bool,
}

/// What has to be done with a connection before another one uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Idle,
    /// Connection that may be in a transaction, of which no statement has failed.
    Begun,
    /// Connection in a transaction of which a statement has failed or was given up: nothing of it
    /// may be committed.
    Spoiled,
    /// Something has failed that may have to do with the connection itself: it is closed.
    Broken,
}

/// A transaction; dropped without a commit nothing has happened.
#[derive(Debug)]
pub(crate) struct Transaction(Connection);

/// What a pool is made with.
pub(crate) struct PoolOptions {
    pub(crate) max_connections: u32,
    /// How long to wait for a connection.
    pub(crate) connect: Duration,
    /// How long a statement may take; `None`: as long as it takes.
    pub(crate) limit: Option<Duration>,
    /// Whether those who write take turns.
    pub(crate) takes_turns: bool,
    /// What every connection is told first.
    pub(crate) settings: String,
}

impl Pool {
    /// Connects to nothing yet.
    pub(crate) fn new(connect: AnyConnectOptions, options: PoolOptions) -> Self {
        let limit = options.limit;
        let patience = limit.map(|_| CHECK);
        let settings = options.settings;
        let inner = AnyPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.connect)
            // It is tested below, within a limit.
            .test_before_acquire(false)
            .before_acquire(move |connection, _| check(connection, patience).boxed())
            .after_release(move |connection, _| check(connection, patience).boxed())
            .after_connect(move |connection, _| {
                let settings = sqlx::AssertSqlSafe(settings.clone());
                Box::pin(async move {
                    sqlx::raw_sql(settings).execute(connection).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(connect);
        Self {
            inner,
            limit: limit.map(|limit| limit + GRACE),
            statements: Arc::default(),
            turns: options.takes_turns.then(Turns::new),
        }
    }

    /// A connection, on a file of SQLite for reading only.
    pub(crate) async fn acquire(&self) -> Result<Connection, Error> {
        Ok(Connection {
            raw: Some(self.inner.acquire().await?),
            limit: self.limit,
            state: State::Idle,
            statements: Arc::clone(&self.statements),
            turn: None,
            may_write: self.is_postgres(),
            is_postgres: self.is_postgres(),
        })
    }

    /// A connection for writing, when it is its turn, which lasts as long as it is held.
    pub(crate) async fn acquire_in_turn(&self, line: Line) -> Result<Connection, Error> {
        let turn = match &self.turns {
            Some(turns) => turns.take(line).await,
            None => None,
        };
        let mut connection = self.acquire().await?;
        connection.turn = turn;
        connection.may_write = true;
        Ok(connection)
    }

    /// Statements that were sent since it was made.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// Begins a transaction, on a file of SQLite one that only reads.
    pub(crate) async fn begin(&self, begin: &'static str) -> Result<Transaction, Error> {
        self.acquire().await?.begin(begin).await
    }

    /// Begins a transaction that writes, when it is its turn.
    pub(crate) async fn begin_in_turn(
        &self,
        line: Line,
        begin: &'static str,
    ) -> Result<Transaction, Error> {
        self.acquire_in_turn(line).await?.begin(begin).await
    }

    /// Whether the other end is a PostgreSQL, and no file of SQLite.
    pub(crate) fn is_postgres(&self) -> bool {
        self.turns.is_none()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Ends all connections after what they are doing; those that do not answer end with the
    /// process.
    pub(crate) async fn close(&self) {
        match self.limit {
            Some(limit)
                if tokio::time::timeout(limit, self.inner.close())
                    .await
                    .is_err() =>
            {
                tracing::warn!("some connections to the database could not be closed in time");
            }
            Some(_) => {}
            None => self.inner.close().await,
        }
    }
}

impl Connection {
    /// Whether the other end is a PostgreSQL, and no file of SQLite.
    pub(crate) fn is_postgres(&self) -> bool {
        self.is_postgres
    }

    /// From now on a statement may take so long.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.limit = self.limit.map(|_| limit + GRACE);
    }

    /// Closes it: it was told what does not hold for others.
    pub(crate) fn discard(mut self) {
        self.state = State::Broken;
    }

    async fn begin(mut self, begin: &'static str) -> Result<Transaction, Error> {
        // Who waits for this no more leaves it to the drop to find out whether it has begun.
        self.state = State::Spoiled;
        self.tell(begin).await?;
        self.state = State::Begun;
        Ok(Transaction(self))
    }

    /// The connection, for a statement whose end is told to [`Self::ended`]. Until then it counts
    /// as failed: who is dropped in the middle of it tells nothing.
    fn begin_statement(&mut self) -> Result<&mut AnyConnection, Error> {
        match self.state {
            State::Idle => {}
            State::Begun => self.state = State::Spoiled,
            State::Spoiled | State::Broken => return Err(spoiled()),
        }
        self.statements.fetch_add(1, Ordering::Relaxed);
        match &mut self.raw {
            Some(raw) => Ok(raw),
            None => Err(Error::PoolClosed),
        }
    }

    fn ended<T>(&mut self, was: State, result: Result<T, Error>) -> Result<T, Error> {
        match &result {
            Ok(_) => self.state = was,
            Err(error) if !failure::spares_connection(error) => self.state = State::Broken,
            // A transaction is spoiled from the beginning of the statement on.
            Err(_) => {}
        }
        result
    }

    /// A statement about the transaction itself, whatever has become of it.
    async fn tell(&mut self, statement: &'static str) -> Result<(), Error> {
        let Some(raw) = &mut self.raw else {
            return Err(Error::PoolClosed);
        };
        self.statements.fetch_add(1, Ordering::Relaxed);
        let told = within(self.limit, sqlx::raw_sql(statement).execute(&mut **raw)).await;
        if let Err(error) = &told
            && !failure::spares_connection(error)
        {
            self.state = State::Broken;
        }
        told.map(|_| ())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut raw) = self.raw.take() else {
            return;
        };
        let limit = self.limit;
        let turn = self.turn.take();
        match self.state {
            State::Idle => {}
            State::Broken => raw.close_on_drop(),
            State::Begun | State::Spoiled => {
                let settled = async move {
                    let settled = within(limit, settle(&mut raw, limit.is_some())).await;
                    if let Err(error) = settled {
                        tracing::debug!(%error, "a connection whose transaction cannot be rolled back is closed");
                        raw.close_on_drop();
                    }
                    drop(turn);
                };
                // Outside of a runtime nothing can be asked of it, nor can the pool take it back.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(settled);
                }
            }
        }
    }
}

fn spoiled() -> Error {
    Error::Protocol("a statement of this transaction has failed".to_owned())
}

impl Transaction {
    /// Where this fails it is not known what became of it.
    ///
    /// What a statement of has failed is never committed: PostgreSQL would answer `COMMIT` with a
    /// rollback, and no error.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        if self.0.state != State::Begun {
            return Err(spoiled());
        }
        self.0.state = State::Spoiled;
        self.0.tell("COMMIT").await?;
        self.0.state = State::Idle;
        Ok(())
    }
}

impl std::ops::Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl std::ops::DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

#[cfg(test)]
mod tests;

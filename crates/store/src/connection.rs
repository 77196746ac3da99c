//! Connections that nobody waits for without end.
//!
//! A network that is cut, or a host that is gone, ends no connection: whoever waits for its answer waits until TCP gives up, a quarter of an hour
//! or more. So each statement has a limit here, and a connection that has exceeded it is closed rather than used again. What became of the
//! statement is not known then; every caller has to bear that it was done. PostgreSQL is told the same limit, so that what is slow
//! is ended there first, with its own error, and what a node that is gone has locked is free soon.
//!
//! A file of SQLite has no limits: it is there, and waits for locks no longer than its `busy_timeout`.

use std::io;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, TryFutureExt};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyQueryResult, AnyRow, AnyTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{
    Any, AnyConnection, AnyPool, Connection as _, Either, Error, Execute, Executor, SqlStr,
};

/// So much longer than PostgreSQL itself a statement is waited for.
const GRACE: Duration = Duration::from_secs(1);
/// What says nothing for so long when it is asked whether it is there is not used again.
const CHECK: Duration = Duration::from_secs(2);

/// Connections to one database. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    inner: AnyPool,
    /// How long a statement may take.
    limit: Option<Duration>,
    /// How long a connection may take.
    connect: Duration,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Connection {
    raw: Raw,
    limit: Option<Duration>,
}

#[derive(Debug)]
enum Raw {
    Pooled(PoolConnection<Any>),
    Transaction(sqlx::Transaction<'static, Any>),
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
            connect: options.connect,
        }
    }

    pub(crate) async fn acquire(&self) -> Result<Connection, Error> {
        Ok(Connection {
            raw: Raw::Pooled(self.inner.acquire().await?),
            limit: self.limit,
        })
    }

    pub(crate) async fn begin_with(&self, begin: &'static str) -> Result<Transaction, Error> {
        let limit = self.limit.map(|limit| limit + self.connect);
        Ok(Transaction(Connection {
            raw: Raw::Transaction(within(limit, self.inner.begin_with(begin)).await?),
            limit: self.limit,
        }))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Ends all connections after what they are doing; those that do not answer end with the process.
    pub(crate) async fn close(&self) {
        match self.limit {
            Some(limit)
                if tokio::time::timeout(limit, self.inner.close())
                    .await
                    .is_err() =>
            {
                tracing::warn!("not all connections to the database have ended in order");
            }
            Some(_) => {}
            None => self.inner.close().await,
        }
    }
}

/// Whether it answers; what was left of a statement that nobody waits for is read first.
async fn check(connection: &mut AnyConnection, patience: Option<Duration>) -> Result<bool, Error> {
    within(patience, connection.ping()).await?;
    Ok(true)
}

/// Does something, or gives up.
async fn within<T>(
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

impl Connection {
    fn raw(&mut self) -> &mut AnyConnection {
        match &mut self.raw {
            Raw::Pooled(connection) => connection,
            Raw::Transaction(transaction) => transaction,
        }
    }
}

impl Transaction {
    /// From now on a statement of it may take so long.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.0.limit = self.0.limit.map(|_| limit + GRACE);
    }

    /// Where this fails it is not known what became of it.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self.0.raw {
            Raw::Transaction(transaction) => within(self.0.limit, transaction.commit()).await,
            Raw::Pooled(_) => Ok(()),
        }
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

type Step = Either<AnyQueryResult, AnyRow>;

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        // All of it is waited for together.
        let limit = self.limit;
        let steps = async move {
            let steps = self.raw().fetch_many(query).try_collect::<Vec<Step>>();
            let steps = within(limit, steps).await?;
            Ok(stream::iter(steps.into_iter().map(Ok)))
        };
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let limit = self.limit;
        within(limit, self.raw().fetch_optional(query)).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<sqlx::any::AnyStatement, Error>>
    where
        'c: 'e,
    {
        let limit = self.limit;
        within(limit, self.raw().prepare_with(sql, parameters)).boxed()
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let steps = async move {
            let mut connection = self.acquire().await?;
            let steps = connection.fetch_many(query).try_collect::<Vec<Step>>();
            Ok(stream::iter(steps.await?.into_iter().map(Ok)))
        };
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        async move { self.acquire().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<sqlx::any::AnyStatement, Error>>
    where
        'p: 'e,
    {
        async move { self.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }
}

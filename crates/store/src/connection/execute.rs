//! Statements: through a connection, or through the pool, which finds a connection for each.

use futures_util::future::{BoxFuture, FutureExt, TryFutureExt};
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::any::{AnyArguments, AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::error::BoxDynError;
use sqlx::{Any, Either, Error, Execute, Executor, SqlStr};

use super::settled::within;
use super::{Connection, Line, Pool};

type Step = Either<AnyQueryResult, AnyRow>;

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        // All of it is waited for together.
        let steps = async move {
            let query = Known::new(query)?;
            self.must_be_in_turn(&query);
            let (limit, was) = (self.limit, self.state);
            let raw = self.begin_statement()?;
            let steps = raw.fetch_many(query).try_collect::<Vec<Step>>();
            let steps = within(limit, steps).await;
            let steps = self.ended(was, steps)?;
            Ok(stream::iter(steps.into_iter().map(Ok)))
        };
        steps.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<AnyRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let fetched = async move {
            let query = Known::new(query)?;
            self.must_be_in_turn(&query);
            let (limit, was) = (self.limit, self.state);
            let raw = self.begin_statement()?;
            let fetched = within(limit, raw.fetch_optional(query)).await;
            self.ended(was, fetched)
        };
        fetched.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<sqlx::any::AnyStatement, Error>>
    where
        'c: 'e,
    {
        let prepared = async move {
            let (limit, was) = (self.limit, self.state);
            let raw = self.begin_statement()?;
            let prepared = within(limit, raw.prepare_with(sql, parameters)).await;
            self.ended(was, prepared)
        };
        prepared.boxed()
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
            let query = Known::new(query)?;
            let mut connection = self.acquire_for(&query).await?;
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
        let fetched = async move {
            let query = Known::new(query)?;
            self.acquire_for(&query).await?.fetch_optional(query).await
        };
        fetched.boxed()
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

impl Pool {
    /// A connection for one statement.
    async fn acquire_for(&self, query: &Known) -> Result<Connection, Error> {
        if self.turns.is_some() && query.writes() {
            self.acquire_in_turn(Line::Usual).await
        } else {
            self.acquire().await
        }
    }
}

impl Connection {
    /// What writes to a file of SQLite says so when it acquires the connection.
    fn must_be_in_turn(&self, query: &Known) {
        debug_assert!(
            self.may_write || !query.writes(),
            "`{}` is not in turn",
            query.sql.as_str()
        );
    }
}

/// A query whose text is known before it is sent.
struct Known {
    sql: SqlStr,
    arguments: Option<AnyArguments>,
    is_persistent: bool,
}

impl Known {
    fn new<'q>(mut query: impl Execute<'q, Any>) -> Result<Self, Error> {
        Ok(Self {
            arguments: query.take_arguments().map_err(Error::Encode)?,
            is_persistent: query.persistent(),
            sql: query.sql(),
        })
    }

    fn writes(&self) -> bool {
        writes(self.sql.as_str())
    }
}

impl Execute<'_, Any> for Known {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&AnyStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<AnyArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

/// Whether a statement may need the lock of the file.
fn writes(sql: &str) -> bool {
    let first = sql.trim_start();
    let first = first.split(|end: char| !end.is_ascii_alphabetic());
    match first.into_iter().next() {
        Some("SELECT" | "EXPLAIN") => false,
        Some("WITH") => ["INSERT INTO ", "UPDATE ", "DELETE FROM "]
            .iter()
            .any(|change| sql.contains(change)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::writes;

    #[test]
    fn what_only_reads_waits_for_no_turn() {
        for reads in [
            "SELECT 1",
            "  SELECT id FROM owed",
            "EXPLAIN QUERY PLAN SELECT 1",
            "WITH due AS (SELECT 1) SELECT 1",
        ] {
            assert!(!writes(reads), "{reads}");
        }
        for changes in [
            "UPDATE owed SET due_ms = 1",
            "INSERT INTO probe (id) VALUES ($1)",
            "WITH due AS (SELECT 1) DELETE FROM owed",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "VACUUM",
            "",
        ] {
            assert!(writes(changes), "{changes}");
        }
    }
}

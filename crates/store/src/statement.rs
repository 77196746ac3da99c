//! Statements that are put together: constants of this program, and values that are bound.
//!
//! sqlx's own builder writes `?` for a value, which PostgreSQL does not understand.

use std::fmt::Write;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Arguments, AssertSqlSafe, Encode, Type};

use crate::connection::{Connection, Pool};
use crate::error::Result;

/// Since when the first delivery that is owed to an endpoint, and is not claimed, is due. The
/// endpoint is a range of one: where a column is to be equal PostgreSQL may take the index of all
/// that is due as well, and read the rows of all other endpoints on the way.
macro_rules! first_due {
    ($endpoint:literal) => {
        concat!(
            "(SELECT due_ms FROM owed WHERE claimed_by IS NULL AND endpoint_id >= ",
            $endpoint,
            " AND endpoint_id <= ",
            $endpoint,
            " ORDER BY endpoint_id, due_ms LIMIT 1)"
        )
    };
}
pub(crate) use first_due;

pub(crate) struct Statement {
    text: String,
    values: AnyArguments,
    failed: Option<sqlx::Error>,
}

impl Statement {
    pub(crate) fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            values: AnyArguments::default(),
            failed: None,
        }
    }

    /// A text that has places for these numbers, `$1` for the first.
    pub(crate) fn of_numbered(text: &'static str, numbers: &[i64]) -> Self {
        let mut statement = Self::new(text);
        for number in numbers {
            if let Err(error) = statement.values.add(*number) {
                statement.failed = Some(sqlx::Error::Encode(error));
            }
        }
        statement
    }

    /// More of the text. No input of others ever gets here.
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// What there is so far.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// A value in its place.
    pub(crate) fn bind<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'q, Any> + Type<Any>,
    {
        if let Err(error) = self.values.add(value) {
            self.failed = Some(sqlx::Error::Encode(error));
        }
        // Writing to a String does not fail.
        let _ = write!(self.text, "${}", self.values.len());
        self
    }

    /// Values, with a text between each and the next.
    pub(crate) fn bind_list(
        &mut self,
        values: impl IntoIterator<Item = String>,
        between: &'static str,
    ) -> &mut Self {
        for (place, value) in values.into_iter().enumerate() {
            if place > 0 {
                self.push(between);
            }
            self.bind(value);
        }
        self
    }

    pub(crate) async fn fetch_all(self, connection: &mut Connection) -> Result<Vec<AnyRow>> {
        Ok(self.query()?.fetch_all(connection).await?)
    }

    /// How many rows it has changed.
    pub(crate) async fn execute(self, connection: &mut Connection) -> Result<u64> {
        Ok(self.query()?.execute(connection).await?.rows_affected())
    }

    /// Executed by itself; how many rows it has changed.
    pub(crate) async fn execute_on(self, pool: &Pool) -> Result<u64> {
        Ok(self.query()?.execute(pool).await?.rows_affected())
    }

    fn query(self) -> Result<Query<'static, Any, AnyArguments>> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        // Its like may never come again: it does not push out what does.
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.values);
        Ok(query.persistent(false))
    }
}

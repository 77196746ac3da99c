//! Statements that are put together: constants of this program, and values that are bound.
//!
//! sqlx's own builder writes `?` for a value, which PostgreSQL does not understand. SQLite
//! understands `$1` as well, but looks each one up among all names of the statement: what has
//! thousands of values takes it much longer so.

use std::fmt::Write;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, Arguments, AssertSqlSafe, Encode, Type};

use crate::connection::{Connection, Line, Pool};
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

/// Rows that one statement inserts: few enough that it ends soon, and that their values are far
/// fewer than the 32,766 of SQLite and the 65,535 of PostgreSQL.
pub(crate) const ROWS: usize = 100;
/// Bytes of contents that one statement inserts, in about; one row may have more.
pub(crate) const ROWS_BYTES: usize = 1 << 20;

/// Rows in their order, as parts that one statement each inserts.
pub(crate) fn parts<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let mut left = rows;
    while !left.is_empty() {
        let mut sum = 0_usize;
        let fits = |row: &&T| {
            sum = sum.saturating_add(bytes(row));
            sum <= ROWS_BYTES
        };
        let fitting = left.iter().take(ROWS).take_while(fits).count();
        let (part, rest) = left.split_at(fitting.max(1));
        parts.push(part);
        left = rest;
    }
    parts
}

/// Stands in the text where a value is; no text has it.
const VALUE: char = '\u{0}';

pub(crate) struct Statement {
    text: String,
    /// Number of the first value that has a [`VALUE`] in the text.
    first: usize,
    values: AnyArguments,
    failed: Option<sqlx::Error>,
    /// Whether its like comes again, so that it is worth preparing.
    comes_again: bool,
}

impl Statement {
    pub(crate) fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            first: 1,
            values: AnyArguments::default(),
            failed: None,
            comes_again: false,
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
        statement.first += numbers.len();
        statement
    }

    /// More of the text. No input of others ever gets here.
    pub(crate) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// The text as this database understands it.
    pub(crate) fn text(&self, is_postgres: bool) -> String {
        let mut text = String::with_capacity(self.text.len() + 4 * self.values.len());
        let mut parts = self.text.split(VALUE);
        text.extend(parts.next());
        for (number, part) in (self.first..).zip(parts) {
            // Where the text has numbers of its own, `?` may get another one.
            if is_postgres || self.first > 1 {
                // Writing to a String does not fail.
                let _ = write!(text, "${number}");
            } else {
                text.push('?');
            }
            text.push_str(part);
        }
        text
    }

    /// A value in its place.
    pub(crate) fn bind<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'q, Any> + Type<Any>,
    {
        if let Err(error) = self.values.add(value) {
            self.failed = Some(sqlx::Error::Encode(error));
        }
        self.text.push(VALUE);
        self
    }

    /// A value in its place, behind a comma.
    pub(crate) fn bind_next<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'q, Any> + Type<Any>,
    {
        self.push(", ").bind(value)
    }

    /// Rows of `VALUES`; `bind` binds the values of one. Of one row, which is what there mostly is,
    /// the text is always the same.
    pub(crate) fn bind_rows<T>(&mut self, rows: &[T], bind: impl Fn(&mut Self, &T)) -> &mut Self {
        self.comes_again = rows.len() == 1;
        let mut before = "(";
        for row in rows {
            bind(self.push(before), row);
            before = "), (";
        }
        self.push(")")
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
        let query = self.query(connection.is_postgres())?;
        Ok(query.fetch_all(connection).await?)
    }

    /// How many rows it has changed.
    pub(crate) async fn execute(self, connection: &mut Connection) -> Result<u64> {
        let query = self.query(connection.is_postgres())?;
        Ok(query.execute(connection).await?.rows_affected())
    }

    /// Executed by itself; how many rows it has changed.
    pub(crate) async fn execute_on(self, pool: &Pool) -> Result<u64> {
        self.execute_in(pool, Line::Usual).await
    }

    /// Executed by itself, after waiting in this line; how many rows it has changed.
    pub(crate) async fn execute_in(self, pool: &Pool, line: Line) -> Result<u64> {
        self.execute(&mut pool.acquire_in_turn(line).await?).await
    }

    fn query(self, is_postgres: bool) -> Result<Query<'static, Any, AnyArguments>> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let query = sqlx::query_with(AssertSqlSafe(self.text(is_postgres)), self.values);
        // What may never come again does not push out what does.
        Ok(query.persistent(self.comes_again))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of rows, and how many rows each part has.
    #[test]
    fn a_part_has_so_many_rows_and_bytes_and_at_least_one_row() {
        let (half, large) = (ROWS_BYTES / 2, 5 * ROWS_BYTES);
        for (sizes, expected) in [
            (vec![], vec![]),
            (vec![0; ROWS], vec![ROWS]),
            (vec![0; 2 * ROWS + 1], vec![ROWS, ROWS, 1]),
            (vec![half; 5], vec![2, 2, 1]),
            (vec![1, large, 1, large, large], vec![1, 1, 1, 1, 1]),
            (vec![half, 0, half, 1], vec![3, 1]),
            (vec![usize::MAX; 2], vec![1, 1]),
        ] {
            let parts = parts(&sizes, |size| *size);
            let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
            assert_eq!(lengths, expected, "{} rows", sizes.len());
            assert_eq!(parts.concat(), sizes);
        }
    }
}

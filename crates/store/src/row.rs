//! Columns of a row as what they mean.

use std::str::FromStr;

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::Result;

pub(crate) fn id<I: FromStr<Err = uuid::Error>>(row: &AnyRow, column: &str) -> Result<I> {
    let text: String = row.try_get(column)?;
    let id = text.parse().map_err(|error| wrong(column, error));
    Ok(id?)
}

pub(crate) fn text(row: &AnyRow, column: &str) -> Result<String> {
    Ok(row.try_get(column)?)
}

pub(crate) fn optional_text(row: &AnyRow, column: &str) -> Result<Option<String>> {
    Ok(row.try_get(column)?)
}

pub(crate) fn number(row: &AnyRow, column: &str) -> Result<i64> {
    Ok(row.try_get(column)?)
}

pub(crate) fn optional_number(row: &AnyRow, column: &str) -> Result<Option<i64>> {
    Ok(row.try_get(column)?)
}

pub(crate) fn truth(row: &AnyRow, column: &str) -> Result<bool> {
    Ok(number(row, column)? != 0)
}

/// A column holds what this program never writes.
pub(crate) fn wrong(
    column: &str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: Box::new(source),
    }
}

//! Rows of mail push that cannot be read, as after a database was changed by hand: each is left
//! out, logged and counted, so that one of them does not take mail push from everybody.

use std::sync::atomic::Ordering;

use dovecast_log::LineLimit;
use sqlx::any::AnyRow;

use crate::error::{Result, StoreError, with_sources};
use crate::open::Store;

/// About rows that cannot be read.
static LINES: LineLimit = LineLimit::a_minute(1);

impl Store {
    /// How often a row of mail push could not be read and was left out, since the start.
    pub fn unreadable_push_rows(&self) -> u64 {
        self.unreadable_push_rows.load(Ordering::Relaxed)
    }

    /// What rows of a table say, without those that cannot be read.
    pub(super) fn readable<'a, T>(
        &self,
        rows: &'a [AnyRow],
        table: &'static str,
        read: impl Fn(&'a AnyRow) -> Result<T>,
    ) -> Vec<T> {
        let read = rows.iter().filter_map(|found| {
            let read = read(found);
            read.inspect_err(|error| self.note_unreadable(table, error))
                .ok()
        });
        read.collect()
    }

    /// Logs and counts a row that is left out.
    pub(super) fn note_unreadable(&self, table: &'static str, error: &StoreError) {
        self.unreadable_push_rows.fetch_add(1, Ordering::Relaxed);
        if LINES.take() {
            let error = with_sources(error);
            tracing::error!(
                table,
                error,
                "a row of mail push cannot be read, and is left out: mend it or delete it"
            );
        }
    }
}

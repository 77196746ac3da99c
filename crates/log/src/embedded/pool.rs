//! Connections that read, used again and again.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::store::{Store, StoreError};

/// So many are kept; more are opened when needed, and closed after use.
const KEPT: usize = 4;

/// Idle connections to the present file.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<(u64, Vec<Connection>)>);

impl Pool {
    /// Runs `read` with a connection.
    pub(super) fn with<T>(
        &self,
        store: &Store,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (generation, idle) = {
            let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (pool.0, pool.1.pop())
        };
        let connection = match idle {
            Some(connection) => connection,
            None => store.open_reader()?,
        };
        let done = read(&connection);
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if done.is_ok() && pool.0 == generation && pool.1.len() < KEPT {
            pool.1.push(connection);
        }
        done
    }

    /// The file is another one now, or none.
    pub(super) fn clear(&self) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pool.0 += 1;
        pool.1.clear();
    }
}

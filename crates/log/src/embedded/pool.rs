//! Connections that read, used again and again, on threads that do nothing else.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use tokio::sync::oneshot;

use super::store::{Store, StoreError};
use super::threads::{THREADS, Threads};

/// Connections that are kept: one for each thread.
const KEPT: usize = THREADS;

/// Idle connections to the present file.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<(u64, Vec<Connection>)>, Threads);

impl Pool {
    /// Runs `read`, which uses the pool, on a thread that does nothing else; the answer fails if
    /// that panics.
    pub(super) fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        self.1.run(read)
    }

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

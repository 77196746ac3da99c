//! The keys of a process: those that its source has, and had since the process was started.
//!
//! A file that is written anew is read again, so that processes that share it know a new key before
//! anything is sealed with it. A key that is taken out of the file stays until the process ends:
//! a row that was read just before it was sealed anew can still be opened.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use super::error::SecretsError;
use super::key::KeyId;
use super::keyring::Keyring;
use super::source::{KeySource, Stamp};

/// How often it is looked whether a file of keys was written: a rotation waits for that.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The keys that can be used now.
#[derive(Debug)]
pub(crate) struct Keys {
    source: KeySource,
    ring: RwLock<Arc<Keyring>>,
    /// As the file was when it was read last.
    stamp: Mutex<Option<Stamp>>,
}

impl Keys {
    /// Reads the keys of a source; makes one where there is none and `may_make`.
    pub(super) fn load(source: &KeySource, may_make: bool) -> Result<Option<Self>, SecretsError> {
        let stamp = source.stamp();
        let ring = match source.load()? {
            None if may_make => {
                let made = source.make()?;
                tracing::info!(place = %source, "a key was made that secrets are sealed with: back it up, apart from the database");
                made
            }
            None => return Ok(None),
            Some(ring) => ring,
        };
        Ok(Some(Self {
            source: source.clone(),
            ring: RwLock::new(Arc::new(ring)),
            stamp: Mutex::new(stamp),
        }))
    }

    /// Where they are from.
    pub(crate) fn source(&self) -> &KeySource {
        &self.source
    }

    /// The keys as they are now.
    pub(crate) fn ring(&self) -> Arc<Keyring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ids of all keys, separated by spaces.
    pub(crate) fn ids(&self) -> String {
        let ids: Vec<_> = self.ring().ids().map(|id| id.to_string()).collect();
        ids.join(" ")
    }

    /// Whether the key is there, after a look into the source if it was not.
    pub(crate) async fn has(self: &Arc<Self>, key: KeyId) -> Result<bool, SecretsError> {
        if !self.ring().has(key) {
            self.refresh().await?;
        }
        Ok(self.ring().has(key))
    }

    /// Reads the source again, where it is a file. A file system that hangs holds up nobody else.
    pub(crate) async fn refresh(self: &Arc<Self>) -> Result<(), SecretsError> {
        let keys = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || keys.read_again());
        read.await.unwrap_or_else(|error| {
            Err(SecretsError::Read {
                place: self.source.to_string(),
                source: std::io::Error::other(error),
            })
        })
    }

    pub(super) fn read_again(&self) -> Result<(), SecretsError> {
        let stamp = self.source.stamp();
        let Some(mut ring) = self.source.load()? else {
            return Ok(());
        };
        {
            let mut held = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.keep(&held);
            *held = Arc::new(ring);
        }
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
        Ok(())
    }

    fn is_written_anew(&self) -> bool {
        let stamp = self.source.stamp();
        stamp.is_some() && stamp != *self.stamp.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the file again whenever it was written, until the store is dropped.
pub(crate) async fn follow(keys: Weak<Keys>) {
    let mut was_read = true;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(keys) = keys.upgrade() else {
            return;
        };
        let place = keys.source.to_string();
        let looked = tokio::task::spawn_blocking(move || {
            if keys.is_written_anew() {
                keys.read_again()?;
            }
            Ok::<_, SecretsError>(())
        });
        match looked.await {
            Ok(Err(error)) if was_read => {
                tracing::warn!(place, %error, "the keys of secrets cannot be read again");
                was_read = false;
            }
            Ok(Ok(())) => was_read = true,
            _ => {}
        }
    }
}

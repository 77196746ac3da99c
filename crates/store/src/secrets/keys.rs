//! The keys of a process: those that its source has, and had since the process was started.
//!
//! A file that is written anew is read again, so that processes that share it know a new key before
//! anything is sealed with it. A key that is taken out of the file stays until the process ends:
//! a row that was read just before it was sealed anew can still be opened. Only what is in the
//! source now counts where a key is chosen: what is in memory alone ends with the process.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use dovecast_log::LineLimit;
use tokio::sync::watch;

use super::error::SecretsError;
use super::file::Stamp;
use super::key::KeyId;
use super::keyring::Keyring;
use super::source::KeySource;
use crate::error::with_sources;

/// How often it is looked whether a file of keys was written: a rotation waits for that.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The keys that can be used now.
#[derive(Debug)]
pub(crate) struct Keys {
    source: KeySource,
    held: RwLock<Held>,
    /// What everything is sealed with, as this process has seen it last.
    current: Mutex<Option<KeyId>>,
    /// Counts how often other keys were read.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Held {
    /// Keys that open: those of the source, and those that it had.
    ring: Arc<Keyring>,
    /// Keys of the source, when it was read last.
    there: Arc<Keyring>,
    /// As the file was then.
    stamp: Option<Stamp>,
}

impl Keys {
    /// Reads the keys of a source; makes one where there is none and `may_make`.
    pub(super) fn load(source: &KeySource, may_make: bool) -> Result<Option<Self>, SecretsError> {
        if let Err(error) = source.tidy() {
            let error = with_sources(&error);
            tracing::warn!(
                error,
                "what was left beside the keys of secrets cannot be removed: keys are in it"
            );
        }
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
        let ring = Arc::new(ring);
        Ok(Some(Self {
            source: source.clone(),
            held: RwLock::new(Held {
                there: Arc::clone(&ring),
                ring,
                stamp,
            }),
            current: Mutex::default(),
            changes: watch::Sender::new(0),
        }))
    }

    /// Where they are from.
    pub(crate) fn source(&self) -> &KeySource {
        &self.source
    }

    /// The keys as they are now.
    pub(crate) fn ring(&self) -> Arc<Keyring> {
        Arc::clone(
            &self
                .held
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .ring,
        )
    }

    /// The keys that the source had when it was read last.
    pub(crate) fn there(&self) -> Arc<Keyring> {
        Arc::clone(
            &self
                .held
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .there,
        )
    }

    /// The ids of the keys in the source, separated by spaces.
    pub(crate) fn ids(&self) -> String {
        let ids: Vec<_> = self.there().ids().map(|id| id.to_string()).collect();
        ids.join(" ")
    }

    /// Takes down what everything is sealed with, as the database says.
    pub(crate) fn seals_with(&self, key: KeyId) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// How often other keys were read; for whoever waits for one.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
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

    /// Changes the keys of the file, see [`KeySource::update`], and reads it again.
    pub(super) async fn update(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Keyring) -> Result<(), SecretsError> + Send + 'static,
    ) -> Result<(), SecretsError> {
        let keys = Arc::clone(self);
        let updated = tokio::task::spawn_blocking(move || {
            keys.source.update(change)?;
            keys.read_again()
        });
        updated.await.unwrap_or_else(|error| {
            let source = std::io::Error::other(error);
            Err(self.source.not_written(source))
        })
    }

    fn read_again(&self) -> Result<(), SecretsError> {
        let stamp = self.source.stamp();
        let there = self.source.load()?;
        let there = there.unwrap_or_else(|| Keyring::empty(&self.source.to_string()));
        let is_news = {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            let is_news = !there.ids().eq(held.there.ids());
            let mut ring = there.clone();
            ring.keep(&held.ring);
            *held = Held {
                ring: Arc::new(ring),
                there: Arc::new(there),
                stamp,
            };
            is_news
        };
        if is_news {
            self.changes.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    fn is_written_anew(&self) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        self.source.stamp() != held.stamp
    }

    /// The key with which everything is sealed, if it is in memory alone.
    fn missing(&self) -> Option<KeyId> {
        let current = *self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.filter(|key| !self.there().has(*key))
    }
}

/// Reads the file again whenever it was written, until the store is dropped.
pub(crate) async fn follow(keys: Weak<Keys>) {
    let lines = LineLimit::default();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(keys) = keys.upgrade() else {
            return;
        };
        let looked = tokio::task::spawn_blocking(move || {
            let read = if keys.is_written_anew() {
                keys.read_again()
            } else {
                Ok(())
            };
            (read, keys.missing(), keys.source.to_string())
        });
        let Ok((read, missing, place)) = looked.await else {
            continue;
        };
        if read.is_ok() && missing.is_none() {
            lines.reset();
            continue;
        }
        if !lines.take() {
            continue;
        }
        if let Err(error) = read {
            let error = with_sources(&error);
            tracing::warn!(place, error, "the keys of secrets cannot be read again");
        }
        if let Some(key) = missing {
            tracing::error!(place, key.id = %key, "the key that secrets are sealed with was taken out of its place, and is in memory alone: put it back before the server is stopped (`dovecast secrets rotate` writes it back, too)");
        }
    }
}

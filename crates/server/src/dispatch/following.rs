//! Follows what is changed of endpoints, on whichever node; and what changes of them without a
//! change in the store: signing secrets end, and keys of secrets are put back.
//!
//! An endpoint whose secrets cannot be opened here is paused on this node: what is for it stays
//! owed, and no attempt fails that its receiver knows nothing of. It is loaded again when other
//! keys are read, and every now and then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dovecast_dispatch::Directory;
use dovecast_notification::EndpointId;
use dovecast_notification::filter::EVERY_ACCOUNT;
use dovecast_store::{Changes, EndpointRecord, Result, Store};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::noticed::Noticed;
use super::routes::Routes;

/// Endpoints of one page.
const PAGE: i64 = 1_000;
/// How long at most until it is looked whether a secret has ended: the clock may be set meanwhile.
const SECRETS_CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// How often endpoints whose secrets cannot be opened are loaded again, and their number is logged.
const LOCKED_CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// Most endpoints that are named in the log between two such checks, with the reason of each.
const MOST_NAMED: usize = 100;
/// How long until what failed is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Endpoints as this node knows them, and what may change of them without a change in the store.
pub(super) struct Following {
    store: Store,
    directory: Arc<Directory>,
    routes: Routes,
    /// Number of the change after which to go on.
    seq: i64,
    /// When secrets end, and whose.
    ends: BTreeSet<(i64, EndpointId)>,
    /// Endpoints whose secrets cannot be opened here.
    locked: BTreeSet<EndpointId>,
    /// How many these are, for whoever shows it.
    locked_count: Arc<AtomicUsize>,
    /// How many of them were named in the log since the last check.
    named: usize,
    /// While endpoints are loaded for the first time.
    noticed: Option<Noticed>,
}

impl Following {
    /// Loads all endpoints.
    pub(super) async fn load(
        store: &Store,
        directory: &Arc<Directory>,
        routes: Routes,
        noticed: Noticed,
    ) -> Result<Self> {
        let mut following = Self {
            store: store.clone(),
            directory: Arc::clone(directory),
            routes,
            seq: 0,
            ends: BTreeSet::new(),
            locked: BTreeSet::new(),
            locked_count: Arc::default(),
            named: 0,
            noticed: Some(noticed),
        };
        following.load_all().await?;
        if let Some(noticed) = following.noticed.take() {
            noticed.finish();
        }
        following.count_locked();
        following.log_locked();
        Ok(following)
    }

    pub(super) fn seq(&self) -> i64 {
        self.seq
    }

    /// Number of the endpoints that are paused because their secrets cannot be opened.
    pub(super) fn locked_count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.locked_count)
    }

    fn count_locked(&self) {
        self.locked_count
            .store(self.locked.len(), Ordering::Relaxed);
    }

    /// Loads all of them again.
    async fn load_all(&mut self) -> Result<()> {
        let seq = self.store.last_change().await?;
        let mut seen = BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.store.load_endpoints_after(after, PAGE).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = Some(last.endpoint.id);
            for record in &page {
                seen.insert(record.endpoint.id);
                if let Some(noticed) = &mut self.noticed
                    && record.account_number != EVERY_ACCOUNT
                {
                    noticed.add(record);
                }
                self.put(record);
            }
        }
        self.directory.retain(|id| seen.contains(&id));
        self.locked.retain(|id| seen.contains(id));
        self.seq = seq;
        Ok(())
    }

    fn put(&mut self, record: &EndpointRecord) {
        let id = record.endpoint.id;
        let until = record.previous_secret_until_ms;
        self.ends.extend(until.map(|until| (until, id)));
        match &record.secrets {
            Ok(_) => {
                if self.locked.remove(&id) {
                    tracing::info!(endpoint.id = %id, "the secrets of an endpoint can be opened again: it is paused no more");
                }
            }
            Err(error) => {
                if self.locked.insert(id) && self.named < MOST_NAMED {
                    self.named += 1;
                    tracing::warn!(endpoint.id = %id, error, "an endpoint is paused on this node: its secrets cannot be opened");
                }
            }
        }
        let (endpoint, filter) = self.routes.route(record);
        self.directory.put(endpoint, filter);
    }

    fn log_locked(&mut self) {
        self.named = 0;
        if let Some(first) = self.locked.first() {
            tracing::error!(
                endpoints = self.locked.len(),
                endpoint.id = %first,
                "endpoints are paused on this node, because their secrets cannot be opened: put the keys back that the warnings name; what is for these endpoints stays owed"
            );
        }
    }

    /// Goes on for ever.
    pub(super) async fn follow(mut self, applied: watch::Sender<i64>) {
        let mut keys = self.store.key_changes();
        // What was read before the endpoints were loaded counts for them.
        keys.mark_changed();
        let mut check_at = Instant::now() + LOCKED_CHECK_INTERVAL;
        loop {
            let wait = self
                .ends
                .first()
                .map(|(until, _)| until - Timestamp::now().as_millisecond());
            let wait = wait.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0) + 1));
            let wait = wait.map(|wait| wait.min(SECRETS_CHECK_INTERVAL));
            let has_locked = !self.locked.is_empty();
            let mut due = BTreeSet::new();
            tokio::select! {
                () = self.store.changed(self.seq) => {}
                () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
                Ok(()) = keys.changed(), if has_locked => due.clone_from(&self.locked),
                () = tokio::time::sleep_until(check_at), if has_locked => {
                    due.clone_from(&self.locked);
                    self.log_locked();
                    check_at = Instant::now() + LOCKED_CHECK_INTERVAL;
                }
            }
            while let Err(error) = self.step(&due).await {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(
                    error,
                    "changes of endpoints cannot be read; this is retried"
                );
                tokio::time::sleep(RETRY_DELAY).await;
            }
            self.count_locked();
            applied.send_replace(self.seq);
        }
    }

    /// Takes in what has changed, and these endpoints, and those of which a secret has ended.
    async fn step(&mut self, due: &BTreeSet<EndpointId>) -> Result<()> {
        let now = Timestamp::now().as_millisecond();
        let ended = self.ends.iter().copied();
        let ended: BTreeSet<_> = ended.take_while(|(until, _)| *until <= now).collect();
        let (mut ids, next) = match self.store.changes_since(self.seq).await? {
            Changes::Endpoints { ids, seq } => (ids, seq),
            Changes::Everything { .. } => {
                self.load_all().await?;
                self.ends.retain(|end| !ended.contains(end));
                return Ok(());
            }
        };
        ids.extend(ended.iter().map(|(_, id)| *id));
        ids.extend(due);
        let mut gone: BTreeSet<_> = ids.iter().copied().collect();
        let ids: Vec<_> = gone.iter().copied().collect();
        for record in self.store.load_endpoints(&ids).await? {
            gone.remove(&record.endpoint.id);
            self.put(&record);
        }
        for id in gone {
            self.directory.remove(id);
            self.locked.remove(&id);
        }
        self.ends.retain(|end| !ended.contains(end));
        self.seq = next;
        Ok(())
    }
}

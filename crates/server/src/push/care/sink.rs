//! Where what is heard goes: into the log, as the plugin would have written it, and what is known
//! of the mailbox into the store.
//!
//! First the events, then the snapshot: after a crash in between the same is heard again, and the
//! log drops what it has by its id. Nothing is written without a good lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use dovecast_event::EventKind;
use dovecast_log::{LineLimit, NewRecord};
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::placement::Lease;
use dovecast_mail_push::sources::{Boxed, EventId, EventIds, Fence, Heard, HeardSink, Snapshot};
use dovecast_store::Store;
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::sources::offer;
use super::states::States;
use crate::config::Config;
use crate::headers::event_headers;
use crate::key_file;
use crate::logs::Logs;
use crate::sources::ox::{IdKey, MailName};
use crate::sources::{Destination, NotTaken};

/// Events that are remembered, so that two listeners of one mailbox ring once: 5 MB.
const REMEMBERED_EVENTS: usize = 100_000;
/// How long flags that change again are the same change: as long as the clock of one node may hang.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Listeners that ask the store at a time: half of its connections. Thousands may begin at once,
/// and what says that the node lives would come behind all of them.
const ASKED_AT_ONCE: usize = 4;

/// Longest time for which a listener that is to end is waited for while it writes: less than may be
/// taken to end it.
const WRITING_LIMIT: Duration = Duration::from_secs(3);

/// Pause before a store is asked again that did not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// About events that the log does not take, and a store that cannot be asked about a mailbox.
static LINES: LineLimit = LineLimit::a_minute(1);

/// Writes what is heard.
pub(super) struct Sink {
    store: Store,
    destination: Destination,
    /// `None`: no source here hears anything itself.
    key: Option<IdKey>,
    leases: Mutex<HashMap<Person, Leased>>,
    states: States,
    told: Mutex<EventIds>,
    asking: Semaphore,
}

/// A person who is heard here.
struct Leased {
    lease: Lease,
    /// Held while something of the person is written.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// Events that are being written: unless they are kept, they were not told.
struct Telling<'a> {
    told: &'a Mutex<EventIds>,
    user: &'a str,
    events: Vec<&'a Heard>,
}

impl<'a> Telling<'a> {
    /// Begins to tell what was not told before.
    fn begin(told: &'a Mutex<EventIds>, user: &'a str, heard: &'a [Heard]) -> Self {
        let events = {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let is_first = |one: &&Heard| told.is_first(&EventId::of(user, one));
            heard.iter().filter(is_first).collect()
        };
        Self { told, user, events }
    }

    /// Keeps in mind that all were told.
    fn keep(mut self) {
        self.events.clear();
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for one in &self.events {
            told.forget(&EventId::of(self.user, one));
        }
    }
}

impl Sink {
    pub(super) fn new(config: &Config, logs: &Logs, store: &Store) -> Result<Self> {
        let topic = config.dispatch.event_topics.first();
        let destination = Destination::new(logs, topic.map_or("dovecot", String::as_str));
        // The key of [ox]: a mail that Dovecot's driver reports, too, has the same id, if its URL
        // says whose it is, or the login is the user.
        let key_file = config.ox_key_file();
        let mut order = config.mail_push.sources.order.iter();
        let hears = |kind: &SourceKind| {
            matches!(kind, SourceKind::ImapIdle | SourceKind::MailNotify)
                && offer(*kind, &config.mail_push).objection.is_none()
        };
        let key = order.any(hears).then(|| {
            let key = key_file::load(&key_file);
            key.with_context(|| format!("cannot use the key of ids, `{}`", key_file.display()))
        });
        let key = key.transpose()?;
        Ok(Self {
            store: store.clone(),
            destination,
            key: key.map(|key| IdKey::of(&key)),
            leases: Mutex::default(),
            states: States::default(),
            told: Mutex::new(EventIds::new(REMEMBERED_EVENTS, REMEMBERED_FOR)),
            asking: Semaphore::new(ASKED_AT_ONCE),
        })
    }

    /// Waits until it is a listener's turn to ask the store; the turn ends when what is returned is
    /// dropped. Whoever has a turn waits for no other.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is closed by nobody.
        self.asking.acquire().await.ok()
    }

    /// From now on the person is heard with this lease, by this source.
    pub(super) fn has_leased(&self, lease: Lease, source: SourceKind) {
        self.states.begins(&lease, source);
        let leases = &mut *self.leases();
        let before = leases.remove(&lease.person);
        let writing = before.map(|one| one.writing).unwrap_or_default();
        leases.insert(lease.person.clone(), Leased { lease, writing });
    }

    /// From now on nothing of the person is written.
    pub(super) fn has_given(&self, person: &Person) {
        self.states.ends(person);
        self.leases().remove(person);
    }

    /// How listeners fare.
    pub(super) fn states(&self) -> &States {
        &self.states
    }

    /// The lease with which the person is heard.
    pub(super) fn leased(&self, person: &Person) -> Option<Lease> {
        let leases = self.leases();
        leases.get(person).map(|one| one.lease.clone())
    }

    /// Waits until nothing of the person is being written; as long as what is returned is held,
    /// nothing is. Whoever is ended in between would leave events in the log without what is known
    /// of the mailbox then, and the next one would tell them again.
    pub(super) async fn quiet(&self, person: &Person) -> Option<OwnedMutexGuard<()>> {
        loop {
            let writing = self.writing(person)?;
            let quiet = Arc::clone(&writing).lock_owned().await;
            // The person may have been given and leased anew meanwhile.
            if self
                .writing(person)
                .is_some_and(|now| Arc::ptr_eq(&now, &writing))
            {
                return Some(quiet);
            }
        }
    }

    fn writing(&self, person: &Person) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let leases = self.leases();
        leases.get(person).map(|one| Arc::clone(&one.writing))
    }

    /// Waits in the same way, for a short time: what takes longer is cut off.
    pub(super) async fn quiet_soon(&self, person: &Person) -> Option<OwnedMutexGuard<()>> {
        let quiet = tokio::time::timeout(WRITING_LIMIT, self.quiet(person)).await;
        quiet.ok().flatten()
    }

    /// What is known of a person's mailbox. What cannot be read is not known.
    pub(super) async fn known(&self, person: &Person) -> Option<Snapshot> {
        loop {
            let heard = {
                let _turn = self.turn().await;
                self.store.heard(person).await
            };
            match heard {
                Ok(None) => return None,
                Ok(Some(json)) => match serde_json::from_str(&json) {
                    Ok(snapshot) => return Some(snapshot),
                    Err(error) => {
                        tracing::error!(%person, %error, "what is known of a mailbox cannot be read: what came since is not told");
                        return None;
                    }
                },
                // To begin anew would miss what came: the listener waits for the store.
                Err(error) => {
                    trouble(&error);
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, HashMap<Person, Leased>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease with which the person is heard, if it is good still.
    async fn lease(&self, person: &Person) -> dovecast_store::Result<Option<Lease>> {
        let Some(lease) = self.leased(person) else {
            return Ok(None);
        };
        let _turn = self.turn().await;
        let is_held = self.store.holds_lease(&lease).await;
        let is_held = is_held.inspect_err(trouble)?;
        Ok(is_held.then_some(lease))
    }

    /// Whether the person is heard here, as the store says it in the end: one that does not answer
    /// says nothing, and is asked again as long as there is a lease.
    pub(super) async fn is_heard_here(&self, person: &Person) -> bool {
        loop {
            match self.lease(person).await {
                Ok(lease) => return lease.is_some(),
                Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
    }

    async fn write(&self, person: &Person, heard: &[Heard], snapshot: &Snapshot) -> bool {
        let Some(_writing) = self.quiet(person).await else {
            return false;
        };
        let Ok(Some(lease)) = self.lease(person).await else {
            return false;
        };
        let user = person.event_user();
        let telling = Telling::begin(&self.told, &user, heard);
        let events = telling.events.iter();
        let records = events.map(|one| self.record(person, &user, one)).collect();
        if !self.is_durable(records).await {
            return false;
        }
        telling.keep();
        let Ok(json) = serde_json::to_string(snapshot) else {
            return false;
        };
        match self.store.put_heard(&lease, &json).await {
            Ok(is_ours) => is_ours,
            Err(error) => {
                trouble(&error);
                false
            }
        }
    }

    async fn is_durable(&self, records: Vec<NewRecord>) -> bool {
        if records.is_empty() {
            return true;
        }
        match self.destination.append_all(records).await {
            Ok(all) => {
                let refused = all.iter().filter_map(|one| one.as_ref().err());
                for error in refused.filter(|_| LINES.take()) {
                    tracing::error!(%error, "an event that was heard is not told: the log never takes it");
                }
                !all.contains(&Err(NotTaken::Unavailable))
            }
            Err(NotTaken::Unavailable) => false,
            // It is the same the next time.
            Err(error) => {
                if LINES.take() {
                    tracing::error!(%error, "events that were heard are not told: the log never takes them");
                }
                true
            }
        }
    }

    fn record(&self, person: &Person, user: &str, heard: &Heard) -> NewRecord {
        let now = jiff::Timestamp::now();
        let id = self.id(person, user, heard);
        NewRecord {
            topic: Arc::clone(&self.destination.topic),
            key: Some(Bytes::copy_from_slice(user.as_bytes())),
            value: heard.event(user).into(),
            headers: event_headers(id, now),
            timestamp_ms: now.as_millisecond(),
            id: Some(id.as_u128()),
        }
    }

    /// The id of an event. A mail comes and goes once; flags may change in the same way again.
    fn id(&self, person: &Person, user: &str, heard: &Heard) -> Uuid {
        let mail = MailName {
            user,
            owner: Some(&person.login),
            mailbox: &heard.mailbox,
            uidvalidity: heard.uidvalidity,
            uid: heard.uid(),
        };
        let Some(key) = &self.key else {
            return Uuid::now_v7();
        };
        match heard.kind() {
            EventKind::MessageNew | EventKind::MessageAppend => key.of_mail(&mail, None),
            kind @ EventKind::MessageExpunge => key.of_mail(&mail, Some(kind.name())),
            _ => Uuid::now_v7(),
        }
    }
}

impl HeardSink for Sink {
    fn take<'a>(
        &'a self,
        person: &'a Person,
        heard: &'a [Heard],
        snapshot: &'a Snapshot,
    ) -> Boxed<'a, bool> {
        Box::pin(self.write(person, heard, snapshot))
    }

    fn fares(&self, person: &Person, trouble: Option<&str>) {
        self.states.fares(person, trouble);
    }
}

impl Fence for Sink {
    fn holds<'a>(&'a self, person: &'a Person) -> Boxed<'a, bool> {
        Box::pin(async move { matches!(self.lease(person).await, Ok(Some(_))) })
    }
}

pub(super) fn trouble(error: &dovecast_store::StoreError) {
    if LINES.take() {
        let error = dovecast_mail_push::causes(error);
        tracing::warn!(
            error,
            "the store cannot be asked about a mailbox that is heard; this is retried"
        );
    }
}

#[cfg(test)]
mod tests;

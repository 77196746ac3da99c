//! The source `dovecot`: Dovecot's stock driver `ox` tells us of new mail of whoever has the entry
//! `http-notify` in METADATA; here it is set, compared again and again, and taken away in the end.
//!
//! It is set by IMAP, with the person's or a master user's login, or by doveadm's HTTP API. What
//! the driver sends then comes in at the end-point of `[ox]`, which is the server's.

mod doveadm;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::back_off::delay;
use super::imap_idle::Ended;
use super::{Fence, read};
use crate::Person;
use crate::imap::{Client, ImapError, ImapServer, Login};

pub use doveadm::{BadDoveadm, Doveadm, DoveadmError};

/// The entry that the driver looks for, of the whole account.
pub const ENTRY: &str = "/private/vendor/vendor.dovecot/http-notify";
/// Bounds of the delay before a Dovecot that is away is tried again.
const RETRY_DELAYS: std::ops::Range<Duration> = Duration::from_secs(5)..Duration::from_mins(5);

/// Entries that are read or written at the same time, a connection each: a thousand listeners that
/// begin or end at once do not open a thousand.
const OPENED_AT_ONCE: usize = 50;

/// Sets the entry of persons.
pub struct HttpNotify {
    way: NotifyWay,
    places: Semaphore,
    stats: RegistrationStats,
}

/// How the entry is reached.
pub enum NotifyWay {
    /// By IMAP, with a login for each person.
    Imap(ImapServer),
    /// By doveadm's HTTP API, without the person's.
    Doveadm(Doveadm),
}

/// What was found of an entry that is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The entry was there.
    Already,
    /// The entry was not there, and was set.
    Set,
    /// The entry named somebody else, and was replaced.
    Replaced,
}

/// Why an entry is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The IMAP server could not be asked, or refuses.
    #[error(transparent)]
    Imap(#[from] ImapError),
    /// doveadm could not be asked, or refuses.
    #[error(transparent)]
    Doveadm(#[from] DoveadmError),
    /// By IMAP nothing is set without a login.
    #[error("there is no login to set METADATA with")]
    NoLogin,
    /// Another node may have been given the listener: it alone changes the entry.
    #[error("the listener of the person is not leased here any more")]
    NotLeased,
}

impl RegistrationError {
    /// Whether the login was refused; all others say nothing about the secret.
    pub const fn is_refused_login(&self) -> bool {
        matches!(self, Self::Imap(error) if error.is_refused_login())
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct RegistrationStats {
    /// Comparisons that found the entry as it should be.
    pub kept: AtomicU64,
    /// Entries that were set or replaced.
    pub set: AtomicU64,
    /// Entries that were taken away.
    pub removed: AtomicU64,
    /// Entries that could not be compared or set.
    pub failed: AtomicU64,
}

impl RegistrationStats {
    /// What grows, by name.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        read([
            ("kept", &self.kept),
            ("set", &self.set),
            ("removed", &self.removed),
            ("failed", &self.failed),
        ])
    }
}

impl HttpNotify {
    /// Sets entries this way.
    pub fn new(way: NotifyWay) -> Arc<Self> {
        Arc::new(Self {
            way,
            places: Semaphore::new(OPENED_AT_ONCE),
            stats: RegistrationStats::default(),
        })
    }

    /// Counters since the start.
    pub const fn stats(&self) -> &RegistrationStats {
        &self.stats
    }

    /// Whether each person's entry needs a login.
    pub const fn needs_login(&self) -> bool {
        matches!(self.way, NotifyWay::Imap(_))
    }

    /// Compares a person's entry with what it should be, and sets it if it differs.
    pub async fn register(
        &self,
        person: &Person,
        login: Option<&Login>,
    ) -> Result<Registered, RegistrationError> {
        self.set(person, login, None).await
    }

    /// Takes a person's entry away, if it is ours.
    pub async fn unregister(
        &self,
        person: &Person,
        login: Option<&Login>,
    ) -> Result<bool, RegistrationError> {
        self.remove(person, login, None).await
    }

    /// Takes a person's entry away, if it is ours and the fence holds.
    pub async fn unregister_fenced(
        &self,
        person: &Person,
        login: Option<&Login>,
        fence: &dyn Fence,
    ) -> Result<bool, RegistrationError> {
        self.remove(person, login, Some(fence)).await
    }

    async fn set(
        &self,
        person: &Person,
        login: Option<&Login>,
        fence: Option<&dyn Fence>,
    ) -> Result<Registered, RegistrationError> {
        let _place = self.places.acquire().await;
        let mut entry = self.open(person, login).await?;
        let found = entry.read().await?;
        let registered = match found.as_deref().map(named) {
            Some(Some(user)) if user == person.event_user() => Registered::Already,
            Some(Some(_)) => {
                tracing::warn!(%person, "the METADATA entry `http-notify` named somebody else; it is set anew");
                Registered::Replaced
            }
            Some(None) | None => Registered::Set,
        };
        if registered != Registered::Already {
            must_hold(fence, person).await?;
            entry.write(Some(&value(person))).await?;
        }
        entry.close().await;
        Ok(registered)
    }

    async fn remove(
        &self,
        person: &Person,
        login: Option<&Login>,
        fence: Option<&dyn Fence>,
    ) -> Result<bool, RegistrationError> {
        let _place = self.places.acquire().await;
        let mut entry = self.open(person, login).await?;
        let found = entry.read().await?;
        let is_ours = found.as_deref().and_then(named) == Some(&*person.event_user());
        // Whoever may not change the entry does not know either that it is gone.
        must_hold(fence, person).await?;
        if is_ours {
            entry.write(None).await?;
            self.stats.removed.fetch_add(1, Ordering::Relaxed);
        }
        entry.close().await;
        Ok(is_ours)
    }

    /// Keeps a person's entry as it should be, until the login is refused; dropping the future ends
    /// it, and leaves the entry to [`Self::unregister`]. Nothing is changed where `fence` does not
    /// hold.
    pub async fn keep(
        self: Arc<Self>,
        person: Person,
        login: Option<Login>,
        every: Duration,
        fence: Arc<dyn Fence>,
    ) -> Ended {
        let mut failures = 0;
        loop {
            if !fence.holds(&person).await {
                failures += 1;
                tokio::time::sleep(delay(failures, &RETRY_DELAYS)).await;
                continue;
            }
            let set = self.set(&person, login.as_ref(), Some(&*fence));
            let registered = Box::pin(set).await;
            let wait = match registered {
                Ok(found) => {
                    failures = 0;
                    let count = match found {
                        Registered::Already => &self.stats.kept,
                        Registered::Set | Registered::Replaced => &self.stats.set,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    delay(0, &(every..every))
                }
                Err(error) => {
                    self.stats.failed.fetch_add(1, Ordering::Relaxed);
                    if let Some(ended) = ended(&error) {
                        tracing::debug!(%person, error = crate::causes(&error), "METADATA cannot be set");
                        return ended;
                    }
                    tracing::debug!(%person, error = crate::causes(&error), "METADATA could not be compared; it is tried again");
                    failures += 1;
                    delay(failures, &RETRY_DELAYS)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn open<'a>(
        &'a self,
        person: &'a Person,
        login: Option<&Login>,
    ) -> Result<Entry<'a>, RegistrationError> {
        match &self.way {
            NotifyWay::Doveadm(doveadm) => Ok(Entry::Doveadm(doveadm, person)),
            NotifyWay::Imap(server) => {
                let login = login.ok_or(RegistrationError::NoLogin)?;
                let mut client = Client::connect(server).await?;
                client.login(login).await?;
                if !client.has_metadata() {
                    return Err(ImapError::Lacks("METADATA").into());
                }
                Ok(Entry::Imap(client))
            }
        }
    }
}

/// One person's entry.
enum Entry<'a> {
    Imap(Client),
    Doveadm(&'a Doveadm, &'a Person),
}

impl Entry<'_> {
    async fn read(&mut self) -> Result<Option<String>, RegistrationError> {
        let value = match self {
            Self::Imap(client) => {
                let value = client.metadata(ENTRY).await?;
                value.map(|value| String::from_utf8_lossy(&value).into_owned())
            }
            Self::Doveadm(doveadm, person) => doveadm.metadata(&person.login, ENTRY).await?,
        };
        Ok(value.filter(|value| !value.is_empty()))
    }

    async fn write(&mut self, value: Option<&str>) -> Result<(), RegistrationError> {
        match self {
            Self::Imap(client) => {
                let value = value.map(str::as_bytes);
                client.set_metadata(ENTRY, value).await?;
            }
            Self::Doveadm(doveadm, person) => {
                doveadm.set_metadata(&person.login, ENTRY, value).await?;
            }
        }
        Ok(())
    }

    async fn close(self) {
        if let Self::Imap(client) = self {
            client.logout().await;
        }
    }
}

fn ended(error: &RegistrationError) -> Option<Ended> {
    match error {
        RegistrationError::Imap(ImapError::Refused(words)) => Some(Ended::Refused(words.clone())),
        RegistrationError::Imap(ImapError::Lacks(what)) => Some(Ended::Lacks(what)),
        RegistrationError::NoLogin => Some(Ended::Lacks("a login")),
        RegistrationError::Imap(_)
        | RegistrationError::Doveadm(_)
        | RegistrationError::NotLeased => None,
    }
}

/// Asks right before anything is changed: opening and reading may have taken longer than a lease.
async fn must_hold(fence: Option<&dyn Fence>, person: &Person) -> Result<(), RegistrationError> {
    match fence {
        Some(fence) if !fence.holds(person).await => Err(RegistrationError::NotLeased),
        _ => Ok(()),
    }
}

/// What the driver says the user is, where it is told to by `user_from_metadata`.
fn value(person: &Person) -> String {
    format!("user={}", person.event_user())
}

/// Whom a value names: of `key=value` items between tabs the last `user`, as the driver reads it.
fn named(value: &str) -> Option<&str> {
    let mut items = value.rsplit('\t');
    items.find_map(|item| item.strip_prefix("user="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_the_person_as_the_driver_reads_it() {
        for (context, user, login, expected) in [
            ("3", "11", "11@3", "user=11@3"),
            ("3", "11", "alice@example.org", "user=11@3"),
            ("alice", "alice", "alice", "user=alice"),
        ] {
            let person = Person::new(context, user, login).expect("a person");
            assert_eq!(value(&person), expected);
        }
        for (value, user) in [
            ("user=11@3", Some("11@3")),
            ("url=http://a\tuser=1@1\tuser=2@2\tx", Some("2@2")),
            ("user=", Some("")),
            ("users=a", None),
            ("", None),
        ] {
            assert_eq!(named(value), user, "{value}");
        }
    }
}

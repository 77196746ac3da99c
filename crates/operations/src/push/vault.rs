//! Passwords of persons' mailboxes, as sessions have said them: in memory while a session or the
//! credential storage needs them, or in the store (`rdb`). Sealed wherever they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dovecast_mail_push::Person;
use dovecast_store::{MailboxCredentials, Passcrypt, Store};
use uuid::Uuid;

/// Most persons whose passwords are in memory, half a kilobyte each: more than one server has
/// sessions.
const MAX_IN_MEMORY: usize = 500_000;

/// Where passwords are; clones are the same one.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

/// How long passwords live, `[mail_push.credstorage]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialStorage {
    /// As long as a session of the person.
    #[default]
    None,
    /// As long as a session or a subscription, and this process.
    Memory,
    /// As long as a session or a subscription.
    Store,
}

struct Inner {
    store: Store,
    storage: CredentialStorage,
    passcrypt: Arc<Passcrypt>,
    memory: Mutex<HashMap<Person, InMemory>>,
}

struct InMemory {
    sealed: String,
    name: Arc<str>,
    is_refused: bool,
    kept: Instant,
}

/// What is known of a person's password without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPassword {
    /// Name of the password: another one has another.
    pub name: Arc<str>,
    /// Whether this process alone has it.
    pub is_here_only: bool,
}

impl Vault {
    /// A vault whose passwords are sealed with the passphrase of the configuration.
    pub fn new(store: Store, storage: CredentialStorage, passcrypt: Arc<Passcrypt>) -> Self {
        Self(Arc::new(Inner {
            store,
            storage,
            passcrypt,
            memory: Mutex::default(),
        }))
    }

    /// How long passwords live.
    pub fn storage(&self) -> CredentialStorage {
        self.0.storage
    }

    /// Keeps what a mailbox is opened with, in place of what was there. What cannot be sealed is
    /// kept nowhere.
    pub async fn keep(&self, person: &Person, credentials: &MailboxCredentials) {
        let Inner {
            store,
            storage,
            passcrypt,
            ..
        } = &*self.0;
        if *storage == CredentialStorage::Store {
            match store.keep_credentials(person, credentials, passcrypt).await {
                Ok(_) => {
                    self.memory().remove(person);
                    return;
                }
                Err(error) => {
                    let error = dovecast_mail_push::causes(&error);
                    tracing::error!(%person, error, "a password cannot be stored: without a session it is not there");
                }
            }
        }
        let sealed = match passcrypt.seal(person, credentials) {
            Ok(sealed) => sealed,
            Err(error) => {
                tracing::error!(%person, %error, "a password cannot be sealed, and is not kept");
                return;
            }
        };
        let mut memory = self.memory();
        if memory.len() >= MAX_IN_MEMORY && !memory.contains_key(person) {
            tracing::error!(%person, most = MAX_IN_MEMORY, "too many passwords are in memory: one more is not kept");
            return;
        }
        let name = Uuid::now_v7().to_string().into();
        memory.insert(
            person.clone(),
            InMemory {
                sealed,
                name,
                is_refused: false,
                kept: Instant::now(),
            },
        );
    }

    /// Whether each node has passwords of its own, which others do not see.
    pub fn is_of_each_node(&self) -> bool {
        self.0.storage != CredentialStorage::Store
    }

    /// Whether there is a password of a person that was not refused.
    pub async fn has(&self, person: &Person) -> dovecast_store::Result<bool> {
        let is_here = |one: &InMemory| !one.is_refused;
        if self.memory().get(person).is_some_and(is_here) {
            return Ok(true);
        }
        if self.0.storage != CredentialStorage::Store {
            return Ok(false);
        }
        self.0.store.has_credentials(person).await
    }

    /// All passwords that were not refused. Of persons context and user count only.
    pub async fn known(&self) -> dovecast_store::Result<HashMap<Person, KnownPassword>> {
        let mut known = HashMap::new();
        if self.0.storage == CredentialStorage::Store {
            for stored in self.0.store.known_credentials().await? {
                let person = Person::new(&stored.context, &stored.user, &stored.user);
                // What is no person has no session and no subscription either.
                if let Ok(person) = person {
                    let password = KnownPassword {
                        name: stored.name.into(),
                        is_here_only: false,
                    };
                    known.insert(person, password);
                }
            }
        }
        for (person, one) in &*self.memory() {
            if !one.is_refused {
                let password = KnownPassword {
                    name: Arc::clone(&one.name),
                    is_here_only: true,
                };
                known.insert(person.clone(), password);
            }
        }
        Ok(known)
    }

    /// Opens a person's password; `None`: there is none that was not refused. An error of the
    /// secrets says that it was sealed with what is not here, any other that the store is away.
    pub async fn open(
        &self,
        person: &Person,
    ) -> dovecast_store::Result<Option<MailboxCredentials>> {
        let (store, passcrypt) = (&self.0.store, &self.0.passcrypt);
        let is_usable = |one: &&InMemory| !one.is_refused;
        let sealed = self
            .memory()
            .get(person)
            .filter(is_usable)
            .map(|one| one.sealed.clone());
        match sealed {
            Some(sealed) => Ok(Some(passcrypt.open(person, &sealed)?)),
            None if self.0.storage == CredentialStorage::Store => {
                store.credentials(person, passcrypt).await
            }
            None => Ok(None),
        }
    }

    /// Notes that the mail server has refused the password of this name: it is tried no more. One
    /// that the store has besides is tried next.
    pub async fn refuse(&self, person: &Person, name: &str) -> dovecast_store::Result<()> {
        let is_stored = self.0.storage == CredentialStorage::Store;
        {
            let mut memory = self.memory();
            if let Some(one) = memory.get_mut(person)
                && *one.name == *name
            {
                one.is_refused = true;
                // It opens nothing any more.
                one.sealed.clear();
                if is_stored {
                    memory.remove(person);
                }
            }
        }
        if is_stored {
            self.0.store.refuse_credentials(person, name).await?;
        }
        Ok(())
    }

    /// Forgets what is stored of a person's password, unless a subscription or a session needs it.
    pub async fn forget_unneeded(&self, person: &Person) -> dovecast_store::Result<()> {
        // Also what was stored while the configuration was another.
        self.0.store.forget_unneeded_credentials(person).await?;
        Ok(())
    }

    /// Forgets what is in memory of persons for whom nothing needs it any more. What was kept after
    /// `asked`, when the question who needs what was begun, stays: its session may be younger
    /// than the answer.
    pub fn forget_others(&self, asked: Instant, is_needed: impl Fn(&Person) -> bool) {
        self.memory()
            .retain(|person, one| one.kept >= asked || is_needed(person));
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<Person, InMemory>> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

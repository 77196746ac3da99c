//! The listeners of this node: runs the source of each person whose listener it has leased.
//!
//! What a source needs of the configuration is in [`sources`], where what is heard goes in
//! [`sink`], datagrams are in [`notify`], what is taken away in the end in [`leaving`]. Who has a
//! listener, and on which node, is said by [`super::caring`].

mod keeping;
mod leaving;
mod notify;
mod sink;
mod sources;
mod states;

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use dovecast_mail_push::Person;
use dovecast_mail_push::imap::ImapError;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::placement::{Care, Ending, Fares, Lease, Wish};
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::sources::{Ended, Fence};
use dovecast_operations::push::Vault;
use dovecast_store::Store;
use futures_util::future::join_all;
use tokio::task::{JoinHandle, JoinSet};

use super::counters::{Counters, SourceCounters};
use super::sender::News;
use crate::config::Config;
use crate::logs::Logs;
use keeping::{Delays, Keeper, Reason, Stopped};
use notify::{Ring, Ringing};
use sink::Sink;
use sources::Sources;

pub(super) use sources::rules;

/// Runs listeners; they end when this is dropped.
pub(super) struct Listeners {
    parts: Arc<Parts>,
    running: Mutex<HashMap<Person, Running>>,
    /// The task that takes datagrams.
    _datagrams: JoinSet<()>,
}

/// What listeners are run with.
struct Parts {
    store: Store,
    vault: Vault,
    sources: Arc<Sources>,
    sink: Arc<Sink>,
    ringing: Arc<Ringing>,
    delays: Delays,
    counters: Arc<Counters>,
}

struct Running {
    lease: Lease,
    wish: Wish,
    /// What hears the mailbox, and what takes away what was set elsewhere.
    tasks: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// What the configuration says. Sources that it does not name are not there.
    pub(super) fn start(
        config: &Config,
        logs: &Logs,
        (store, vault): (&Store, &Vault),
        (news, counters): (&News, &Arc<Counters>),
    ) -> Result<Self> {
        let sink = Arc::new(Sink::new(config, logs, store)?);
        let sources = Arc::new(Sources::configured(config, &sink)?);
        let ring = Ring {
            store: store.clone(),
            vault: vault.clone(),
            news: Arc::clone(news),
            sources: Arc::clone(&sources),
            sink: Arc::clone(&sink),
            counters: Arc::clone(counters),
        };
        let ringing = Arc::new(Ringing::new(ring, &config.mail_push.mailnotify));
        let (datagrams, of_datagrams) = notify::listen(&config.mail_push, &ringing)?;
        counters.sources_are(SourceCounters {
            dovecot: sources.dovecot.clone(),
            idle: sources.idle.clone(),
            datagrams: of_datagrams,
        });
        Ok(Self {
            parts: Arc::new(Parts {
                store: store.clone(),
                vault: vault.clone(),
                delays: Delays::new(sources.resync),
                counters: Arc::clone(counters),
                sources,
                sink,
                ringing,
            }),
            running: Mutex::default(),
            _datagrams: datagrams,
        })
    }
}

impl Care for Listeners {
    fn begin(&self, lease: Lease, wish: Wish) -> Sending<'_, ()> {
        let person = lease.person.clone();
        let source = wish.source;
        tracing::debug!(%person, %source, wish.is_permanent, wish.is_leaving, "a listener begins");
        self.parts.sink.has_leased(lease.clone(), source);
        let mut tasks = Vec::new();
        if source != SourceKind::Events {
            let parts = Arc::clone(&self.parts);
            let (of_task, named) = (person.clone(), wish.credentials.clone());
            tasks.push(tokio::spawn(async move {
                parts.keep(&of_task, source, named.as_ref()).await;
            }));
        }
        if wish.is_leaving {
            let parts = Arc::clone(&self.parts);
            let (of_task, named) = (lease.clone(), wish.credentials.clone());
            tasks.push(tokio::spawn(async move {
                parts.leave(&of_task, named.as_ref()).await;
            }));
        }
        let running = Running { lease, wish, tasks };
        let replaced = locked(&self.running).insert(person, running);
        Box::pin(async move {
            if let Some(replaced) = replaced {
                replaced.end().await;
            }
        })
    }

    fn end<'a>(&'a self, person: &'a Person, ending: Ending) -> Sending<'a, ()> {
        Box::pin(async move {
            self.parts.ringing.remove(person);
            // Nothing is written from here on, also by what a datagram has had looked into.
            let quiet = match ending {
                Ending::Handed | Ending::Over => self.parts.sink.quiet_soon(person).await,
                Ending::Lost => None,
            };
            // Whoever is cut short until here ends it once more.
            let running = locked(&self.running).remove(person);
            if let Some(running) = running {
                let (source, lease) = (running.wish.source, running.lease.clone());
                tracing::debug!(%person, %source, ?ending, "a listener ends");
                running.end().await;
                // It may have been added again until now.
                self.parts.ringing.remove(person);
                if ending == Ending::Over && source != SourceKind::Events {
                    self.parts.forget(&lease).await;
                }
            }
            self.parts.sink.has_given(person);
            drop(quiet);
        })
    }

    fn stop(&self) -> Sending<'_, ()> {
        let persons: Vec<Person> = locked(&self.running).keys().cloned().collect();
        Box::pin(async move {
            let ends = persons.iter().map(|one| self.end(one, Ending::Handed));
            join_all(ends).await;
        })
    }

    fn unnoted(&self, most: usize) -> Vec<(Lease, Fares)> {
        self.parts.sink.states().unnoted(most)
    }

    fn noted(&self, noted: &[(Lease, Fares)]) {
        self.parts.sink.states().noted(noted);
    }
}

impl Running {
    /// Ends the tasks; returns when they have ended.
    async fn end(mut self) {
        self.abort();
        for task in mem::take(&mut self.tasks) {
            // One that was aborted is an error, and so is one that has panicked.
            let _ = task.await;
        }
    }

    fn abort(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Whoever is cut short while it ends a listener leaves no task behind.
impl Drop for Running {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Parts {
    /// Hears a mailbox as long as it is wished, until the future is dropped: what has failed is
    /// tried again.
    async fn keep(&self, person: &Person, source: SourceKind, named: Option<&Arc<str>>) {
        let keeper = Keeper {
            person,
            source,
            delays: &self.delays,
            counters: &self.counters,
            states: self.sink.states(),
        };
        let hear = || Box::pin(self.hear(person, source, named));
        keeper.keep(hear).await;
    }

    /// Hears a mailbox until that ends by itself.
    async fn hear(&self, person: &Person, source: SourceKind, named: Option<&Arc<str>>) -> Stopped {
        if source == SourceKind::MailNotify {
            self.ringing.add(person, named.cloned());
        }
        let login = if self.sources.needs_login(source) {
            let _turn = self.sink.turn().await;
            match self.sources.login(&self.vault, person).await {
                Ok(login) => login,
                Err(reason) => return Stopped::Again(reason),
            }
        } else {
            None
        };
        let ended = match source {
            SourceKind::Events => return Stopped::Done,
            SourceKind::Dovecot => {
                let Some(notify) = self.sources.dovecot.clone() else {
                    return Stopped::Done;
                };
                if !self.note_metadata(person).await {
                    return Stopped::Again(Reason::Store);
                }
                self.sink.states().fares(person, None);
                let fence = Arc::clone(&self.sink) as Arc<dyn Fence>;
                notify
                    .keep(person.clone(), login, self.sources.resync, fence)
                    .await
            }
            SourceKind::ImapIdle => {
                let Some(idle) = self.sources.idle.clone() else {
                    return Stopped::Done;
                };
                let Some(login) = login else {
                    return Stopped::Again(Reason::Lacks("a login"));
                };
                let known = self.sink.known(person).await;
                idle.listen(person.clone(), login, known).await
            }
            SourceKind::MailNotify => {
                self.sink.states().fares(person, None);
                let (Some(idle), Some(login)) = (&self.sources.idle, login) else {
                    return Stopped::Done;
                };
                // What is there now is not rung for; what came while nobody was there is.
                let known = self.sink.known(person).await;
                match idle.look(person, &login, known, &BTreeSet::new()).await {
                    Err(ImapError::Refused(words)) => Ended::Refused(words),
                    // The next packet looks again.
                    Ok(_) | Err(_) => return Stopped::Done,
                }
            }
        };
        match ended {
            Ended::Refused(_) => match named.filter(|_| self.sources.master.is_none()) {
                Some(name) => self.refuse(person, name).await,
                None => Stopped::Again(Reason::Master),
            },
            Ended::Lacks(what) => Stopped::Again(Reason::Lacks(what)),
        }
    }

    /// Stores that the mail server has refused a password, however long that takes: before it is
    /// stored, the password would be used again.
    async fn refuse(&self, person: &Person, name: &str) -> Stopped {
        let mut failures = 0;
        while !self.sources.refused(&self.vault, person, name).await {
            tokio::time::sleep(self.delays.after(Reason::Store, failures)).await;
            failures += 1;
        }
        Stopped::Done
    }

    /// Notes in the store that the person's METADATA entry is going to be set, so that it is taken
    /// away in the end; `false`: the store is away, or another node has the lease.
    async fn note_metadata(&self, person: &Person) -> bool {
        let Some(lease) = self.sink.leased(person) else {
            return false;
        };
        let _turn = self.sink.turn().await;
        match self.store.put_metadata(&lease).await {
            Ok(is_noted) => is_noted,
            Err(error) => {
                sink::trouble(&error);
                false
            }
        }
    }

    /// Forgets what is known of the mailbox of a person who is not heard in this way any more.
    async fn forget(&self, lease: &Lease) {
        if let Err(error) = self.store.forget_heard(lease).await {
            let error = dovecast_mail_push::causes(&error);
            let person = &lease.person;
            tracing::warn!(%person, error, "what is known of a mailbox cannot be forgotten");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

//! The listeners of this node: runs the source of each person whose listener it has leased.
//!
//! What a source needs of the configuration is in [`sources`], where what is heard goes in
//! [`sink`], datagrams are in [`notify`]. Who has a listener, and on which node, is said by
//! [`super::caring`].

mod keeping;
mod notify;
mod sink;
mod sources;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use anyhow::Result;
use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{ImapError, Login};
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::placement::{Care, Lease, Wish};
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::sources::{Ended, Fence};
use dovecast_operations::push::Vault;
use dovecast_store::Store;
use tokio::task::{JoinHandle, JoinSet};

use super::counters::Counters;
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
    /// What takes away what was set elsewhere. Whoever hears the mailbox again waits for it.
    ending: Mutex<HashMap<Person, JoinHandle<()>>>,
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
    wish: Wish,
    /// `None`: there is nothing to do, or it is done.
    task: Option<JoinHandle<()>>,
    /// How it has logged in: when all is over the password is forgotten at once, and what was set
    /// elsewhere has still to be taken away.
    login: Arc<OnceLock<Login>>,
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
        let datagrams = notify::listen(&config.mail_push, &ringing)?;
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
            ending: Mutex::default(),
            _datagrams: datagrams,
        })
    }
}

impl Care for Listeners {
    fn begin(&self, lease: Lease, wish: Wish) -> Sending<'_, ()> {
        let person = lease.person.clone();
        let source = wish.source;
        tracing::debug!(%person, %source, wish.is_permanent, "a listener begins");
        self.parts.sink.has_leased(lease);
        let before = locked(&self.ending).remove(&person);
        let parts = Arc::clone(&self.parts);
        let (of_task, named) = (person.clone(), wish.credentials.clone());
        let login = Arc::<OnceLock<Login>>::default();
        let used = Arc::clone(&login);
        let task = (source != SourceKind::Events).then(|| {
            tokio::spawn(async move {
                if let Some(before) = before {
                    // One that has panicked has ended, too.
                    let _ = before.await;
                }
                parts.keep(&of_task, source, (named, &used)).await;
            })
        });
        let replaced = locked(&self.running).insert(person, Running { wish, task, login });
        Box::pin(async move {
            if let Some(replaced) = replaced {
                replaced.end().await;
            }
        })
    }

    fn end<'a>(&'a self, person: &'a Person, is_over: bool) -> Sending<'a, ()> {
        Box::pin(async move {
            let Some(running) = locked(&self.running).remove(person) else {
                return;
            };
            let (source, login) = (running.wish.source, running.login.get().cloned());
            tracing::debug!(%person, %source, is_over, "a listener ends");
            self.parts.ringing.remove(person);
            running.end().await;
            if is_over && source != SourceKind::Events {
                let (parts, of_task) = (Arc::clone(&self.parts), person.clone());
                let task =
                    tokio::spawn(async move { parts.take_away(&of_task, source, login).await });
                let mut ending = locked(&self.ending);
                ending.retain(|_, task| !task.is_finished());
                ending.insert(person.clone(), task);
            }
            self.parts.sink.has_given(person);
        })
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for running in locked(&self.running).values() {
            if let Some(task) = &running.task {
                task.abort();
            }
        }
    }
}

impl Running {
    /// Ends the task; returns when it has ended.
    async fn end(self) {
        if let Some(task) = self.task {
            task.abort();
            // One that was aborted is an error, and so is one that has panicked.
            let _ = task.await;
        }
    }
}

impl Parts {
    /// Hears a mailbox as long as it is wished, until the future is dropped: what has failed is
    /// tried again. `used`: learns how it logs in.
    async fn keep(
        &self,
        person: &Person,
        source: SourceKind,
        (named, used): (Option<Arc<str>>, &OnceLock<Login>),
    ) {
        let keeper = Keeper {
            person,
            source,
            delays: &self.delays,
            counters: &self.counters,
        };
        let hear = || Box::pin(self.hear(person, source, (named.as_ref(), used)));
        keeper.keep(hear).await;
    }

    /// Hears a mailbox until that ends by itself.
    async fn hear(
        &self,
        person: &Person,
        source: SourceKind,
        (named, used): (Option<&Arc<str>>, &OnceLock<Login>),
    ) -> Stopped {
        if source == SourceKind::MailNotify {
            self.ringing.add(person, named.cloned());
        }
        let login = if self.sources.needs_login(source) {
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
                if let Some(login) = &login {
                    used.get_or_init(|| login.clone());
                }
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
                let (Some(idle), Some(login)) = (&self.sources.idle, login) else {
                    return Stopped::Done;
                };
                // What is there now is not rung for; what came while nobody was there is.
                let known = self.sink.known(person).await;
                match idle.look(person, &login, known).await {
                    Err(ImapError::Refused(words)) => Ended::Refused(words),
                    // The next packet looks again.
                    Ok(()) | Err(_) => return Stopped::Done,
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

    /// Takes away what was set for a person who has no listener of this source any more.
    async fn take_away(&self, person: &Person, source: SourceKind, used: Option<Login>) {
        if let Err(error) = self.store.forget_heard(person).await {
            let error = dovecast_mail_push::causes(&error);
            tracing::warn!(%person, error, "what is known of a mailbox cannot be forgotten");
        }
        let (SourceKind::Dovecot, Some(notify)) = (source, &self.sources.dovecot) else {
            return;
        };
        let login = match used {
            None if notify.needs_login() => {
                let login = self.sources.login(&self.vault, person).await;
                login.unwrap_or_default()
            }
            used => used,
        };
        if let Err(error) = notify.unregister(person, login.as_ref()).await {
            let error = dovecast_mail_push::causes(&error);
            tracing::warn!(%person, error, "the METADATA entry `http-notify` cannot be taken away");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

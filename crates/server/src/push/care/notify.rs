//! Datagrams of mail servers (`[mail_push.mailnotify]`): who is rung by one.
//!
//! A datagram says user and mailbox. Where the mailbox can be looked into, the mails that came are
//! told as any other source tells them; else the person's devices are told the mailbox, without
//! an event of the log, which has none without a mail. Whose name it says is decided among all
//! persons that the store knows, whichever node hears them.

use std::collections::HashMap;
use std::net::UdpSocket as StdSocket;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_log::{LineLimit, now_ms};
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::plan::{Conditions, plan};
use dovecast_mail_push::sources::{
    Boxed, Fence, MailNotify, Names, NotifyOptions, NotifySink, NotifyStats,
};
use dovecast_mail_push::{MailEvent, Person};
use dovecast_operations::push::Vault;
use dovecast_store::Store;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::keeping::{Reason, note};
use super::sink::Sink;
use super::sources::Sources;
use crate::config::mail_push::{MailNotify as Section, MailPushSection};
use crate::push::counters::{Count, Counters};
use crate::push::sender::News;

/// Mailboxes that are looked into at a time; who comes next waits, and so do datagrams.
const LOOKED_INTO_AT_ONCE: usize = 64;
/// The one mailbox that can be looked into.
const LOOKED_INTO: &str = "INBOX";

/// How long names are used until all persons are asked for again: as long as it takes until
/// anything else that has changed is seen.
const REREAD_INTERVAL: Duration = Duration::from_secs(3);
/// How long names are used while the store cannot be asked.
const LONGEST_USE: Duration = Duration::from_mins(1);

static LINES: LineLimit = LineLimit::a_minute(1);
static AMBIGUOUS_LINES: LineLimit = LineLimit::a_minute(1);

/// Persons who are rung by datagrams, and what rings them.
pub(super) struct Ringing {
    ring: Arc<Ring>,
    use_full_email_address: bool,
    persons: Mutex<Persons>,
    /// Held while the store is asked for all persons.
    reading: tokio::sync::Mutex<()>,
    looking: Arc<Semaphore>,
}

/// What rings one person.
pub(super) struct Ring {
    pub(super) store: Store,
    pub(super) vault: Vault,
    pub(super) news: News,
    pub(super) sources: Arc<Sources>,
    pub(super) sink: Arc<Sink>,
    pub(super) counters: Arc<Counters>,
}

/// Persons who are rung here, with the names of their passwords, and the names by which datagrams
/// call all persons, as they were made last.
#[derive(Default)]
struct Persons {
    here: HashMap<Person, Option<Arc<str>>>,
    names: Option<Arc<Names>>,
    /// When all persons were asked for last.
    asked: Option<Instant>,
    /// When the store last said who they are.
    read: Option<Instant>,
}

/// Conditions of which nothing is known: there is no mail to ask.
struct NoMail;

impl Conditions for NoMail {
    fn holds(&mut self, _: &str) -> bool {
        false
    }
}

impl Ringing {
    pub(super) fn new(ring: Ring, section: &Section) -> Self {
        Self {
            ring: Arc::new(ring),
            use_full_email_address: section.use_full_email_address,
            persons: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            looking: Arc::new(Semaphore::new(LOOKED_INTO_AT_ONCE)),
        }
    }

    /// Datagrams that name the person ring from now on.
    pub(super) fn add(&self, person: &Person, password: Option<Arc<str>>) {
        let persons = &mut *self.persons();
        persons.here.insert(person.clone(), password);
        // Who came after all persons were asked for is called at once.
        if let Some(names) = &mut persons.names {
            Arc::make_mut(names).add(person, &person.login);
        }
    }

    /// Datagrams ring a person no more.
    pub(super) fn remove(&self, person: &Person) {
        self.persons().here.remove(person);
    }

    /// Whether all persons were asked for a short time ago, with or without an answer.
    fn has_asked(&self) -> bool {
        let asked = self.persons().asked;
        asked.is_some_and(|at| at.elapsed() < REREAD_INTERVAL)
    }

    /// The names as they were made last; none where that is too long ago.
    fn made(&self) -> Arc<Names> {
        let persons = self.persons();
        let is_usable = persons.read.is_some_and(|at| at.elapsed() < LONGEST_USE);
        let names = persons.names.clone().filter(|_| is_usable);
        names.unwrap_or_default()
    }

    /// Makes the names of all persons of the store, and of those who are rung here.
    fn make(&self, all: &[Person]) {
        let mut names = Names::new(self.use_full_email_address);
        for person in all {
            names.add(person, &person.login);
        }
        let mut persons = self.persons();
        for person in persons.here.keys() {
            names.add(person, &person.login);
        }
        persons.names = Some(Arc::new(names));
        persons.read = Some(Instant::now());
    }

    /// Looks into the person's mailbox as soon as there is room for it, and tells a mailbox where
    /// that cannot be done.
    async fn begin(&self, person: Person, mailbox: Option<String>) {
        // It is closed by nobody.
        let Ok(place) = Arc::clone(&self.looking).acquire_owned().await else {
            return;
        };
        let password = self.persons().here.get(&person).cloned().flatten();
        let ring = Arc::clone(&self.ring);
        tokio::spawn(async move {
            ring.ring(&person, mailbox.as_deref(), password).await;
            drop(place);
        });
    }

    fn persons(&self) -> MutexGuard<'_, Persons> {
        self.persons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes datagrams where the configuration says so, and counts them.
pub(super) fn listen(
    section: &MailPushSection,
    ringing: &Arc<Ringing>,
) -> Result<(JoinSet<()>, Option<Arc<NotifyStats>>)> {
    let mut tasks = JoinSet::new();
    let is_used = section.sources.order.contains(&SourceKind::MailNotify);
    let Some(address) = section.mailnotify.listen.filter(|_| is_used) else {
        return Ok((tasks, None));
    };
    let bind = || {
        let socket = StdSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    let socket = bind().with_context(|| {
        format!("cannot listen on `{address}` (`listen` in [mail_push.mailnotify])")
    })?;
    let options = NotifyOptions {
        allow: section.mailnotify.allow.clone(),
        delay: Duration::from_millis(section.mailnotify.delay_millis.get()),
    };
    let notify = MailNotify::new(options, Arc::clone(ringing) as Arc<dyn NotifySink>);
    let stats = notify.stats();
    tasks.spawn(notify.listen(socket));
    Ok((tasks, Some(stats)))
}

impl NotifySink for Ringing {
    fn names(&self) -> Boxed<'_, Arc<Names>> {
        Box::pin(async move {
            let _reading = self.reading.lock().await;
            if self.has_asked() {
                return self.made();
            }
            match self.ring.store.push_persons().await {
                Ok(all) => self.make(&all),
                Err(error) => {
                    if LINES.take() {
                        let error = dovecast_mail_push::causes(&error);
                        tracing::warn!(
                            error,
                            "the store cannot be asked whom datagrams name: those of a minute ago are used"
                        );
                    }
                }
            }
            self.persons().asked = Some(Instant::now());
            self.made()
        })
    }

    fn is_rung(&self, person: &Person) -> bool {
        self.persons().here.contains_key(person)
    }

    fn ambiguous(&self, name: &str) {
        self.ring.counters.add(Count::Ambiguous, 1);
        if AMBIGUOUS_LINES.take() {
            let name = dovecast_event::brief(name);
            tracing::warn!(
                name,
                "a datagram names several persons, and rings none: have it name the whole address"
            );
        }
    }

    fn ring(&self, person: Person, mailbox: String) -> Boxed<'_, ()> {
        Box::pin(self.begin(person, Some(mailbox)))
    }

    fn look_again(&self, person: Person) -> Boxed<'_, ()> {
        Box::pin(self.begin(person, None))
    }
}

impl Ring {
    async fn ring(&self, person: &Person, mailbox: Option<&str>, password: Option<Arc<str>>) {
        // Whoever has taken the lease gets the datagram, too, as mail servers send it to all nodes.
        if !self.sink.holds(person).await {
            tracing::debug!(%person, "a datagram rings nobody here: the lease is not this node's");
            return;
        }
        let is_looked_into = |mailbox: &str| mailbox.eq_ignore_ascii_case(LOOKED_INTO);
        if mailbox.is_none_or(is_looked_into) && self.look(person, password).await {
            return;
        }
        if let Some(mailbox) = mailbox
            && let Err(error) = self.tell(person, mailbox).await
            && LINES.take()
        {
            let error = dovecast_mail_push::causes(&error);
            tracing::warn!(%person, error, "a datagram has rung nobody: the store cannot be asked");
        }
    }

    /// Tells what is new in the mailbox; `false`: it cannot be looked into, or not much is known of
    /// it before now.
    async fn look(&self, person: &Person, password: Option<Arc<str>>) -> bool {
        let Some(idle) = &self.sources.idle else {
            return false;
        };
        let login = {
            let _turn = self.sink.turn().await;
            self.sources.login(&self.vault, person).await
        };
        let Ok(Some(login)) = login else {
            return false;
        };
        let known = self.sink.known(person).await;
        let is_known = known.is_some();
        match idle.look(person, &login, known).await {
            Ok(()) => is_known,
            Err(error) => {
                if error.is_refused_login() {
                    match password.filter(|_| self.sources.master.is_none()) {
                        // What cannot be stored is refused again with the next datagram.
                        Some(name) => {
                            self.sources.refused(&self.vault, person, &name).await;
                        }
                        None => note(
                            &self.counters,
                            person,
                            SourceKind::MailNotify,
                            Reason::Master,
                        ),
                    }
                } else {
                    let error = dovecast_mail_push::causes(&error);
                    tracing::debug!(%person, error, "a mailbox cannot be looked into: its devices are told the mailbox only");
                }
                false
            }
        }
    }

    /// Tells the person's devices that something has come, without saying what.
    async fn tell(&self, person: &Person, mailbox: &str) -> dovecast_store::Result<()> {
        let event = MailEvent::something_new(person.clone(), mailbox);
        let records = self
            .store
            .subscriptions_of(std::slice::from_ref(person))
            .await?;
        let subscriptions: Vec<_> = records.into_iter().map(|one| one.subscription).collect();
        let plan = plan(&event, &subscriptions, &mut NoMail, now_ms());
        self.store.write_pushes(&[(person.clone(), plan)]).await?;
        self.news.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! Datagrams of mail servers (`[mail_push.mailnotify]`): who is rung by one.
//!
//! A datagram says user and mailbox. Where mailboxes can be looked into, the mails that came are
//! told as any other source tells them; else the person's devices are told the mailbox, without
//! an event of the log, which has none without a mail. Whose name it says is decided among all
//! persons that the store knows, whichever node hears them.

mod ring;
mod waiting;

use std::collections::HashMap;
use std::net::UdpSocket as StdSocket;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_log::LineLimit;
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::sources::{
    Boxed, MailNotify, Names, NotifyOptions, NotifySink, NotifyStats,
};
use futures_util::FutureExt;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::config::mail_push::{MailNotify as Section, MailPushSection};
use crate::push::counters::Count;
pub(super) use ring::Ring;
use waiting::{Job, Waiting};

/// Mailboxes that are looked into at a time: as many as may hang before others have to wait.
const LOOKED_INTO_AT_ONCE: usize = 64;
/// Persons who are told of a mailbox at a time that nobody looks into: half of the connections to
/// the store.
const TOLD_AT_ONCE: usize = 4;
/// Most persons who wait to be looked at, and as many to be told, of 1 KB each: what a mail server
/// that hangs for a minute leaves waiting. Datagrams of others are dropped, and counted.
const MAX_WAITING: usize = 10_000;
/// How long names are used until all persons are asked for again: as long as it takes until
/// anything else that has changed is seen.
const REREAD_INTERVAL: Duration = Duration::from_secs(3);
/// How long names are used while the store cannot be asked.
const LONGEST_USE: Duration = Duration::from_mins(1);
/// How long datagrams wait for the store to say who all persons are. Sockets keep some hundred
/// datagrams meanwhile; a store that takes longer is waited for by nobody.
const NAMES_LIMIT: Duration = Duration::from_secs(2);

/// About a store that does not say whom datagrams name.
static LINES: LineLimit = LineLimit::a_minute(1);
/// About datagrams that are dropped.
static DROPPED_LINES: LineLimit = LineLimit::a_minute(1);
/// About datagrams that name several persons.
static AMBIGUOUS_LINES: LineLimit = LineLimit::a_minute(1);

/// Persons who are rung by datagrams, and what rings them.
pub(super) struct Ringing {
    ring: Arc<Ring>,
    use_full_email_address: bool,
    persons: Mutex<Persons>,
    /// Has the store asked for all persons.
    wanted: Notify,
    /// Tells that the store was asked.
    answered: Notify,
    /// Persons whose mailboxes are to be looked into.
    looks: Waiting,
    /// Persons who are to be told of mailboxes that cannot be looked into: they wait for no mail
    /// server.
    tells: Waiting,
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
    /// Whether the store is being asked and has not answered in time.
    is_late: bool,
}

impl Ringing {
    pub(super) fn new(ring: Ring, section: &Section) -> Self {
        Self {
            ring: Arc::new(ring),
            use_full_email_address: section.use_full_email_address,
            persons: Mutex::default(),
            wanted: Notify::new(),
            answered: Notify::new(),
            looks: Waiting::new(MAX_WAITING),
            tells: Waiting::new(MAX_WAITING),
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

    /// Asks the store for all persons whenever somebody wants their names, for ever.
    async fn read(&self) {
        loop {
            self.wanted.notified().await;
            if !self.has_asked() {
                self.ask().await;
            }
            self.answered.notify_waiters();
        }
    }

    async fn ask(&self) {
        // Nothing of it is used again but what is behind locks.
        match AssertUnwindSafe(self.ring.store.push_persons())
            .catch_unwind()
            .await
        {
            Ok(Ok(all)) => self.make(&all),
            Ok(Err(error)) => {
                if LINES.take() {
                    let error = dovecast_mail_push::causes(&error);
                    tracing::warn!(
                        error,
                        "the store cannot be asked whom datagrams name: those of a minute ago are used"
                    );
                }
            }
            Err(_) => {
                self.ring.counters.add(Count::Panicked, 1);
                tracing::error!("what reads whom datagrams name has panicked");
            }
        }
        let mut persons = self.persons();
        persons.asked = Some(Instant::now());
        persons.is_late = false;
    }

    /// Notes that the store has not answered in time; until it does nobody waits for it.
    fn note_late(&self) {
        if self.has_asked() {
            return;
        }
        self.persons().is_late = true;
        if LINES.take() {
            tracing::warn!(
                "the store does not say in time whom datagrams name: those of a minute ago are used"
            );
        }
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

    /// Has a mailbox of the person looked into as soon as there is a worker for it; where that
    /// cannot be done the person is told of the mailbox, or not.
    ///
    /// `false`: there is nothing that could be done.
    fn begin(&self, person: Person, mailbox: String, is_told: bool) -> bool {
        let waiting = if self.ring.can_look(self.password(&person).is_some()) {
            &self.looks
        } else if is_told {
            &self.tells
        } else {
            // Without looking there is nothing to tell.
            return false;
        };
        if waiting.add(person, mailbox, is_told) {
            return true;
        }
        self.ring.counters.add(Count::DatagramDropped, 1);
        if DROPPED_LINES.take() {
            tracing::warn!(
                most = MAX_WAITING,
                "a datagram is dropped: too many persons wait for the mail server or the store"
            );
        }
        true
    }

    /// Name of the password with which the person is heard here.
    fn password(&self, person: &Person) -> Option<Arc<str>> {
        self.persons().here.get(person).cloned().flatten()
    }

    /// Looks into the mailboxes of those who wait for it, for ever.
    async fn look(&self) {
        loop {
            let job = self.looks.next().await;
            let password = self.password(&job.person);
            self.done(&job, self.ring.look_into(&job, password)).await;
        }
    }

    /// Tells those who wait for it, for ever.
    async fn tell(&self) {
        loop {
            let job = self.tells.next().await;
            self.done(&job, self.ring.tell_where_heard(&job.person, &job.told()))
                .await;
        }
    }

    /// Waits until a person is rung. What panicked ends no worker.
    async fn done(&self, job: &Job<'_>, rings: impl Future<Output = ()>) {
        // Nothing of it is used again but what is behind locks.
        if AssertUnwindSafe(rings).catch_unwind().await.is_err() {
            self.ring.counters.add(Count::Panicked, 1);
            tracing::error!(person = %job.person, "what a datagram rings has panicked");
        }
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
    let reader = Arc::clone(ringing);
    tasks.spawn(async move { reader.read().await });
    for _ in 0..LOOKED_INTO_AT_ONCE {
        let ringing = Arc::clone(ringing);
        tasks.spawn(async move { ringing.look().await });
    }
    for _ in 0..TOLD_AT_ONCE {
        let ringing = Arc::clone(ringing);
        tasks.spawn(async move { ringing.tell().await });
    }
    Ok((tasks, Some(stats)))
}

impl NotifySink for Ringing {
    fn names(&self) -> Boxed<'_, Arc<Names>> {
        Box::pin(async move {
            // It hears of an answer that comes from here on.
            let answered = self.answered.notified();
            if self.has_asked() {
                return self.made();
            }
            self.wanted.notify_one();
            let is_late = self.persons().is_late;
            if !is_late && tokio::time::timeout(NAMES_LIMIT, answered).await.is_err() {
                self.note_late();
            }
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

    fn ring(&self, person: Person, mailbox: String) {
        self.begin(person, mailbox, true);
    }

    fn look_again(&self, person: Person, mailbox: String) -> bool {
        self.begin(person, mailbox, false)
    }
}

#[cfg(test)]
mod tests;

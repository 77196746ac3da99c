//! The source `imapidle`: one connection in IDLE for each person, on any IMAP server (RFC 2177).
//!
//! A task waits with next to no memory. What came, went and changed while it was away it finds by
//! QRESYNC (RFC 7162), or by comparing the mailbox with its [`Snapshot`]. A server that is away is
//! tried again with growing delays that differ from person to person; a login that is refused ends
//! the listening. Of other mailboxes mails that come are told of, if the server tells of them by
//! NOTIFY (RFC 5465), or when somebody else does ([`ImapIdle::look`]). Keywords are left out.

mod look;
mod others;
mod round;
mod snapshot;
mod sync;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::back_off::delay;
use super::{HeardSink, read};
use crate::Person;
use crate::imap::{Client, ImapError, ImapServer, Login, in_time};
use others::AllTold;
use round::Round;

pub use others::Other;
pub use snapshot::{MAX_RUNS, Snapshot};

/// Longest time until a mailbox is selected and compared, unless it was not long enough just now.
const OPENED_WITHIN: Duration = Duration::from_mins(1);
/// Longest time where it was not: a very large mailbox takes long, as one does whose server hangs.
const OPENED_AGAIN_WITHIN: Duration = Duration::from_mins(6);

/// How mailboxes are heard over IDLE.
#[derive(Clone, Debug)]
pub struct IdleOptions {
    /// Name of the mailbox that is selected, in UTF-8.
    pub mailbox: Arc<str>,
    /// How long one IDLE lasts at most. Servers end it after 30 minutes, routers sooner.
    pub renew_after: Duration,
    /// Shortest delay before a server is tried again.
    pub shortest_delay: Duration,
    /// Longest delay before a server is tried again.
    pub longest_delay: Duration,
    /// Connections that are opened at the same time, logins and first looks included.
    pub opened_at_once: usize,
    /// Connections that there are at a time; who would be one more waits.
    pub most_open: usize,
}

impl Default for IdleOptions {
    fn default() -> Self {
        Self {
            mailbox: "INBOX".into(),
            renew_after: Duration::from_mins(5),
            shortest_delay: Duration::from_secs(1),
            longest_delay: Duration::from_mins(5),
            opened_at_once: 50,
            most_open: Semaphore::MAX_PERMITS,
        }
    }
}

/// Counters of all listeners since the start.
#[derive(Debug, Default)]
pub struct IdleStats {
    /// Listeners that are in a mailbox now.
    pub listening: AtomicU64,
    /// Connections that were opened up to the mailbox.
    pub opened: AtomicU64,
    /// Connections that were opened and have ended: servers end them when they are restarted or
    /// have heard nothing for long, and what cannot be stored is heard anew.
    pub ended: AtomicU64,
    /// Connections that could not be opened up to the mailbox, or on which a server said what it
    /// may not.
    pub failed: AtomicU64,
    /// Connections that had to wait until another one ended.
    pub crowded: AtomicU64,
    /// Logins that were refused.
    pub refused: AtomicU64,
    /// Events that were heard.
    pub heard: AtomicU64,
    /// Events that were more than is told at once, and were dropped.
    pub dropped: AtomicU64,
    /// Mailboxes whose UIDVALIDITY had changed: what happened to their mails is not known.
    pub renumbered: AtomicU64,
    /// Rounds that the sink did not store, and that are heard again.
    pub not_stored: AtomicU64,
}

impl IdleStats {
    /// What grows, by name.
    pub fn counts(&self) -> [(&'static str, u64); 9] {
        read([
            ("opened", &self.opened),
            ("ended", &self.ended),
            ("failed", &self.failed),
            ("crowded", &self.crowded),
            ("refused", &self.refused),
            ("heard", &self.heard),
            ("dropped", &self.dropped),
            ("renumbered", &self.renumbered),
            ("not_stored", &self.not_stored),
        ])
    }

    /// What counts the end of a connection that was opened.
    const fn of_end(&self, error: &ImapError) -> &AtomicU64 {
        match error {
            ImapError::Away(_) | ImapError::Late(_) | ImapError::Unavailable(_) => &self.ended,
            _ => &self.failed,
        }
    }
}

/// Why a listener has ended: trying again soon changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server refuses the login, in its words.
    Refused(String),
    /// The server lacks something that listening needs.
    Lacks(&'static str),
}

/// Listens to mailboxes.
pub struct ImapIdle {
    server: ImapServer,
    options: IdleOptions,
    sink: Arc<dyn HeardSink>,
    open: Semaphore,
    opening: Semaphore,
    /// Places for those whose server has just hung.
    opening_again: Semaphore,
    /// Places for those who look once.
    looking: Semaphore,
    stats: IdleStats,
}

fn places(count: usize) -> Semaphore {
    Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS))
}

/// A place in the count of listeners.
struct Listening<'a>(&'a IdleStats);

impl<'a> Listening<'a> {
    fn new(stats: &'a IdleStats) -> Self {
        stats.listening.fetch_add(1, Ordering::Relaxed);
        Self(stats)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listening.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ImapIdle {
    /// Listens on this server.
    pub fn new(server: ImapServer, options: IdleOptions, sink: Arc<dyn HeardSink>) -> Arc<Self> {
        Arc::new(Self {
            open: places(options.most_open),
            opening: places(options.opened_at_once),
            opening_again: places(options.opened_at_once.div_ceil(2)),
            looking: places(options.opened_at_once),
            server,
            options,
            sink,
            stats: IdleStats::default(),
        })
    }

    /// Counters since the start.
    pub const fn stats(&self) -> &IdleStats {
        &self.stats
    }

    /// Listens to a person's mailbox until the login is refused; dropping the future ends it. With
    /// what was known of the mailbox everything is told that has happened since; without it, what
    /// happens from now on.
    pub async fn listen(
        self: Arc<Self>,
        person: Person,
        login: Login,
        mut known: Option<Snapshot>,
    ) -> Ended {
        let (mut failures, mut has_hung) = (0, false);
        loop {
            // Given back while nothing is open: others have it in turn.
            let open = self.place(&person).await;
            // A server that has just hung takes no place of those that have not.
            let way = if has_hung {
                (&self.opening_again, OPENED_AGAIN_WITHIN)
            } else {
                (&self.opening, OPENED_WITHIN)
            };
            // Opening needs far more memory than waiting: its future lives on the heap meanwhile.
            let opened = Box::pin(self.open(&person, &login, &mut known, way)).await;
            has_hung = matches!(opened, Err(ImapError::Late(_)));
            let (error, count) = match opened {
                Ok(opened) => {
                    self.stats.opened.fetch_add(1, Ordering::Relaxed);
                    self.sink.fares(&person, None);
                    let _listening = Listening::new(&self.stats);
                    let error = self.stay(opened, &person, &mut known, &mut failures).await;
                    let count = self.stats.of_end(&error);
                    (error, count)
                }
                Err(error) => (error, &self.stats.failed),
            };
            match error {
                ImapError::Refused(words) => {
                    self.stats.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%person, answer = words, "the IMAP server refuses the login of a listener");
                    return Ended::Refused(words);
                }
                ImapError::Lacks(what) => {
                    tracing::debug!(%person, what, "the IMAP server lacks what a listener needs");
                    return Ended::Lacks(what);
                }
                error => {
                    count.fetch_add(1, Ordering::Relaxed);
                    let error = crate::causes(&error);
                    self.sink.fares(&person, Some(&error));
                    tracing::debug!(%person, error, "a listener has lost its IMAP server, and tries again");
                }
            }
            drop(open);
            let range = self.options.shortest_delay..self.options.longest_delay;
            tokio::time::sleep(delay(failures, &range)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// A place for a connection.
    async fn place(&self, person: &Person) -> Option<SemaphorePermit<'_>> {
        if let Ok(place) = self.open.try_acquire() {
            return Some(place);
        }
        self.stats.crowded.fetch_add(1, Ordering::Relaxed);
        let words = "this process may open no more files: it waits until another mailbox is left";
        self.sink.fares(person, Some(words));
        // It is never closed.
        self.open.acquire().await.ok()
    }

    /// Connects, logs in, selects, and tells what has happened meanwhile; gives what was said of
    /// other mailboxes and not looked at, too.
    async fn open(
        &self,
        person: &Person,
        login: &Login,
        known: &mut Option<Snapshot>,
        (places, longest): (&Semaphore, Duration),
    ) -> Result<(Client, AllTold), ImapError> {
        let _place = places.acquire().await;
        let mut client = Client::connect(&self.server).await?;
        client.login(login).await?;
        if !client.has_idle() {
            return Err(ImapError::Lacks("IDLE"));
        }
        client.tell_name().await?;
        let mut round = Round::new(known.take().unwrap_or_default());
        let mailbox = &self.options.mailbox;
        let opened = sync::open(&mut client, mailbox, &mut round);
        let opened = match in_time(longest, opened).await {
            Ok(()) => {
                let opened = others::open(&mut client, mailbox, &mut round);
                in_time(longest, opened).await
            }
            Err(error) => Err(error),
        };
        let told = self.finish(round, person, known, opened).await?;
        Ok((client, told))
    }

    /// Waits in IDLE and tells what happens, until the connection ends.
    async fn stay(
        &self,
        (mut client, mut told): (Client, AllTold),
        person: &Person,
        known: &mut Option<Snapshot>,
        failures: &mut u32,
    ) -> ImapError {
        loop {
            let longest = if told.is_empty() {
                self.options.renew_after
            } else {
                Duration::ZERO
            };
            let mut round = Round::new(known.take().unwrap_or_default());
            round.told = std::mem::take(&mut told);
            let waited = client.idle(longest, |data| round.hear(&data)).await;
            let done = Box::pin(async {
                let done = match waited {
                    Ok(_) => self.complete(&mut client, &mut round).await,
                    Err(error) => Err(error),
                };
                self.finish(round, person, known, done).await
            });
            match done.await {
                Ok(left) => told = left,
                Err(error) => return error,
            }
            *failures = 0;
        }
    }

    /// Asks for what the server has only hinted at.
    async fn complete(&self, client: &mut Client, round: &mut Round) -> Result<(), ImapError> {
        if !round.snapshot.is_complete() {
            sync::catch_up(client, round).await?;
        }
        others::visit(client, &self.options.mailbox, round).await
    }

    /// Ends a round: what was heard is stored, and the mailbox is known as it is now; or nothing of
    /// it counts, and the next round finds the same again. Gives what was said of other mailboxes
    /// and not looked at.
    async fn finish(
        &self,
        mut round: Round,
        person: &Person,
        known: &mut Option<Snapshot>,
        done: Result<(), ImapError>,
    ) -> Result<AllTold, ImapError> {
        let told = std::mem::take(&mut round.told);
        if let Err(error) = done {
            *known = round.before();
            if let (ImapError::Protocol(_), Some(known)) = (&error, known) {
                // What cannot be read may be what has changed since: all is listed instead.
                known.modseq = 0;
            }
            return Err(error);
        }
        if !round.has_changed() {
            *known = Some(round.snapshot);
            return Ok(told);
        }
        let heard = round.heard(&self.options.mailbox);
        if !self.sink.take(person, &heard, &round.snapshot).await {
            self.stats.not_stored.fetch_add(1, Ordering::Relaxed);
            *known = round.before();
            let text = "what was heard cannot be stored now".to_owned();
            return Err(ImapError::Unavailable(text));
        }
        let count = u64::try_from(heard.len()).unwrap_or(u64::MAX);
        self.stats.heard.fetch_add(count, Ordering::Relaxed);
        self.stats
            .dropped
            .fetch_add(round.dropped, Ordering::Relaxed);
        let renumbered = u64::from(round.is_renumbered);
        self.stats
            .renumbered
            .fetch_add(renumbered, Ordering::Relaxed);
        *known = Some(round.snapshot);
        Ok(told)
    }
}

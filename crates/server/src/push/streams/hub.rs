//! All streams of this node, by the person whose mail they tell of, and how far the feed is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dovecast_mail_push::{MailEvent, Person};
use tokio::sync::watch;

use super::StreamLimits;
use super::cursor::{Cursor, RecordAt};
use super::outlet::{End, Outlet};
use super::told::Forms;
use super::turns::TurnsOfPerson;
use crate::push::counters::{Count, Counters};

/// Offset of the next record by topic and partition.
pub(super) type Seen = BTreeMap<(Arc<str>, u32), u64>;

/// How far the time of a new cursor goes back at most, in milliseconds: a feed that reads nothing
/// for so long cannot be told from a log into which nothing was written.
const MAX_BACK_MS: i64 = 3_600_000;

/// The streams.
pub(super) struct Hub {
    limits: StreamLimits,
    counters: Arc<Counters>,
    inner: Mutex<Inner>,
    is_followed: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    by_person: HashMap<Person, Theirs>,
    total: usize,
    seen: Seen,
    /// Time of the newest record that the feed has read, or when it began.
    seen_ms: i64,
    is_stopping: bool,
}

/// Streams of one person; gone with the last of them.
#[derive(Default)]
struct Theirs {
    outlets: Vec<Arc<Outlet>>,
    turns: TurnsOfPerson,
}

/// Why a stream has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The person has as many as one may have.
    Person,
    /// The node has.
    Node,
    /// The server is being stopped.
    Stopping,
}

/// Place of a stream; free again when it is dropped.
pub(super) struct Slot {
    hub: Arc<Hub>,
    pub(super) outlet: Arc<Outlet>,
    /// Turns to catch up of its person.
    pub(super) turns: TurnsOfPerson,
}

impl Hub {
    pub(super) fn new(limits: StreamLimits, counters: Arc<Counters>) -> Self {
        Self {
            limits,
            counters,
            inner: Mutex::default(),
            is_followed: watch::Sender::new(false),
        }
    }

    /// Waits until the log is followed.
    pub(super) async fn followed(&self) {
        // The sender lives as long as this.
        let _ = self.is_followed.subscribe().wait_for(|is| *is).await;
    }

    /// From now on the log is followed from where it ended at that time or later. Streams of before
    /// are cut: they may have missed something, and go on from the log.
    pub(super) fn begin(&self, seen: Seen, time_ms: i64) {
        let mut inner = self.inner();
        inner.seen = seen;
        inner.seen_ms = time_ms;
        end_all(&inner, End::Cut);
        drop(inner);
        self.is_followed.send_replace(true);
    }

    /// Gives a stream its place.
    pub(super) fn attach(self: &Arc<Self>, outlet: &Arc<Outlet>) -> Result<Slot, NoPlace> {
        let mut inner = self.inner();
        if inner.is_stopping {
            return Err(NoPlace::Stopping);
        }
        if inner.total >= self.limits.total {
            return Err(NoPlace::Node);
        }
        let theirs = inner.by_person.entry(outlet.person.clone()).or_default();
        if theirs.outlets.len() >= self.limits.per_person {
            return Err(NoPlace::Person);
        }
        theirs.outlets.push(Arc::clone(outlet));
        let turns = theirs.turns.clone();
        inner.total += 1;
        self.counters.streams(inner.total);
        drop(inner);
        Ok(Slot {
            hub: Arc::clone(self),
            outlet: Arc::clone(outlet),
            turns,
        })
    }

    /// Tells the streams of its person of an event; what is no event only moves the feed on.
    pub(super) fn deliver(&self, place: RecordAt, time_ms: i64, event: Option<&MailEvent>) {
        let mut inner = self.inner();
        let behind = place.offset + 1;
        let partition = (Arc::clone(&place.topic), place.partition);
        inner.seen.insert(partition, behind);
        inner.seen_ms = inner.seen_ms.max(time_ms);
        let Some(event) = event else {
            return;
        };
        let Some(theirs) = inner.by_person.get(&event.person) else {
            return;
        };
        let mut forms = Forms::new(event, place, time_ms);
        for outlet in &theirs.outlets {
            // The guard: nobody is told of another's mail, whatever was found.
            if outlet.person != event.person {
                self.counters.add(Count::WrongPerson, 1);
                continue;
            }
            let Some(topic) = outlet.topics.form_of(event.kind) else {
                continue;
            };
            if !outlet.offer(forms.told(topic, outlet.content)) {
                self.counters.add(Count::StreamCut, 1);
            }
        }
    }

    /// The log has lost something that the feed has not read: whose it was nobody knows.
    pub(super) fn lost(&self) {
        for outlet in self.inner().outlets() {
            outlet.tell_gap();
        }
    }

    /// How far the feed is.
    pub(super) fn seen(&self) -> Seen {
        self.inner().seen.clone()
    }

    /// The cursor of a stream that begins now, and has been told nothing yet: where the feed is, as
    /// what it has not read yet is lost otherwise to who is cut before that is told.
    pub(super) fn now(&self, now_ms: i64) -> Cursor {
        let inner = self.inner();
        let mut partitions = inner.seen.iter();
        match (partitions.next(), partitions.next()) {
            (Some(((topic, partition), behind)), None) if *behind > 0 => {
                let place = RecordAt {
                    topic: Arc::clone(topic),
                    partition: *partition,
                    offset: behind - 1,
                };
                Cursor::at(now_ms, place)
            }
            _ => Cursor::of_time(inner.seen_ms.max(now_ms - MAX_BACK_MS).min(now_ms)),
        }
    }

    /// The cursor of a stream that was told all that the feed has read, and last the record at that
    /// place; `None` where no cursor says that exactly, as what comes late in another partition or
    /// another topic may be of an earlier time.
    pub(super) fn all_told(&self, last: Option<&RecordAt>, now_ms: i64) -> Option<Cursor> {
        let mut cursor = self.now(now_ms);
        if cursor.place.is_some() {
            return Some(cursor);
        }
        let mut place = last?.clone();
        let inner = self.inner();
        if inner.seen.keys().any(|(topic, _)| *topic != place.topic) {
            return None;
        }
        let partition = (Arc::clone(&place.topic), place.partition);
        let behind = *inner.seen.get(&partition)?;
        drop(inner);
        place.offset = behind.checked_sub(1)?;
        cursor.place = Some(place);
        Some(cursor)
    }

    /// Tokens of streams, each once.
    pub(super) fn tokens(&self) -> Vec<Arc<str>> {
        let inner = self.inner();
        let tokens = inner.outlets().filter_map(|one| one.token.clone());
        let mut tokens: Vec<Arc<str>> = tokens.collect();
        drop(inner);
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// Persons of streams that were opened without a token, each once.
    pub(super) fn persons_without_token(&self) -> HashSet<Person> {
        let inner = self.inner();
        let outlets = inner.outlets().filter(|one| one.token.is_none());
        outlets.map(|one| one.person.clone()).collect()
    }

    /// Ends the streams of a person.
    pub(super) fn end_person(&self, person: &Person) {
        let inner = self.inner();
        for outlet in inner.outlets() {
            if outlet.person == *person {
                outlet.end(End::TokenOver);
            }
        }
    }

    /// Ends the streams of a token.
    pub(super) fn end_token(&self, token: &str) {
        let inner = self.inner();
        for outlet in inner.outlets() {
            if outlet.token.as_deref() == Some(token) {
                outlet.end(End::TokenOver);
            }
        }
    }

    /// Ends all streams, and begins no more.
    pub(super) fn stop(&self) {
        let mut inner = self.inner();
        inner.is_stopping = true;
        end_all(&inner, End::Stopping);
    }

    /// Puts a stream among those of another person, as a mistake would.
    #[cfg(test)]
    pub(super) fn misplace(&self, whose: &Person, outlet: &Arc<Outlet>) {
        let mut inner = self.inner();
        let theirs = inner.by_person.entry(whose.clone()).or_default();
        theirs.outlets.push(Arc::clone(outlet));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn outlets(&self) -> impl Iterator<Item = &Arc<Outlet>> {
        self.by_person.values().flat_map(|theirs| &theirs.outlets)
    }
}

fn end_all(inner: &Inner, why: End) {
    for outlet in inner.outlets() {
        outlet.end(why);
    }
}

impl Slot {
    /// The cursor of this stream if it was told all that the feed has read.
    pub(super) fn all_told(&self, last: Option<&RecordAt>, now_ms: i64) -> Option<Cursor> {
        self.hub.all_told(last, now_ms)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut inner = self.hub.inner();
        let Some(theirs) = inner.by_person.get_mut(&self.outlet.person) else {
            return;
        };
        let outlets = &mut theirs.outlets;
        outlets.retain(|outlet| !Arc::ptr_eq(outlet, &self.outlet));
        if outlets.is_empty() {
            inner.by_person.remove(&self.outlet.person);
        }
        inner.total = inner.total.saturating_sub(1);
        self.hub.counters.streams(inner.total);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::push::streams::Patience;

    #[test]
    fn a_cursor_is_no_later_than_what_the_feed_has_read() {
        let limits = StreamLimits {
            per_person: 1,
            total: 1,
            ping: Duration::from_secs(1),
            patience: Patience::default(),
        };
        let hub = Hub::new(limits, Arc::default());
        let place = |partition, offset| RecordAt {
            topic: "dovecot".into(),
            partition,
            offset,
        };
        let seen: [((Arc<str>, u32), u64); 2] =
            [0, 1].map(|partition| (("dovecot".into(), partition), 7));
        hub.begin(Seen::from(seen), 10_000_000);
        assert_eq!(hub.now(10_005_000), Cursor::of_time(10_000_000));
        hub.deliver(place(0, 7), 10_006_000, None);
        hub.deliver(place(1, 7), 10_004_000, None);
        assert_eq!(hub.now(10_009_000), Cursor::of_time(10_006_000));
        // A clock of another host goes ahead.
        assert_eq!(hub.now(10_005_500), Cursor::of_time(10_005_500));
        let later = 90_000_000;
        assert_eq!(hub.now(later), Cursor::of_time(later - MAX_BACK_MS));
        // The place in the only partition is where the feed is.
        hub.begin(Seen::from([(("dovecot".into(), 0), 7)]), 10_000_000);
        assert_eq!(hub.now(later), Cursor::at(later, place(0, 6)));
    }
}

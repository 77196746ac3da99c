//! Persons who wait for a worker: each once, however often datagrams name them, and only so many.
//!
//! A person is with one worker at a time: a mailbox that hangs takes one of them, and what comes
//! for its person meanwhile waits until that is over.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dovecast_mail_push::Person;
use tokio::sync::Semaphore;

/// Most mailboxes that one person is told of at a time, of 1 KB each at most.
const MAX_MAILBOXES: usize = 16;

/// Mailboxes by name, and whether the person is told of one that cannot be looked into.
type Mailboxes = BTreeMap<String, bool>;

/// Persons with the mailboxes in which something has happened.
pub(super) struct Waiting {
    state: Mutex<State>,
    /// One permit for each person in the order.
    ready: Semaphore,
    most: usize,
}

#[derive(Default)]
struct State {
    /// Who is next: persons who are with no worker.
    order: VecDeque<Person>,
    /// All who wait.
    mailboxes: HashMap<Person, Mailboxes>,
    /// Persons who are with a worker.
    busy: HashSet<Person>,
}

/// A person for one worker, until this is dropped.
pub(super) struct Job<'a> {
    waiting: &'a Waiting,
    pub(super) person: Person,
    pub(super) mailboxes: Mailboxes,
}

impl Job<'_> {
    /// Whether the person is told of a mailbox that cannot be looked into.
    pub(super) fn is_told(&self, mailbox: &str) -> bool {
        self.mailboxes.get(mailbox).is_some_and(|is_told| *is_told)
    }

    /// Mailboxes that the person is told of where they cannot be looked into.
    pub(super) fn told(&self) -> BTreeSet<String> {
        let told = self.mailboxes.iter().filter(|(_, is_told)| **is_told);
        told.map(|(name, _)| name.clone()).collect()
    }
}

impl Waiting {
    /// Nobody waits yet; so many may.
    pub(super) fn new(most: usize) -> Self {
        Self {
            state: Mutex::default(),
            ready: Semaphore::new(0),
            most,
        }
    }

    /// Has a person wait with a mailbox, of which the person is told or not if it cannot be looked
    /// into; `false`: there is no room.
    pub(super) fn add(&self, person: Person, mailbox: String, is_told: bool) -> bool {
        let mut state = self.state();
        if let Some(mailboxes) = state.mailboxes.get_mut(&person) {
            if mailboxes.len() >= MAX_MAILBOXES && !mailboxes.contains_key(&mailbox) {
                return false;
            }
            *mailboxes.entry(mailbox).or_default() |= is_told;
            return true;
        }
        if state.mailboxes.len() >= self.most {
            return false;
        }
        let mailboxes = Mailboxes::from([(mailbox, is_told)]);
        state.mailboxes.insert(person.clone(), mailboxes);
        if !state.busy.contains(&person) {
            state.order.push_back(person);
            self.ready.add_permits(1);
        }
        true
    }

    /// Waits for the next person.
    pub(super) async fn next(&self) -> Job<'_> {
        loop {
            match self.ready.acquire().await {
                Ok(ready) => ready.forget(),
                // It is closed by nobody.
                Err(_) => std::future::pending().await,
            }
            if let Some(job) = self.take() {
                return job;
            }
        }
    }

    fn take(&self) -> Option<Job<'_>> {
        let mut state = self.state();
        let person = state.order.pop_front()?;
        let mailboxes = state.mailboxes.remove(&person)?;
        state.busy.insert(person.clone());
        Some(Job {
            waiting: self,
            person,
            mailboxes,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        let mut state = self.waiting.state();
        state.busy.remove(&self.person);
        if state.mailboxes.contains_key(&self.person) {
            state.order.push_back(self.person.clone());
            self.waiting.ready.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn person(user: &str) -> Person {
        Person::new("3", user, user).expect("a person")
    }

    fn add(waiting: &Waiting, user: &str, mailbox: &str) -> bool {
        waiting.add(person(user), mailbox.to_owned(), true)
    }

    /// Who is next, with the mailboxes.
    fn next(waiting: &Waiting) -> Option<Job<'_>> {
        waiting.next().now_or_never()
    }

    fn is(job: Option<&Job<'_>>, user: &str, mailboxes: &[&str]) {
        let job = job.expect("somebody waits");
        assert_eq!(job.person, person(user));
        assert!(job.mailboxes.keys().eq(mailboxes), "{:?}", job.mailboxes);
    }

    #[test]
    fn a_person_waits_once_and_is_with_one_worker() {
        let waiting = Waiting::new(10);
        for (user, mailbox) in [
            ("joe", "INBOX"),
            ("ann", "Work"),
            ("joe", "INBOX"),
            ("ann", "INBOX"),
        ] {
            assert!(add(&waiting, user, mailbox));
        }
        let joe = next(&waiting);
        is(joe.as_ref(), "joe", &["INBOX"]);
        // What comes while a worker has the person is for the time after.
        assert!(add(&waiting, "joe", "Work"));
        let ann = next(&waiting);
        is(ann.as_ref(), "ann", &["INBOX", "Work"]);
        assert!(next(&waiting).is_none());
        drop(joe);
        let joe = next(&waiting);
        is(joe.as_ref(), "joe", &["Work"]);
        drop((joe, ann));
        assert!(next(&waiting).is_none());
    }

    #[test]
    fn who_finds_no_room_does_not_wait() {
        let waiting = Waiting::new(2);
        assert!(add(&waiting, "joe", "INBOX") && add(&waiting, "ann", "INBOX"));
        assert!(!add(&waiting, "bob", "INBOX"));
        assert!(add(&waiting, "joe", "Work"));
        let joe = next(&waiting);
        assert!(add(&waiting, "bob", "0"));
        drop(joe);
        for number in 0..MAX_MAILBOXES {
            assert!(add(&waiting, "bob", &number.to_string()));
        }
        assert!(!add(&waiting, "bob", "one more"));
        assert!(add(&waiting, "bob", "0"));
    }

    #[test]
    fn who_is_told_of_a_mailbox_once_is_told_of_it() {
        let waiting = Waiting::new(2);
        for (mailbox, is_told) in [("a", false), ("b", false), ("b", true), ("b", false)] {
            assert!(waiting.add(person("joe"), mailbox.to_owned(), is_told));
        }
        let job = next(&waiting).expect("joe waits");
        assert_eq!(job.told(), BTreeSet::from(["b".to_owned()]));
        assert!(job.is_told("b") && !job.is_told("a"));
    }
}

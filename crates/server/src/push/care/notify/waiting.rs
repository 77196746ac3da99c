//! Persons who wait for a worker: each once, however often datagrams name them, and only so many.
//!
//! A person is with one worker at a time: a mailbox that hangs takes one of them, and what comes
//! for its person meanwhile waits until that is over.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dovecast_mail_push::Person;
use tokio::sync::Semaphore;

/// Most mailboxes that one person is told of at a time, of 1 KB each at most.
const MAX_MAILBOXES: usize = 16;

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
    mailboxes: HashMap<Person, BTreeSet<String>>,
    /// Persons who are with a worker.
    busy: HashSet<Person>,
}

/// A person for one worker, until this is dropped.
pub(super) struct Job<'a> {
    waiting: &'a Waiting,
    pub(super) person: Person,
    pub(super) mailboxes: BTreeSet<String>,
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

    /// Has a person wait, with a mailbox or without; `false`: there is no room.
    pub(super) fn add(&self, person: Person, mailbox: Option<String>) -> bool {
        let mut state = self.state();
        if let Some(mailboxes) = state.mailboxes.get_mut(&person) {
            if mailboxes.len() >= MAX_MAILBOXES {
                return mailbox.is_none_or(|mailbox| mailboxes.contains(&mailbox));
            }
            mailboxes.extend(mailbox);
            return true;
        }
        if state.mailboxes.len() >= self.most {
            return false;
        }
        let mailboxes = mailbox.into_iter().collect();
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

    fn add(waiting: &Waiting, user: &str, mailbox: Option<&str>) -> bool {
        waiting.add(person(user), mailbox.map(ToOwned::to_owned))
    }

    /// Who is next, with the mailboxes.
    fn next(waiting: &Waiting) -> Option<Job<'_>> {
        waiting.next().now_or_never()
    }

    fn is(job: Option<&Job<'_>>, user: &str, mailboxes: &[&str]) {
        let job = job.expect("somebody waits");
        assert_eq!(job.person, person(user));
        assert!(job.mailboxes.iter().eq(mailboxes), "{:?}", job.mailboxes);
    }

    #[test]
    fn a_person_waits_once_and_is_with_one_worker() {
        let waiting = Waiting::new(10);
        for (user, mailbox) in [
            ("joe", None),
            ("joe", Some("INBOX")),
            ("ann", Some("Work")),
            ("joe", Some("INBOX")),
            ("ann", Some("INBOX")),
        ] {
            assert!(add(&waiting, user, mailbox));
        }
        let joe = next(&waiting);
        is(joe.as_ref(), "joe", &["INBOX"]);
        // What comes while a worker has the person is for the time after.
        assert!(add(&waiting, "joe", Some("Work")));
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
        assert!(add(&waiting, "joe", None) && add(&waiting, "ann", None));
        assert!(!add(&waiting, "bob", None));
        assert!(add(&waiting, "joe", Some("INBOX")));
        let joe = next(&waiting);
        assert!(add(&waiting, "bob", None));
        drop(joe);
        for number in 0..MAX_MAILBOXES {
            assert!(add(&waiting, "bob", Some(&number.to_string())));
        }
        assert!(!add(&waiting, "bob", Some("one more")));
        assert!(add(&waiting, "bob", Some("0")) && add(&waiting, "bob", None));
    }
}

//! How the listeners of this node fare: what keeps a mailbox from being heard, and since when. The
//! store has it for all nodes, some seconds later.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dovecast_log::now_ms;
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::placement::{Fares, Lease};

/// Listeners of this node.
#[derive(Default)]
pub(super) struct States(Mutex<HashMap<Person, State>>);

struct State {
    lease: Lease,
    fares: Fares,
    /// Whether the store has it.
    is_noted: bool,
}

impl States {
    /// A listener begins.
    pub(super) fn begins(&self, lease: &Lease, source: SourceKind) {
        let state = State {
            lease: lease.clone(),
            fares: Fares {
                source,
                trouble: None,
            },
            is_noted: false,
        };
        self.lock().insert(lease.person.clone(), state);
    }

    /// A listener has ended.
    pub(super) fn ends(&self, person: &Person) {
        self.lock().remove(person);
    }

    /// What keeps a mailbox from being heard now. Other words for it do not begin it anew.
    pub(super) fn fares(&self, person: &Person, trouble: Option<&str>) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(person) else {
            return;
        };
        let before = state.fares.trouble.as_ref();
        if before.map(|(words, _)| words.as_str()) == trouble {
            return;
        }
        let since_ms = before.map_or_else(now_ms, |(_, since_ms)| *since_ms);
        state.fares.trouble = trouble.map(|words| (words.to_owned(), since_ms));
        state.is_noted = false;
    }

    /// Listeners of which the store has something else, at most so many.
    pub(super) fn unnoted(&self, most: usize) -> Vec<(Lease, Fares)> {
        let states = self.lock();
        let unnoted = states.values().filter(|state| !state.is_noted);
        let unnoted = unnoted.map(|state| (state.lease.clone(), state.fares.clone()));
        unnoted.take(most).collect()
    }

    /// The store has these.
    pub(super) fn noted(&self, noted: &[(Lease, Fares)]) {
        let mut states = self.lock();
        for (lease, fares) in noted {
            if let Some(state) = states.get_mut(&lease.person) {
                state.is_noted = state.lease == *lease && state.fares == *fares;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Person, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_changed_is_told_until_it_is_noted() {
        let states = States::default();
        let joe = Person::new("3", "11", "11@3").expect("a person");
        let lease = Lease {
            person: joe.clone(),
            fence: 7,
        };
        states.fares(&joe, Some("nobody is there"));
        assert_eq!(states.unnoted(9), [], "it has not begun");
        states.begins(&lease, SourceKind::ImapIdle);
        let first = states.unnoted(9);
        assert_eq!(first.len(), 1);
        assert_eq!(states.unnoted(0), []);
        states.noted(&first);
        assert_eq!(states.unnoted(9), []);
        states.fares(&joe, Some("away"));
        let away = states.unnoted(9);
        let since = |of: &[(Lease, Fares)]| {
            let trouble = of[0].1.trouble.clone();
            trouble.map(|(words, since_ms)| (words, since_ms > 0))
        };
        assert_eq!(since(&away), Some(("away".to_owned(), true)));
        // What was told before is no more.
        states.fares(&joe, None);
        states.noted(&away);
        let again = states.unnoted(9);
        assert_eq!(since(&again), None);
        states.noted(&again);
        states.fares(&joe, None);
        assert_eq!(states.unnoted(9), []);
        states.ends(&joe);
        states.fares(&joe, Some("away"));
        assert_eq!(states.unnoted(9), []);
    }
}

//! Which recipients of a delivery have their mail already, while others of it do not.
//!
//! In memory alone, and bounded: after a restart, or with very many deliveries that fail for one of
//! several recipients, the others get a mail again, with the same Message-ID.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Most deliveries of an endpoint that are remembered.
const MAX_DELIVERIES: usize = 1_000;

#[derive(Default)]
pub(super) struct Done(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    /// A bit for each recipient, by the ids of deliveries.
    by_id: HashMap<String, u16>,
    /// Ids, the oldest first; of some nothing is remembered any more.
    ids: VecDeque<String>,
}

impl Done {
    pub(super) fn has(&self, id: &str, number: usize) -> bool {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bits = remembered.by_id.get(id).copied().unwrap_or_default();
        bits & (1 << number) != 0
    }

    pub(super) fn note(&self, id: &str, number: usize) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bits) = remembered.by_id.get_mut(id) {
            *bits |= 1 << number;
            return;
        }
        if remembered.ids.len() >= MAX_DELIVERIES
            && let Some(oldest) = remembered.ids.pop_front()
        {
            remembered.by_id.remove(&oldest);
        }
        remembered.ids.push_back(id.to_owned());
        remembered.by_id.insert(id.to_owned(), 1 << number);
    }

    pub(super) fn forget(&self, id: &str) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.by_id.remove(id).is_some() {
            remembered.ids.retain(|other| other != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_remembered_for_a_while() {
        let done = Done::default();
        done.note("a", 0);
        done.note("a", 9);
        assert_eq!(
            [0, 1, 9].map(|number| done.has("a", number)),
            [true, false, true]
        );
        for number in 0..MAX_DELIVERIES {
            done.note(&number.to_string(), 1);
        }
        assert!(!done.has("a", 0) && done.has("0", 1));
        done.forget("0");
        assert!(!done.has("0", 1));
        let remembered = done.0.lock().expect("not poisoned");
        assert_eq!(remembered.by_id.len(), remembered.ids.len());
    }
}

//! What has become of the recipients of a delivery for good, while others of it are retried.
//!
//! In memory, and bounded: of an attempt that is cut off, too. Who has taken it is noted with the
//! delivery besides, once an attempt has ended.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Most deliveries of an endpoint that are remembered.
const MAX_DELIVERIES: usize = 1_000;

/// The end of a delivery to one recipient: why it is refused, or nothing.
pub(super) type End = Option<String>;

#[derive(Default)]
pub(super) struct Done(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    /// Recipients by their numbers, by the ids of deliveries.
    by_id: HashMap<String, Vec<(usize, End)>>,
    /// Ids, the oldest first.
    ids: VecDeque<String>,
}

impl Done {
    /// What has become of a recipient for good, if anything has.
    pub(super) fn of(&self, id: &str, number: usize) -> Option<End> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = remembered.by_id.get(id)?;
        let found = ends.iter().find(|(other, _)| *other == number);
        found.map(|(_, end)| end.clone())
    }

    pub(super) fn note(&self, id: &str, number: usize, end: End) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ends) = remembered.by_id.get_mut(id) {
            ends.push((number, end));
            return;
        }
        if remembered.ids.len() >= MAX_DELIVERIES
            && let Some(oldest) = remembered.ids.pop_front()
        {
            remembered.by_id.remove(&oldest);
        }
        remembered.ids.push_back(id.to_owned());
        remembered.by_id.insert(id.to_owned(), vec![(number, end)]);
    }

    /// Remembers of a delivery only who has taken it.
    pub(super) fn forget_refusals(&self, id: &str) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ends) = remembered.by_id.get_mut(id) {
            ends.retain(|(_, end)| end.is_none());
        }
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
        done.note("a", 0, None);
        done.note("a", 9, Some("no".to_owned()));
        assert_eq!(done.of("a", 0), Some(None));
        assert_eq!(done.of("a", 1), None);
        assert_eq!(done.of("a", 9), Some(Some("no".to_owned())));
        done.forget_refusals("a");
        assert_eq!((done.of("a", 0), done.of("a", 9)), (Some(None), None));
        for number in 0..MAX_DELIVERIES {
            done.note(&number.to_string(), 1, None);
        }
        assert_eq!(done.of("a", 0), None);
        assert_eq!(done.of("0", 1), Some(None));
        done.forget("0");
        assert_eq!(done.of("0", 1), None);
        let remembered = done.0.lock().expect("not poisoned");
        assert_eq!(remembered.by_id.len(), remembered.ids.len());
    }
}

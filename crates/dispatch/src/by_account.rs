//! One value for each account, shared by its endpoints and dropped with the last that holds it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use crate::locks::Lock;

/// Fewest accounts that are known before those are forgotten whose value nobody holds any more.
const FIRST_SWEEP: usize = 1_000;

/// Something of each account.
#[derive(Debug)]
pub(crate) struct ByAccount<T>(Lock<Known<T>>);

#[derive(Debug)]
struct Known<T> {
    of: HashMap<Arc<str>, Weak<T>>,
    sweep_at: usize,
}

impl<T> ByAccount<T> {
    /// `name` is that of its lock.
    pub(crate) fn new(name: &'static str) -> Self {
        let known = Known {
            of: HashMap::new(),
            sweep_at: FIRST_SWEEP,
        };
        Self(Lock::new(name, known))
    }

    /// What an account has; made where nobody has it.
    pub(crate) fn of(&self, account: &Arc<str>, make: impl FnOnce() -> T) -> Arc<T> {
        let mut known = self.0.lock();
        if let Some(shared) = known.of.get(account).and_then(Weak::upgrade) {
            return shared;
        }
        if known.of.len() >= known.sweep_at {
            known.of.retain(|_, shared| shared.strong_count() > 0);
            known.sweep_at = (2 * known.of.len()).max(FIRST_SWEEP);
        }
        let shared = Arc::new(make());
        let weak = Arc::downgrade(&shared);
        known.of.insert(Arc::clone(account), weak);
        shared
    }

    /// Accounts of whose part this holds.
    pub(crate) fn which(&self, holds: impl Fn(&T) -> bool) -> BTreeSet<Arc<str>> {
        let known = self.0.lock();
        let all = known.of.iter();
        let holds = all.filter(|(_, part)| part.upgrade().is_some_and(|part| holds(&part)));
        holds.map(|(account, _)| Arc::clone(account)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_whom_nobody_has_anything_are_forgotten() {
        let all = ByAccount::new("all");
        let kept = all.of(&Arc::from("kept"), || 0);
        for number in 1..10 * FIRST_SWEEP {
            assert_eq!(*all.of(&Arc::from(number.to_string()), || number), number);
        }
        assert!(all.0.lock().of.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&kept, &all.of(&Arc::from("kept"), || 1)));
        let which = all.which(|number| *number == 0);
        assert_eq!(which.into_iter().collect::<Vec<_>>(), [Arc::from("kept")]);
        assert!(all.which(|number| *number > 0).is_empty());
    }
}

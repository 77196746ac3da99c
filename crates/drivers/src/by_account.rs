//! What all endpoints of an account share, for as long as one of them has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Accounts that are remembered before those are forgotten that have nothing any more.
pub(crate) const FIRST_SWEEP: usize = 1024;

/// What accounts have, by their numbers.
pub(crate) struct ByAccount<T>(Mutex<Accounts<T>>);

struct Accounts<T> {
    known: HashMap<Arc<str>, Weak<T>>,
    sweep_at: usize,
}

impl<T> Default for ByAccount<T> {
    fn default() -> Self {
        Self(Mutex::new(Accounts {
            known: HashMap::new(),
            sweep_at: FIRST_SWEEP,
        }))
    }
}

impl<T> ByAccount<T> {
    /// How many accounts are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("not poisoned").known.len()
    }

    /// What an account has; made if it has nothing yet.
    pub(crate) fn get(&self, account: &Arc<str>, make: impl FnOnce() -> T) -> Arc<T> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = accounts.known.get(account).and_then(Weak::upgrade) {
            return found;
        }
        if accounts.known.len() >= accounts.sweep_at {
            accounts.known.retain(|_, had| had.strong_count() > 0);
            accounts.sweep_at = (2 * accounts.known.len()).max(FIRST_SWEEP);
        }
        let new = Arc::new(make());
        let known = Arc::downgrade(&new);
        accounts.known.insert(Arc::clone(account), known);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_forgotten_with_what_it_had() {
        let all = ByAccount::default();
        let account: Arc<str> = Arc::from("1");
        let first = all.get(&account, || 1);
        assert_eq!(*all.get(&account, || 2), 1, "it has something already");
        drop(first);
        assert_eq!(*all.get(&account, || 3), 3);
        for number in 0..3 * FIRST_SWEEP {
            all.get(&Arc::from(number.to_string()), || 0);
        }
        assert!(all.len() <= FIRST_SWEEP);
    }
}

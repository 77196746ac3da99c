//! Locks of which a thread holds one at a time.
//!
//! The order of locks is the simplest there is: none is taken while another is held, so no two
//! threads can wait for each other. What has to happen under two locks happens under one after the
//! other, in an order that is explained where it matters. Debug builds check it at each lock that
//! is taken, whether another thread is there to wait for it or not. A lock that was held when its
//! thread panicked stays usable.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A mutex.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    name: &'static str,
    value: Mutex<T>,
}

/// A lock with many readers or one writer.
#[derive(Debug)]
pub(crate) struct ReadWriteLock<T> {
    name: &'static str,
    value: RwLock<T>,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<G> {
    // Released before it counts as released.
    guard: G,
    _only: Only,
}

impl<T> Lock<T> {
    /// `name` is shown by the check of debug builds.
    pub(crate) const fn new(name: &'static str, value: T) -> Self {
        let value = Mutex::new(value);
        Self { name, value }
    }

    pub(crate) fn lock(&self) -> Held<MutexGuard<'_, T>> {
        let only = Only::new(self.name);
        Held {
            guard: self.value.lock().unwrap_or_else(PoisonError::into_inner),
            _only: only,
        }
    }
}

impl<T> ReadWriteLock<T> {
    /// `name` is shown by the check of debug builds.
    pub(crate) const fn new(name: &'static str, value: T) -> Self {
        let value = RwLock::new(value);
        Self { name, value }
    }

    pub(crate) fn read(&self) -> Held<RwLockReadGuard<'_, T>> {
        let only = Only::new(self.name);
        Held {
            guard: self.value.read().unwrap_or_else(PoisonError::into_inner),
            _only: only,
        }
    }

    pub(crate) fn write(&self) -> Held<RwLockWriteGuard<'_, T>> {
        let only = Only::new(self.name);
        Held {
            guard: self.value.write().unwrap_or_else(PoisonError::into_inner),
            _only: only,
        }
    }
}

impl<G: Deref> Deref for Held<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Held<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

#[cfg(debug_assertions)]
use checked::Only;

#[cfg(not(debug_assertions))]
use unchecked::Only;

#[cfg(debug_assertions)]
mod checked {
    use std::cell::Cell;

    thread_local! {
        /// Name of the lock that this thread holds.
        static HELD: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Proof that the thread holds one lock only.
    #[derive(Debug)]
    pub(crate) struct Only(());

    impl Only {
        pub(crate) fn new(name: &'static str) -> Self {
            let held = HELD.replace(Some(name));
            // What is dropped by a panic must not begin another one.
            if let Some(held) = held
                && !std::thread::panicking()
            {
                HELD.set(Some(held));
                panic!("the lock `{name}` is taken while `{held}` is held");
            }
            Self(())
        }
    }

    impl Drop for Only {
        fn drop(&mut self) {
            HELD.set(None);
        }
    }
}

#[cfg(not(debug_assertions))]
mod unchecked {
    /// Nothing is checked.
    #[derive(Debug)]
    pub(crate) struct Only;

    impl Only {
        pub(crate) fn new(_: &'static str) -> Self {
            Self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lock_after_the_other_is_fine_and_values_are_kept() {
        let (first, second) = (Lock::new("first", 1), ReadWriteLock::new("second", 1));
        *first.lock() += 1;
        *second.write() += 1;
        let first = *first.lock();
        assert_eq!((first, *second.read()), (2, 2));
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_lock_that_is_taken_while_another_is_held_is_a_panic_and_both_work_afterwards() {
        let locks = [Lock::new("first", ()), Lock::new("second", ())];
        let other = ReadWriteLock::new("other", ());
        let take_both: [&(dyn Fn() + std::panic::RefUnwindSafe); 4] = [
            &|| drop((locks[0].lock(), locks[1].lock())),
            &|| drop((locks[1].lock(), locks[0].lock())),
            &|| drop((other.read(), locks[0].lock())),
            &|| drop((locks[0].lock(), other.write())),
        ];
        for take in take_both {
            assert!(std::panic::catch_unwind(take).is_err());
            for lock in &locks {
                drop(lock.lock());
            }
            drop(other.write());
        }
    }
}

//! Memory that several tasks share: how many bytes are held, and a bound at which no more is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be held at a time; clones share them.
///
/// Whether there is room is asked before something is read, and its size is known behind it: what
/// is held exceeds the bound by one read of each reader at most.
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<AtomicUsize>,
    limit: usize,
}

/// Bytes of a budget, given back when this is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            held: Arc::default(),
            limit: limit_bytes,
        }
    }

    /// Counts bytes as held, also beyond the bound.
    pub fn hold(&self, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::AcqRel);
        Held {
            budget: self.clone(),
            bytes,
        }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Whether nothing more may be read.
    pub fn is_spent(&self) -> bool {
        self.held() >= self.limit
    }

    /// Whether at least half of it is free: where to stop and to go on is dear, it is gone on then.
    pub fn is_half_free(&self) -> bool {
        self.held() <= self.limit / 2
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_free_again() {
        let budget = Budget::new(10);
        let other = budget.clone();
        let first = budget.hold(6);
        assert!(!other.is_spent() && !other.is_half_free());
        let second = other.hold(6);
        assert!(budget.is_spent());
        drop(first);
        assert!(!budget.is_spent() && !budget.is_half_free());
        drop(second);
        assert!(budget.is_half_free());
        assert_eq!(budget.held(), 0);
    }
}

//! What is remembered of transactions until they end: the parts that a script has taken, for the
//! next process if that one dies, and how often the script has failed with each.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::lua::Transaction;

/// Most bytes of parts that are kept, of all transactions: some thousands of events.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// Most transactions that are remembered.
const KEPT_TRANSACTIONS: usize = 1000;
/// How long one is remembered of which nothing more comes: longer than what has failed takes until
/// it is refused.
const KEPT_TIME: Duration = Duration::from_hours(6);

/// Transactions that have not ended.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    kept: HashMap<String, Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    parts: Vec<Transaction>,
    bytes: usize,
    failures: u32,
    since: Instant,
}

impl Earlier {
    /// The script has taken a part.
    pub(super) fn taken(&mut self, part: Transaction) {
        if part.is_last {
            return self.forget(&part.id);
        }
        if part.is_first {
            // What it has failed with before still counts.
            self.drop_parts(&part.id);
        }
        let bytes = part.events.iter().map(Bytes::len).sum::<usize>();
        let kept = self.entry(&part.id);
        kept.parts.push(part);
        kept.bytes += bytes;
        self.bytes += bytes;
        while self.bytes > KEPT_BYTES {
            self.forget_oldest();
        }
    }

    /// The script has failed with a transaction; how often it has, now.
    pub(super) fn failed(&mut self, id: &str) -> u32 {
        let kept = self.entry(id);
        kept.failures += 1;
        kept.failures
    }

    /// Parts of a transaction that were taken.
    pub(super) fn of(&self, id: &str) -> Vec<Transaction> {
        self.kept
            .get(id)
            .map(|kept| kept.parts.clone())
            .unwrap_or_default()
    }

    /// Nothing more comes of a transaction.
    pub(super) fn forget(&mut self, id: &str) {
        if let Some(kept) = self.kept.remove(id) {
            self.bytes -= kept.bytes;
        }
    }

    fn drop_parts(&mut self, id: &str) {
        if let Some(kept) = self.kept.get_mut(id) {
            self.bytes -= std::mem::take(&mut kept.bytes);
            kept.parts.clear();
        }
    }

    fn entry(&mut self, id: &str) -> &mut Kept {
        if !self.kept.contains_key(id) && self.kept.len() >= KEPT_TRANSACTIONS {
            self.forget_oldest();
        }
        let now = Instant::now();
        let kept = self.kept.entry(id.to_owned()).or_insert_with(|| Kept {
            parts: Vec::new(),
            bytes: 0,
            failures: 0,
            since: now,
        });
        kept.since = now;
        kept
    }

    /// Makes room: all that are old, or else the oldest one.
    fn forget_oldest(&mut self) {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.since);
        let Some((oldest, since)) = oldest.map(|(id, kept)| (id.clone(), kept.since)) else {
            self.bytes = 0;
            return;
        };
        if since.elapsed() > KEPT_TIME {
            self.kept
                .retain(|_, kept| kept.since.elapsed() <= KEPT_TIME);
            self.bytes = self.kept.values().map(|kept| kept.bytes).sum();
            return;
        }
        self.forget(&oldest);
        tracing::warn!(
            transaction = oldest,
            "too many transactions are open; if the script's process dies, its successor gets this one from the middle"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: &str, bytes: usize, is_first: bool, is_last: bool) -> Transaction {
        Transaction {
            id: id.to_owned(),
            user: "ann".to_owned(),
            events: vec![Bytes::from(vec![b'x'; bytes])],
            is_first,
            is_last,
            success: true,
        }
    }

    #[test]
    fn parts_are_kept_until_the_transaction_ends() {
        let mut earlier = Earlier::default();
        earlier.taken(part("a", 10, true, false));
        earlier.taken(part("a", 10, false, false));
        assert_eq!((earlier.of("a").len(), earlier.bytes), (2, 20));
        // Begun anew.
        earlier.taken(part("a", 5, true, false));
        assert_eq!((earlier.of("a").len(), earlier.bytes), (1, 5));
        earlier.taken(part("a", 10, false, true));
        assert_eq!((earlier.of("a").len(), earlier.bytes), (0, 0));
        assert!(earlier.kept.is_empty());
    }

    #[test]
    fn failures_are_counted_by_transaction_until_it_is_done() {
        let mut earlier = Earlier::default();
        assert_eq!((earlier.failed("a"), earlier.failed("a")), (1, 2));
        assert_eq!(earlier.failed("b"), 1);
        earlier.taken(part("a", 1, true, true));
        assert_eq!(earlier.failed("a"), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut earlier = Earlier::default();
        for number in 0..KEPT_TRANSACTIONS + 5 {
            earlier.failed(&number.to_string());
        }
        assert_eq!(earlier.kept.len(), KEPT_TRANSACTIONS);
        for number in 0..9 {
            earlier.taken(part(&format!("big{number}"), KEPT_BYTES / 4, true, false));
        }
        assert!(earlier.bytes <= KEPT_BYTES);
        assert_eq!(earlier.of("big8").len(), 1);
        assert_eq!(earlier.of("big0").len(), 0);
    }
}

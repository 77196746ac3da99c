//! The ids of the last records: what comes again is dropped.
//!
//! Ids are entered when the commit that holds their records is begun, and taken out again if it
//! fails. An id counts for its topic and key: whoever may write to one topic, or of one user,
//! keeps nothing out of another, though the ids of a process follow one another.

use std::collections::{HashSet, VecDeque};

use sha2::{Digest, Sha256};

/// The last ids, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    known: HashSet<u128>,
    /// Rows of the table `seen` and their ids.
    commits: VecDeque<(i64, Vec<u128>)>,
    /// Ids of the commit that is under way.
    pending: Vec<u128>,
    size: usize,
    next_seq: i64,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            next_seq: 1,
            ..Self::default()
        }
    }

    /// `true`: the id is new for this topic and key, and entered.
    pub(super) fn enter(&mut self, topic: &str, key: Option<&[u8]>, id: u128) -> bool {
        let entry = entry(topic, key, id);
        // Rows of a store of an older version have the ids themselves.
        let is_new = !self.known.contains(&id) && self.known.insert(entry);
        if is_new {
            self.pending.push(entry);
        }
        is_new
    }

    /// What the commit under way adds: the row's number and the ids as bytes. `None`: nothing.
    pub(super) fn row(&self) -> Option<(i64, Vec<u8>)> {
        let bytes: Vec<u8> = self
            .pending
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        (!bytes.is_empty()).then_some((self.next_seq, bytes))
    }

    /// The commit has failed.
    pub(super) fn roll_back(&mut self) {
        for id in self.pending.drain(..) {
            self.known.remove(&id);
        }
    }

    /// The commit is durable; ids beyond the window's size are forgotten.
    pub(super) fn commit(&mut self) {
        let ids = std::mem::take(&mut self.pending);
        if !ids.is_empty() {
            self.push(self.next_seq, ids);
        }
    }

    /// Rows before this one are not needed any more.
    pub(super) fn oldest_seq(&self) -> i64 {
        self.commits.front().map_or(self.next_seq, |(seq, _)| *seq)
    }

    /// Enters a row as it was read from the table, in ascending order.
    pub(super) fn restore(&mut self, seq: i64, bytes: &[u8]) {
        let ids = bytes.as_chunks::<16>().0;
        let ids: Vec<u128> = ids.iter().map(|id| u128::from_le_bytes(*id)).collect();
        self.known.extend(&ids);
        self.push(seq, ids);
    }

    fn push(&mut self, seq: i64, ids: Vec<u128>) {
        self.next_seq = seq + 1;
        self.commits.push_back((seq, ids));
        // Whole commits go; at least the window's size stays.
        while let Some((_, oldest)) = self.commits.front()
            && self.known.len() - oldest.len() >= self.size
            && self.commits.len() > 1
        {
            for id in oldest {
                self.known.remove(id);
            }
            self.commits.pop_front();
        }
    }
}

/// What is kept of an id: no other topic, key and id that somebody could find has the same.
fn entry(topic: &str, key: Option<&[u8]>, id: u128) -> u128 {
    let mut hash = Sha256::new();
    hash.update(id.to_le_bytes());
    if let Some(key) = key {
        hash.update(key.len().to_le_bytes());
        hash.update(key);
    }
    hash.update(topic.as_bytes());
    let mut entry = [0; 16];
    entry.copy_from_slice(&hash.finalize()[..16]);
    u128::from_le_bytes(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rolled_back_is_new_again() {
        let mut window = Window::new(10);
        assert!(window.enter("t", None, 1) && !window.enter("t", None, 1));
        window.roll_back();
        assert!(window.enter("t", None, 1));
        window.commit();
        assert!(!window.enter("t", None, 1));
    }

    #[test]
    fn an_id_in_one_topic_is_new_in_another() {
        let mut window = Window::new(10);
        assert!(window.enter("junk", None, 1) && window.enter("dovecot", None, 1));
        assert!(!window.enter("junk", None, 1) && !window.enter("dovecot", None, 1));
    }

    #[test]
    fn an_id_of_one_user_is_new_for_another() {
        let mut window = Window::new(10);
        assert!(window.enter("t", Some(b"mallory"), 1) && window.enter("t", Some(b"ann"), 1));
        assert!(!window.enter("t", Some(b"ann"), 1) && window.enter("t", None, 1));
    }

    #[test]
    fn ids_of_an_older_version_are_known_in_every_topic() {
        let mut window = Window::new(10);
        window.restore(1, &7_u128.to_le_bytes());
        assert!(!window.enter("t", None, 7) && window.enter("t", None, 8));
    }

    #[test]
    fn the_window_keeps_at_least_its_size_and_not_much_more() {
        let mut window = Window::new(3);
        for id in 0..10 {
            window.enter("t", None, id);
            window.commit();
        }
        assert!(window.enter("t", None, 6), "too old");
        window.roll_back();
        assert!(!window.enter("t", None, 7) && !window.enter("t", None, 9));
        assert_eq!(window.oldest_seq(), 8);
    }

    #[test]
    fn rows_read_back_are_known() {
        let mut window = Window::new(10);
        window.enter("t", None, 7);
        let (seq, bytes) = window.row().expect("a row");
        let mut restored = Window::new(10);
        restored.restore(seq, &bytes);
        assert!(!restored.enter("t", None, 7));
        assert_eq!(restored.row(), None);
    }
}

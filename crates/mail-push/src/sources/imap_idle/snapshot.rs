//! What is known of a mailbox: UIDs and flags, as runs of mails that follow one another.
//!
//! A mailbox of ten thousand mails is some dozens of runs, because UIDs follow one another and old
//! mails are read. There are [`MAX_RUNS`] at most: of older mails only their number is known then.
//! It is enough to say which mail `* 7 EXPUNGE` is about, and what has changed while nobody was
//! there. No I/O.

use std::collections::BTreeMap;

use dovecast_event::Flags;
use serde::{Deserialize, Serialize};

use super::others::Other;
use crate::imap::{Data, Fetched, UidRange};
use crate::sources::What;

/// Most runs of a mailbox; 24 KiB.
pub const MAX_RUNS: usize = 2048;

/// State of a mailbox, which can be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// UIDVALIDITY
    pub uidvalidity: u32,
    /// UIDs from here on are new.
    pub uidnext: u32,
    /// Modification sequence up to which everything is known (RFC 7162); 0 if there is none.
    pub modseq: u64,
    /// Mails in the mailbox, as the server says.
    exists: u32,
    /// Mails before the first run.
    below: u32,
    runs: Vec<Run>,
    /// Other mailboxes, where the server tells of them (RFC 5465).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, Other>,
}

/// Mails with these flags, and all UIDs from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    first: u32,
    last: u32,
    flags: u8,
}

impl Run {
    const fn len(self) -> u32 {
        self.last - self.first + 1
    }

    fn flags(self) -> Flags {
        Flags::from_dovecot(u32::from(self.flags))
    }
}

impl Snapshot {
    /// An empty mailbox.
    pub fn new(uidvalidity: u32, uidnext: u32) -> Self {
        Self {
            uidvalidity,
            uidnext,
            ..Self::default()
        }
    }

    /// Mails whose UIDs and flags are known.
    pub fn known(&self) -> u32 {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// Mails in the mailbox, as the server says.
    pub const fn exists(&self) -> u32 {
        self.exists
    }

    /// Unread mails; `None` if not all mails are known.
    pub fn unseen(&self) -> Option<u32> {
        let unread = self
            .runs
            .iter()
            .filter(|run| !run.flags().contains(Flags::SEEN));
        (self.below == 0).then(|| unread.map(|run| run.len()).sum())
    }

    /// Whether all mails that the server has are known, but for the oldest.
    pub fn is_complete(&self) -> bool {
        self.exists == self.below + self.known()
    }

    /// Whether there are mails that came after all that are known.
    pub fn has_more(&self) -> bool {
        self.exists > self.below + self.known()
    }

    /// Takes the number of mails from the server, after all that are new were added: those not
    /// known are the oldest. `false` if there are none of unknown UIDs, and the number is wrong.
    pub fn settle(&mut self) -> bool {
        if self.below > 0 {
            self.below = self.exists.saturating_sub(self.known());
        }
        self.is_complete()
    }

    /// Flags of a mail.
    pub fn flags(&self, uid: u32) -> Option<Flags> {
        self.find(uid).map(|at| self.runs[at].flags())
    }

    /// Adds a mail that is newer than all others; an older one is passed over.
    pub fn push(&mut self, uid: u32, flags: Flags) {
        if self.runs.last().is_some_and(|last| last.last >= uid) || uid == 0 {
            return;
        }
        self.uidnext = self.uidnext.max(uid.saturating_add(1));
        self.append(Run {
            first: uid,
            last: uid,
            flags: flags.bits(),
        });
        self.exists = self.exists.max(self.below + self.known());
        self.trim();
    }

    /// What a server says of the mailbox; `tell` gets what has changed by it.
    pub fn apply(&mut self, data: &Data, tell: &mut impl FnMut(What)) {
        match data {
            Data::Exists(number) => self.exists = *number,
            Data::Expunge(sequence) => self.expunge(*sequence, tell),
            Data::Vanished { earlier, uids } => {
                for range in uids {
                    self.vanish(*range, *earlier, tell);
                }
            }
            Data::Fetch(fetched) => self.change(fetched, tell),
            _ => {}
        }
    }

    fn change(&mut self, fetched: &Fetched, tell: &mut impl FnMut(What)) {
        let uid = fetched.uid.or_else(|| self.uid_at(fetched.sequence));
        let (Some(uid), Some(flags)) = (uid, fetched.flags) else {
            return;
        };
        if let Some(before) = self.set_flags(uid, flags) {
            tell_change(uid, before, flags, tell);
        }
    }

    fn expunge(&mut self, sequence: u32, tell: &mut impl FnMut(What)) {
        self.exists = self.exists.saturating_sub(1);
        if sequence <= self.below {
            self.below = self.below.saturating_sub(1);
        } else if let Some(uid) = self.uid_at(sequence) {
            self.remove(uid);
            tell(What::Went { uid });
        }
    }

    /// Mails that were there until now, or (EARLIER) perhaps never were.
    fn vanish(&mut self, gone: UidRange, earlier: bool, tell: &mut impl FnMut(What)) {
        let known_from = self.runs.first().map_or(self.uidnext, |run| run.first);
        let mut uids = Vec::new();
        for run in &self.runs {
            let first = run.first.max(gone.first);
            uids.extend(first..=run.last.min(gone.last));
        }
        for uid in uids {
            self.remove(uid);
            tell(What::Went { uid });
        }
        if !earlier {
            let count = (gone.last - gone.first).saturating_add(1);
            self.exists = self.exists.saturating_sub(count);
            let last = gone.last.min(known_from.saturating_sub(1));
            let older = (last + 1).saturating_sub(gone.first);
            self.below = self.below.saturating_sub(older);
        }
    }

    /// What is different in another snapshot of the same mailbox, mails that came left out: those
    /// have UIDs from this one's `uidnext` on.
    pub fn differences(&self, now: &Self, tell: &mut impl FnMut(What)) {
        let from = |snapshot: &Self| snapshot.runs.first().map_or(0, |run| run.first);
        let known_from = match (self.below, now.below) {
            (0, 0) => 0,
            (0, _) => from(now),
            (_, 0) => from(self),
            _ => from(self).max(from(now)),
        };
        for run in &self.runs {
            for uid in run.first.max(known_from)..=run.last {
                match now.flags(uid) {
                    None => tell(What::Went { uid }),
                    Some(flags) => tell_change(uid, run.flags(), flags, tell),
                }
            }
        }
    }

    /// Mails with UIDs from this on.
    pub fn since(&self, uid: u32) -> impl Iterator<Item = (u32, Flags)> {
        self.runs
            .iter()
            .flat_map(move |run| (run.first.max(uid)..=run.last).map(|uid| (uid, run.flags())))
    }

    /// UID of the mail with this number, from 1.
    fn uid_at(&self, sequence: u32) -> Option<u32> {
        let mut at = sequence.checked_sub(self.below)?.checked_sub(1)?;
        for run in &self.runs {
            if at < run.len() {
                return Some(run.first + at);
            }
            at -= run.len();
        }
        None
    }

    fn find(&self, uid: u32) -> Option<usize> {
        let at = self.runs.partition_point(|run| run.last < uid);
        self.runs
            .get(at)
            .is_some_and(|run| run.first <= uid)
            .then_some(at)
    }

    fn remove(&mut self, uid: u32) {
        if let Some(at) = self.find(uid) {
            self.replace(at, uid, None);
        }
    }

    /// The flags before, of a mail that is known.
    fn set_flags(&mut self, uid: u32, flags: Flags) -> Option<Flags> {
        let at = self.find(uid)?;
        let before = self.runs[at].flags();
        if before != flags {
            self.replace(at, uid, Some(flags.bits()));
        }
        Some(before)
    }

    /// Divides a run around a mail that gets other flags, or none because it is gone, and joins
    /// with its neighbours what belongs together now.
    fn replace(&mut self, at: usize, uid: u32, flags: Option<u8>) {
        let rest = self.runs.split_off(at);
        let run = rest[0];
        let before = (run.first < uid).then(|| Run {
            last: uid - 1,
            ..run
        });
        let changed = flags.map(|flags| Run {
            first: uid,
            last: uid,
            flags,
        });
        let after = (run.last > uid).then(|| Run {
            first: uid + 1,
            ..run
        });
        let parts = [before, changed, after].into_iter().flatten();
        for part in parts.chain(rest[1..].iter().copied()) {
            self.append(part);
        }
        self.trim();
    }

    /// Adds a run behind the last, as a part of it if it can be.
    fn append(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.last + 1 == run.first && last.flags == run.flags => {
                last.last = run.last;
            }
            _ => self.runs.push(run),
        }
    }

    fn trim(&mut self) {
        let surplus = self.runs.len().saturating_sub(MAX_RUNS);
        let forgotten: u32 = self.runs.drain(..surplus).map(Run::len).sum();
        self.below += forgotten;
    }
}

fn tell_change(uid: u32, before: Flags, now: Flags, tell: &mut impl FnMut(What)) {
    let (set, cleared) = (now.without(before), before.without(now));
    if !cleared.is_empty() {
        tell(What::FlagsClear {
            uid,
            flags: cleared,
        });
    }
    if !set.is_empty() {
        tell(What::FlagsSet { uid, flags: set });
    }
}

#[cfg(test)]
mod tests;

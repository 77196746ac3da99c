//! One round of listening: what is heard between two states of the mailbox that are stored.

use std::mem;
use std::sync::Arc;

use super::Snapshot;
use super::others::{self, AllTold};
use crate::imap::Data;
use crate::sources::{Heard, NewMail, What};

/// Most events of one round. Whoever marks a hundred thousand mails as read need not be told of
/// each; what is more is dropped and counted.
const MAX_EVENTS: usize = 10_000;

/// What is heard, and the mailbox before and after.
pub(super) struct Round {
    pub(super) snapshot: Snapshot,
    /// The mailbox before the round, once something has changed.
    before: Option<Snapshot>,
    changes: Vec<What>,
    came: Vec<NewMail>,
    came_elsewhere: Vec<Heard>,
    /// What was said of other mailboxes and not looked at yet.
    pub(super) told: AllTold,
    /// Events that were dropped.
    pub(super) dropped: u64,
    /// Whether the mails have other UIDs than before.
    pub(super) is_renumbered: bool,
}

impl Round {
    pub(super) const fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            before: None,
            changes: Vec::new(),
            came: Vec::new(),
            came_elsewhere: Vec::new(),
            told: AllTold::new(),
            dropped: 0,
            is_renumbered: false,
        }
    }

    /// Keeps the mailbox as it was, before it is changed.
    pub(super) fn keep(&mut self) {
        if self.before.is_none() {
            self.before = Some(self.snapshot.clone());
        }
    }

    /// Takes in what the server says of mailboxes that are not selected.
    pub(super) fn hear_of_others(&mut self, data: &Data) {
        if let Data::MailboxStatus { mailbox, items } = data {
            others::keep(&mut self.told, mailbox, items);
        }
    }

    /// Takes in what the server says.
    pub(super) fn hear(&mut self, data: &Data) {
        self.hear_of_others(data);
        let changes = matches!(
            data,
            Data::Exists(_) | Data::Expunge(_) | Data::Vanished { .. } | Data::Fetch(_)
        );
        if changes {
            self.keep();
            let (told, dropped) = (&mut self.changes, &mut self.dropped);
            self.snapshot
                .apply(data, &mut |what| push(told, dropped, what));
        }
    }

    /// Replaces the mailbox by what a list of it says; the differences have happened.
    pub(super) fn replace(&mut self, now: Snapshot) {
        self.keep();
        let (told, dropped) = (&mut self.changes, &mut self.dropped);
        self.snapshot
            .differences(&now, &mut |what| push(told, dropped, what));
        self.set(now);
    }

    /// Takes a list of the mailbox for what it is now; it says nothing of others.
    fn set(&mut self, now: Snapshot) {
        let others = mem::take(&mut self.snapshot.others);
        self.snapshot = now;
        self.snapshot.others = others;
    }

    /// Begins with a mailbox of which nothing was known.
    pub(super) fn begin(&mut self, now: Snapshot) {
        self.keep();
        self.is_renumbered = self.snapshot.uidvalidity != 0;
        self.set(now);
    }

    /// Adds a mail that came.
    pub(super) fn came(&mut self, mail: NewMail) {
        if self.came.len() < MAX_EVENTS {
            self.came.push(mail);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds mails that came into another mailbox.
    pub(super) fn came_into(&mut self, mailbox: &str, uidvalidity: u32, mails: Vec<NewMail>) {
        let mailbox: Arc<str> = mailbox.into();
        for mail in mails {
            if self.came_elsewhere.len() >= MAX_EVENTS {
                self.dropped += 1;
                continue;
            }
            self.came_elsewhere.push(Heard {
                mailbox: Arc::clone(&mailbox),
                uidvalidity,
                what: What::Came(Box::new(mail)),
                unseen: None,
            });
        }
    }

    /// Whether there is anything to be stored.
    pub(super) fn has_changed(&self) -> bool {
        self.before
            .as_ref()
            .is_some_and(|before| *before != self.snapshot)
            || !self.changes.is_empty()
            || !self.came.is_empty()
            || !self.came_elsewhere.is_empty()
    }

    /// The mailbox before the round; `None` if nothing was known of it.
    pub(super) fn before(self) -> Option<Snapshot> {
        let before = self.before.unwrap_or(self.snapshot);
        (before.uidvalidity != 0).then_some(before)
    }

    /// What was heard: what happened to mails that were there, then the mails that came and are
    /// there still, with the flags they have now, then those that came into other mailboxes.
    pub(super) fn heard(&self, mailbox: &Arc<str>) -> Vec<Heard> {
        let unseen = self.snapshot.unseen();
        let new_from = self
            .came
            .iter()
            .map(|mail| mail.uid)
            .min()
            .unwrap_or(u32::MAX);
        let came = self.came.iter().filter_map(|mail| {
            let flags = self.snapshot.flags(mail.uid)?;
            let mail = NewMail {
                flags,
                ..mail.clone()
            };
            Some(What::Came(Box::new(mail)))
        });
        let heard = |what| Heard {
            mailbox: Arc::clone(mailbox),
            uidvalidity: self.snapshot.uidvalidity,
            what,
            unseen,
        };
        // Of a mail that came nobody has been told what happened to it since.
        let changes = self
            .changes
            .iter()
            .filter(|what| uid(what) < new_from)
            .cloned();
        let elsewhere = self.came_elsewhere.iter().cloned();
        changes.chain(came).map(heard).chain(elsewhere).collect()
    }

    /// Mails that came, to be looked at.
    pub(super) fn take_came(&mut self) -> Vec<NewMail> {
        mem::take(&mut self.came)
    }
}

const fn uid(what: &What) -> u32 {
    match what {
        What::Came(mail) => mail.uid,
        What::Went { uid } | What::FlagsSet { uid, .. } | What::FlagsClear { uid, .. } => *uid,
    }
}

fn push(told: &mut Vec<What>, dropped: &mut u64, what: What) {
    if told.len() < MAX_EVENTS {
        told.push(what);
    } else {
        *dropped += 1;
    }
}

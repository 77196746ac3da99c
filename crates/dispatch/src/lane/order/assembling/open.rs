//! What is known of a key's transactions that have not ended: since when nothing new of them has
//! come, and of which parts were delivered.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::CUT_OFF;
use crate::item::Item;
use crate::ledger::KeyPlace;

/// How long it is remembered: a transaction of which nothing comes for so long has been given up,
/// or is another process's.
const KEPT: Duration = Duration::from_mins(10);

/// Transactions of a key that have not ended.
#[derive(Debug, Default)]
pub(in crate::lane::order) struct Open {
    awaited: Vec<Awaited>,
    parts: Vec<Parts>,
}

/// A transaction of which something waits and the end does not.
#[derive(Debug)]
struct Awaited {
    transaction: Uuid,
    /// The most events of it that have waited at a time: those that come again, out of the ledger,
    /// are not new.
    events: usize,
    /// When the last new one had come.
    since: Instant,
}

/// A transaction of which parts were delivered, and not the last.
#[derive(Debug)]
struct Parts {
    transaction: Uuid,
    since: Instant,
    /// What tells the end, should that be lost.
    end: Box<Item>,
    /// Whether the end was waited for for too long.
    is_lost: bool,
}

/// What waits of a transaction.
struct Seen {
    events: usize,
    since: Instant,
    has_end: bool,
}

impl Open {
    /// Looks at what waits of the key.
    pub(super) fn look<'a>(&mut self, waiting: impl Iterator<Item = &'a Item>, now: Instant) {
        let mut seen: HashMap<Uuid, Seen> = HashMap::new();
        for item in waiting {
            let Some(transaction) = item.transaction else {
                continue;
            };
            let of_it = seen.entry(transaction.id).or_insert(Seen {
                events: 0,
                since: item.since,
                has_end: false,
            });
            of_it.events += 1;
            of_it.since = of_it.since.max(item.since);
            of_it.has_end |= transaction.is_last;
        }
        // What does not wait now may be on its way through the ledger.
        self.awaited.retain(|known| {
            let is_whole = seen
                .get(&known.transaction)
                .is_some_and(|seen| seen.has_end);
            !is_whole && now.saturating_duration_since(known.since) < KEPT
        });
        for (transaction, Seen { events, since, .. }) in
            seen.into_iter().filter(|(_, seen)| !seen.has_end)
        {
            let mut known = self.awaited.iter_mut();
            match known.find(|known| known.transaction == transaction) {
                Some(known) if known.events >= events => {}
                Some(known) => (known.events, known.since) = (events, since),
                None => self.awaited.push(Awaited {
                    transaction,
                    events,
                    since,
                }),
            }
        }
    }

    /// Since when nothing new of a transaction has come, of which the end was not there at the last
    /// look.
    pub(super) fn since(&self, transaction: Uuid) -> Option<Instant> {
        let mut known = self.awaited.iter();
        let known = known.find(|known| known.transaction == transaction)?;
        Some(known.since)
    }

    /// A part of a transaction was delivered.
    pub(super) fn delivered(&mut self, transaction: Uuid, part: &Item, now: Instant) {
        self.awaited
            .retain(|known| known.transaction != transaction);
        self.parts.retain(|known| known.transaction != transaction);
        if !part.part.is_last {
            self.parts.push(Parts {
                transaction,
                since: now,
                end: Box::new(part.lost_end()),
                is_lost: false,
            });
        }
    }

    /// Whether a part of a transaction was delivered, and not the last.
    pub(super) fn has_part_of(&self, transaction: Uuid) -> bool {
        let mut parts = self.parts.iter();
        parts.any(|known| known.transaction == transaction)
    }

    /// Whether a part of any transaction was delivered, and not the last.
    pub(in crate::lane::order) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Gives up transactions of which nothing waits and nothing has come for long; `may_come`:
    /// whether more may stand in what is still to be read.
    pub(super) fn give_up(
        &mut self,
        now: Instant,
        waiting: &VecDeque<Item>,
        may_come: impl Fn(&KeyPlace) -> bool,
    ) {
        for known in &mut self.parts {
            let place = known.end.order.as_deref();
            known.is_lost = now.saturating_duration_since(known.since) > CUT_OFF
                && !waits(waiting, known.transaction)
                && !place.is_some_and(&may_come);
        }
    }

    /// What tells the end of a transaction that was given up, and of which nothing has come since.
    pub(super) fn lost(&self, waiting: &VecDeque<Item>) -> Option<Item> {
        let mut parts = self.parts.iter();
        let lost = parts.find(|known| known.is_lost && !waits(waiting, known.transaction))?;
        Some(lost.end.lost_end())
    }

    /// Forgets parts of which nothing more comes, and nothing waits.
    pub(super) fn tidy(&mut self, now: Instant, waiting: &VecDeque<Item>) {
        self.parts.retain(|known| {
            now.saturating_duration_since(known.since) < KEPT || waits(waiting, known.transaction)
        });
    }
}

/// Whether anything of a transaction waits.
fn waits(waiting: &VecDeque<Item>, transaction: Uuid) -> bool {
    let mut of_any = waiting.iter().map(Item::transaction_id);
    of_any.any(|id| id == Some(transaction))
}

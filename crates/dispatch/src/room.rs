//! Room for deliveries in flight, and how much of it one account may take beside others.
//!
//! The one task that reads the log waits where too many deliveries are in flight, whoever they are
//! for. So an account whose deliveries wait, because it has more of them than it may make or
//! because its endpoints are slow, must not fill the room. While notifications of several accounts
//! are read, each may have as much in flight as there is room left: one beside another a half, two
//! beside another a third each, and something is always left. What exceeds that for longer than a
//! moment is left to ranges. An account that is alone may have all of it.
//!
//! Half of the room is for what is owed and claimed. There an account may always have as much as
//! is left for all: one with a thousand endpoints that hang leaves a place for the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::by_account::ByAccount;
use crate::stats::Counters;

/// How often it is looked whether there is room again, besides waiting for [`Room::news`].
pub(crate) const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long an account may exceed its share.
const EXCESS_PATIENCE: Duration = Duration::from_millis(20);
/// For how long an account is not alone after something was read for another one.
const COMPANY: Duration = Duration::from_secs(1);
/// A time that has not come.
const NEVER: u64 = u64::MAX;

/// How many deliveries are in flight, and may be.
#[derive(Debug)]
pub(crate) struct Room {
    most: u64,
    counters: Arc<Counters>,
    /// There is room again.
    news: Notify,
    /// Times are counted from here, in milliseconds.
    start: Instant,
    /// Number of the account for which something was offered last.
    last: AtomicU64,
    /// When that was another one than before.
    changed_ms: AtomicU64,
    shares: ByAccount<Share>,
    /// Number that the next account gets.
    next: AtomicU64,
    /// Owed deliveries that are claimed and not done.
    claimed: AtomicU64,
}

/// What one account has of the room. The lanes of its endpoints share it.
#[derive(Debug)]
pub(crate) struct Share {
    number: u64,
    in_flight: AtomicU64,
    claimed: AtomicU64,
    /// Since when it has been too much each time something was offered.
    exceeds_since_ms: AtomicU64,
}

/// How an account stands beside others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// Whether something was read for another one not long ago.
    pub(crate) has_company: bool,
    /// Whether it has had too much in flight for longer than a moment.
    pub(crate) exceeds: bool,
}

/// Counts a delivery as in flight until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    room: Arc<Room>,
    share: Arc<Share>,
}

/// Counts an owed delivery as claimed until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    room: Arc<Room>,
    share: Arc<Share>,
}

impl Room {
    pub(crate) fn new(most: u64, counters: &Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            most,
            counters: Arc::clone(counters),
            news: Notify::new(),
            start: Instant::now(),
            last: AtomicU64::new(0),
            changed_ms: AtomicU64::new(NEVER),
            shares: ByAccount::new("accounts in flight"),
            next: AtomicU64::new(1),
            claimed: AtomicU64::new(0),
        })
    }

    /// What an account has of the room.
    pub(crate) fn share(&self, account: &Arc<str>) -> Arc<Share> {
        let number = || self.next.fetch_add(1, Ordering::Relaxed);
        self.shares.of(account, || Share::new(number()))
    }

    pub(crate) fn take(self: &Arc<Self>, share: &Arc<Share>) -> InFlight {
        self.counters.in_flight.fetch_add(1, Ordering::AcqRel);
        share.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight {
            room: Arc::clone(self),
            share: Arc::clone(share),
        }
    }

    pub(crate) fn claim(self: &Arc<Self>, share: &Arc<Share>) -> Claim {
        self.claimed.fetch_add(1, Ordering::AcqRel);
        share.claimed.fetch_add(1, Ordering::AcqRel);
        Claim {
            room: Arc::clone(self),
            share: Arc::clone(share),
        }
    }

    /// How many owed deliveries may be claimed besides those that are.
    pub(crate) fn claims_left(&self) -> u64 {
        (self.most / 2).saturating_sub(self.claimed.load(Ordering::Acquire))
    }

    /// Accounts of which nothing more is to be claimed: they have as much as is left for all.
    pub(crate) fn have_claimed_enough(&self) -> BTreeSet<Arc<str>> {
        let left = self.claims_left().max(1);
        // Mostly all of them together have less.
        if self.claimed.load(Ordering::Acquire) < left {
            return BTreeSet::new();
        }
        let has_enough = |share: &Share| share.claimed.load(Ordering::Acquire) >= left;
        self.shares.which(has_enough)
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.counters.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight() >= self.most
    }

    /// Waits until it may be worth another look.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Waits until more may be in flight, or nothing more is to be; `false`: nothing more is.
    pub(crate) async fn until_free(&self, is_over: impl Fn() -> bool) -> bool {
        while self.is_full() && !is_over() {
            tokio::select! {
                () = self.news() => {}
                () = tokio::time::sleep(ROOM_CHECK_INTERVAL) => {}
            }
        }
        !is_over()
    }

    /// How an account, for which something is offered now, stands beside others. Asked by the one
    /// task that reads the log.
    pub(crate) fn standing(&self, share: &Share, now: Instant) -> Standing {
        let now_ms = self.ms(now);
        let before = self.last.swap(share.number, Ordering::Relaxed);
        if before != share.number && before != 0 {
            self.changed_ms.store(now_ms, Ordering::Relaxed);
        }
        let changed_ms = self.changed_ms.load(Ordering::Relaxed);
        let has_company = changed_ms != NEVER && now_ms.saturating_sub(changed_ms) < as_ms(COMPANY);
        let left = self.most.saturating_sub(self.in_flight());
        let since_ms = if has_company && share.in_flight.load(Ordering::Acquire) > left {
            share.exceeds_since_ms.load(Ordering::Relaxed).min(now_ms)
        } else {
            NEVER
        };
        share.exceeds_since_ms.store(since_ms, Ordering::Relaxed);
        let exceeds = now_ms
            .checked_sub(since_ms)
            .is_some_and(|for_ms| for_ms >= as_ms(EXCESS_PATIENCE));
        Standing {
            has_company,
            exceeds,
        }
    }

    fn ms(&self, now: Instant) -> u64 {
        as_ms(now.saturating_duration_since(self.start))
    }
}

impl Share {
    fn new(number: u64) -> Self {
        Self {
            number,
            in_flight: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
            exceeds_since_ms: AtomicU64::new(NEVER),
        }
    }

    /// That of an account of which nothing else is known.
    #[cfg(test)]
    pub(crate) fn alone() -> Arc<Self> {
        Arc::new(Self::new(1))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.share.in_flight.fetch_sub(1, Ordering::AcqRel);
        let before = self.room.counters.in_flight.fetch_sub(1, Ordering::AcqRel);
        if before >= self.room.most {
            self.room.news.notify_waiters();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.share.claimed.fetch_sub(1, Ordering::AcqRel);
        self.room.claimed.fetch_sub(1, Ordering::AcqRel);
    }
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 100;
    const MOMENT: Duration = Duration::from_millis(1);

    /// A room, and what two accounts have of it.
    fn room() -> (Arc<Room>, Arc<Share>, Arc<Share>) {
        let room = Room::new(MOST, &Arc::default());
        let [one, other] = ["1", "2"].map(|account| room.share(&Arc::from(account)));
        (room, one, other)
    }

    /// Offers again and again for longer than a share may be exceeded; whether it was in the end.
    fn exceeds(room: &Room, share: &Share, begin: Instant) -> bool {
        let asked = [Duration::ZERO, MOMENT, EXCESS_PATIENCE + MOMENT];
        let answers = asked.map(|after| room.standing(share, begin + after).exceeds);
        assert!(!answers[0] && !answers[1]);
        answers[2]
    }

    #[test]
    fn an_account_that_is_alone_may_have_all_of_it() {
        let (room, one, other) = room();
        let begin = room.start;
        let held: Vec<_> = (0..MOST).map(|_| room.take(&one)).collect();
        assert!(room.is_full() && !exceeds(&room, &one, begin));
        // There was another one, but not for long.
        assert!(!room.standing(&other, begin + COMPANY).exceeds);
        assert!(exceeds(&room, &one, begin + COMPANY));
        let later = begin + 3 * COMPANY;
        assert!(!exceeds(&room, &one, later));
        drop(held);
        assert_eq!(
            (room.in_flight(), one.in_flight.load(Ordering::Relaxed)),
            (0, 0)
        );
    }

    #[test]
    fn beside_another_one_it_has_as_much_as_is_left() {
        let (room, one, other) = room();
        let begin = room.start;
        let half: Vec<_> = (0..MOST / 2).map(|_| room.take(&one)).collect();
        assert!(!room.standing(&other, begin).exceeds);
        assert!(!exceeds(&room, &one, begin + MOMENT));
        let more = room.take(&one);
        assert!(!room.standing(&other, begin + 2 * MOMENT).exceeds);
        assert!(exceeds(&room, &one, begin + 3 * MOMENT));
        // The other one has little.
        assert!(!exceeds(&room, &other, begin + 4 * MOMENT));
        drop(more);
        assert!(!exceeds(&room, &one, begin + COMPANY / 2));
        drop(half);
    }

    #[test]
    fn what_is_too_much_for_a_moment_only_is_not() {
        let (room, one, other) = room();
        let begin = room.start;
        assert!(!room.standing(&other, begin).exceeds);
        let held: Vec<_> = (0..MOST).map(|_| room.take(&one)).collect();
        assert!(!room.standing(&one, begin + MOMENT).exceeds);
        drop(held);
        assert!(!room.standing(&one, begin + EXCESS_PATIENCE).exceeds);
        let held: Vec<_> = (0..MOST).map(|_| room.take(&one)).collect();
        assert!(!room.standing(&one, begin + 2 * EXCESS_PATIENCE).exceeds);
        drop(held);
    }

    #[test]
    fn an_account_may_claim_as_much_as_is_left_for_all() {
        let (room, one, other) = room();
        let has_enough = |account: &str| room.have_claimed_enough().contains(account);
        let mut held = Vec::new();
        while !has_enough("1") {
            held.push(room.claim(&one));
        }
        assert_eq!((held.len(), room.claims_left()), (25, 25));
        while !has_enough("2") {
            held.push(room.claim(&other));
        }
        // 25 and 13, and a place for a third one.
        assert_eq!((held.len(), room.claims_left()), (38, 12));
        while room.claims_left() > 0 {
            held.push(room.claim(&one));
        }
        let _third = room.share(&Arc::from("3"));
        assert!(has_enough("1") && !has_enough("3"));
        drop(held);
        assert!(room.claims_left() == MOST / 2 && !has_enough("1"));
    }
}

//! How many attempts an account may have made, over all of its endpoints: what it has more of than
//! it may waits, so that a thousand endpoints of one account are no thousand times as fast as one.
//!
//! Endpoints of an account take turns, each of which is a time from which on one delivery may
//! begin. Nothing here is locked while a lane is: a lane asks with its own lock held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dovecast_log::{LineLimit, RateLimits};

use crate::by_account::ByAccount;

/// The paces of all accounts.
#[derive(Debug)]
pub struct AccountPaces {
    bounds: Arc<Bounds>,
    paces: ByAccount<AccountPace>,
}

#[derive(Debug)]
struct Bounds {
    limits: RateLimits,
    /// For how long what was not used may be used later, at once.
    burst: Duration,
    /// Times are counted from here.
    start: Instant,
    lines: LineLimit,
}

/// How fast attempts of one account may begin. Its endpoints share it.
#[derive(Debug)]
pub struct AccountPace {
    bounds: Arc<Bounds>,
    account: Arc<str>,
    /// When the next attempt is due, in nanoseconds since the start.
    due_ns: AtomicU64,
}

impl AccountPaces {
    /// Paces with these limits for each account: attempts in a second, and bytes of notifications.
    /// What was not used for `burst` may be used at once.
    pub fn new(limits: RateLimits, burst: Duration) -> Self {
        let now = Instant::now();
        let bounds = Bounds {
            limits,
            burst,
            // What may be used at once at the start lies before it.
            start: now.checked_sub(burst).unwrap_or(now),
            lines: LineLimit::default(),
        };
        Self {
            bounds: Arc::new(bounds),
            paces: ByAccount::new("account paces"),
        }
    }

    /// The pace of an account; `None`: there is no limit.
    pub fn of(&self, account: &Arc<str>) -> Option<Arc<AccountPace>> {
        if self.bounds.limits == RateLimits::default() {
            return None;
        }
        Some(self.paces.of(account, || AccountPace {
            bounds: Arc::clone(&self.bounds),
            account: Arc::clone(account),
            due_ns: AtomicU64::new(0),
        }))
    }
}

impl AccountPace {
    /// When an attempt with a notification of so many bytes may begin, which may be in the past.
    /// The time is the caller's own: the next one is later.
    pub(crate) fn turn(&self, bytes: usize, now: Instant) -> Instant {
        let Bounds {
            limits,
            burst,
            start,
            ..
        } = &*self.bounds;
        let now_ns = nanoseconds(now.saturating_duration_since(*start));
        let earliest = now_ns.saturating_sub(nanoseconds(*burst));
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = cost_ns(1, limits.count).max(cost_ns(bytes, limits.bytes));
        let after = |due: u64| Some(due.max(earliest).saturating_add(cost));
        let before = self
            .due_ns
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, after);
        let due = before.unwrap_or_else(|due| due).max(earliest);
        let turn = start.checked_add(Duration::from_nanos(due));
        turn.unwrap_or(now)
    }

    /// Logs that attempts wait, once a minute for all accounts.
    pub(crate) fn tell(&self) {
        let Some(suppressed) = self.bounds.lines.take_counted() else {
            return;
        };
        let limits = self.bounds.limits;
        tracing::warn!(
            account.number = &*self.account,
            suppressed,
            attempts_per_second = limits.count,
            attempts_kb_per_second = limits.bytes / 1024,
            "deliveries of an account wait: it has more of them than [quota] allows"
        );
    }
}

/// How long an amount takes at a rate in a second; 0 is without a limit.
fn cost_ns(amount: u64, per_second: u64) -> u64 {
    let ns = u128::from(amount) * 1_000_000_000;
    let cost = ns.checked_div(u128::from(per_second)).unwrap_or_default();
    u64::try_from(cost).unwrap_or(u64::MAX)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(limits: (u64, u64), burst: Duration) -> Arc<AccountPace> {
        let (count, bytes) = limits;
        let paces = AccountPaces::new(RateLimits { count, bytes }, burst);
        paces.of(&Arc::from("1")).expect("a pace")
    }

    #[test]
    fn an_account_has_a_burst_at_once_and_then_its_rate() {
        for (limits, bytes) in [((10, 0), 1_000_000), ((0, 1_000), 100), ((10, 1_000), 100)] {
            let pace = pace(limits, 2 * SECOND);
            let now = Instant::now();
            let turns: Vec<Instant> = (0..100).map(|_| pace.turn(bytes, now)).collect();
            let at_once = turns.iter().filter(|turn| **turn <= now).count();
            // The burst, and the one that is due now.
            assert!((20..=22).contains(&at_once), "{limits:?}: {at_once}");
            for two in turns.windows(2) {
                assert_eq!(two[1] - two[0], SECOND / 10, "{limits:?}");
            }
            // What was not used for longer than a burst is lost.
            let later = now + 1_000 * SECOND;
            let at_once = (0..100).filter(|_| pace.turn(bytes, later) <= later);
            assert!((20..=22).contains(&at_once.count()), "{limits:?}");
        }
    }

    #[test]
    fn a_notification_larger_than_the_rate_begins_and_is_waited_for_afterwards() {
        let pace = pace((0, 100), Duration::ZERO);
        let now = Instant::now();
        assert!(pace.turn(1_000, now) <= now);
        assert!(pace.turn(1, now) >= now + 9 * SECOND);
    }

    #[test]
    fn endpoints_of_an_account_share_its_pace_and_those_of_another_have_their_own() {
        let paces = AccountPaces::new(RateLimits { count: 1, bytes: 0 }, SECOND);
        let (one, other) = (Arc::from("1"), Arc::from("2"));
        let pace = paces.of(&one).expect("a pace");
        assert!(Arc::ptr_eq(&pace, &paces.of(&one).expect("a pace")));
        assert!(!Arc::ptr_eq(&pace, &paces.of(&other).expect("a pace")));
        let unlimited = AccountPaces::new(RateLimits::default(), SECOND);
        assert!(unlimited.of(&one).is_none());
    }
}

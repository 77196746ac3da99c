//! Rates by name: how many things, and how many bytes, each of many parties may spend a second.
//!
//! What is not spent within a burst is lost, what is spent beyond it has to be waited for. A party
//! that may spend at all may spend any amount at once, which it waits for afterwards: nothing is
//! too large for a rate.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a party may spend nothing and lose none of it, unless it is said otherwise: what honest
/// senders have gathered while something was away comes in one piece.
const BURST: Duration = Duration::from_secs(10);
/// Parties that are remembered before those are looked for that have spent nothing lately.
const FIRST_SWEEP: usize = 1024;

/// What each party may spend; 0 is without a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Things a second.
    pub count: u64,
    /// Bytes a second.
    pub bytes: u64,
}

/// Rates of the parties that have spent something lately.
#[derive(Debug)]
pub struct Rates<K> {
    limits: RateLimits,
    burst: Duration,
    parties: Mutex<Parties<K>>,
}

#[derive(Debug)]
struct Parties<K> {
    spent: HashMap<K, Spent>,
    sweep_at: usize,
}

/// Until when what a party has spent would take at its rate.
#[derive(Clone, Copy, Debug)]
struct Spent {
    count: Instant,
    bytes: Instant,
}

impl<K: Eq + Hash> Rates<K> {
    /// Rates with these limits for each party, which may spend ten seconds' worth at once.
    pub fn new(limits: RateLimits) -> Self {
        Self::bursting(limits, BURST)
    }

    /// Rates with these limits for each party, which may spend at once what it has not spent within
    /// `burst`.
    pub fn bursting(limits: RateLimits, burst: Duration) -> Self {
        Self {
            limits,
            burst,
            parties: Mutex::new(Parties {
                spent: HashMap::new(),
                sweep_at: FIRST_SWEEP,
            }),
        }
    }

    /// What each party may spend.
    pub fn limits(&self) -> RateLimits {
        self.limits
    }

    /// Whether there is no bound at all.
    pub fn is_unlimited(&self) -> bool {
        self.limits == RateLimits::default()
    }

    /// Spends `count` things of so many bytes if the party may spend anything now. Otherwise
    /// nothing is spent, and the error is how long it has to wait.
    pub fn spend(
        &self,
        party: K,
        (count, bytes): (u64, u64),
        now: Instant,
    ) -> Result<(), Duration> {
        if self.is_unlimited() {
            return Ok(());
        }
        let mut parties = self.parties();
        let spent = parties.of(party, now);
        match spent.wait(now, self.burst) {
            Duration::ZERO => {
                spent.add(&self.limits, (count, bytes), now);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Spends what is here already, whether the party may or not; returns how long it has to wait
    /// before it is to spend more.
    pub fn charge(&self, party: K, (count, bytes): (u64, u64), now: Instant) -> Duration {
        if self.is_unlimited() {
            return Duration::ZERO;
        }
        let mut parties = self.parties();
        let spent = parties.of(party, now);
        spent.add(&self.limits, (count, bytes), now);
        spent.wait(now, self.burst)
    }

    /// How long the party has to wait before it may spend anything.
    pub fn wait(&self, party: &K, now: Instant) -> Duration {
        if self.is_unlimited() {
            return Duration::ZERO;
        }
        let parties = self.parties();
        let spent = parties.spent.get(party);
        spent.map_or(Duration::ZERO, |spent| spent.wait(now, self.burst))
    }

    fn parties(&self) -> MutexGuard<'_, Parties<K>> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Parties<K> {
    fn of(&mut self, party: K, now: Instant) -> &mut Spent {
        if self.spent.len() >= self.sweep_at {
            // Who has nothing to wait for is as good as new.
            self.spent.retain(|_, spent| !spent.is_over(now));
            self.sweep_at = (2 * self.spent.len()).max(FIRST_SWEEP);
        }
        self.spent.entry(party).or_insert(Spent {
            count: now,
            bytes: now,
        })
    }
}

impl Spent {
    fn add(&mut self, limits: &RateLimits, (count, bytes): (u64, u64), now: Instant) {
        self.count = self.count.max(now) + time_of(count, limits.count);
        self.bytes = self.bytes.max(now) + time_of(bytes, limits.bytes);
    }

    fn wait(&self, now: Instant, burst: Duration) -> Duration {
        let until = self.count.max(self.bytes);
        until.saturating_duration_since(now + burst)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.count <= now && self.bytes <= now
    }
}

/// How long an amount takes at a rate.
fn time_of(amount: u64, a_second: u64) -> Duration {
    if a_second == 0 {
        return Duration::ZERO;
    }
    let ns = u128::from(amount) * 1_000_000_000 / u128::from(a_second);
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(count: u64, bytes: u64) -> Rates<&'static str> {
        Rates::new(RateLimits { count, bytes })
    }

    #[test]
    fn a_party_spends_a_burst_and_then_its_rate() {
        let now = Instant::now();
        for (limits, each) in [((10, 0), (1, 500)), ((0, 1000), (1, 100))] {
            let rates = rates(limits.0, limits.1);
            let spent = (0..1000).take_while(|_| rates.spend("a", each, now).is_ok());
            assert_eq!(spent.count(), 101, "{limits:?}");
            assert_eq!(rates.spend("a", each, now), Err(SECOND / 10));
            assert_eq!(rates.spend("b", each, now), Ok(()), "another");
            let later = now + SECOND;
            let spent = (0..1000).take_while(|_| rates.spend("a", each, later).is_ok());
            assert_eq!(spent.count(), 10, "{limits:?}");
            // What was not spent for longer than a burst is lost.
            let later = now + 1000 * SECOND;
            let spent = (0..1000).take_while(|_| rates.spend("a", each, later).is_ok());
            assert_eq!(spent.count(), 101, "{limits:?}");
        }
    }

    #[test]
    fn a_burst_is_as_long_as_it_is_said() {
        let now = Instant::now();
        for (burst, expected) in [(0, 1), (1, 11), (60, 601)] {
            let limits = RateLimits {
                count: 10,
                bytes: 0,
            };
            let rates = Rates::bursting(limits, burst * SECOND);
            let spent = (0..1000).take_while(|_| rates.spend("a", (1, 0), now).is_ok());
            assert_eq!(spent.count(), expected, "{burst} s");
        }
    }

    #[test]
    fn nothing_is_too_large_and_all_of_it_is_waited_for() {
        let now = Instant::now();
        let rates = rates(0, 1000);
        assert_eq!(rates.spend("a", (1, 50_000), now), Ok(()));
        assert_eq!(rates.spend("a", (1, 1), now), Err(40 * SECOND));
        assert_eq!(rates.wait(&"a", now + 30 * SECOND), 10 * SECOND);
        assert_eq!(rates.charge("a", (1, 1000), now + 30 * SECOND), 11 * SECOND);
        assert_eq!(rates.spend("a", (1, 1), now + 41 * SECOND), Ok(()));
        assert_eq!(rates.wait(&"b", now), Duration::ZERO);
    }

    #[test]
    fn without_a_limit_nothing_is_counted_and_who_spends_no_more_is_forgotten() {
        let now = Instant::now();
        let free = rates(0, 0);
        assert_eq!(free.spend("a", (u64::MAX, u64::MAX), now), Ok(()));
        assert!(free.parties().spent.is_empty());
        let rates = Rates::new(RateLimits { count: 1, bytes: 0 });
        for party in 0..10 * FIRST_SWEEP {
            let now = now + SECOND * u32::try_from(party).expect("a few");
            assert_eq!(rates.spend(party, (1, 1), now), Ok(()));
        }
        assert!(rates.parties().spent.len() <= FIRST_SWEEP);
    }
}

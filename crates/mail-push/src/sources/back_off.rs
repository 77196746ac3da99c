//! Delays before a server is tried again: they grow, and are drawn by lot, so that the listeners of
//! a server that comes back do not come all at once.

use std::ops::Range;
use std::time::Duration;

/// The delay after so many failures in a row: a random one up to the shortest, doubled for each.
pub fn delay(failures: u32, range: &Range<Duration>) -> Duration {
    let grown = range.start.saturating_mul(1 << failures.min(16));
    let longest = grown.min(range.end).max(range.start);
    // Without randomness of the system all are late by the same, which is no fault.
    let lot = getrandom::u32().unwrap_or(u32::MAX);
    longest.mul_f64(0.5 + f64::from(lot) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_the_longest_and_differ() {
        let range = Duration::from_secs(1)..Duration::from_mins(5);
        for (failures, longest) in [(0, 1), (1, 2), (5, 32), (9, 300), (u32::MAX, 300)] {
            let longest = Duration::from_secs(longest);
            let drawn: Vec<Duration> = (0..50).map(|_| delay(failures, &range)).collect();
            assert!(
                drawn
                    .iter()
                    .all(|one| (longest / 2..=longest).contains(one)),
                "{drawn:?}"
            );
            assert!(drawn.iter().any(|one| *one != drawn[0]));
        }
        let nothing = Duration::ZERO..Duration::ZERO;
        assert_eq!(delay(3, &nothing), Duration::ZERO);
    }
}

//! Hosts that have asked for time, as this node has heard it: nothing is sent to them until then.
//! The store has the same for all nodes, and through restarts.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most hosts that are remembered to have asked for time; with more, those are forgotten whose time
/// is over soonest.
const MAX_HOSTS: usize = 1000;

/// Until when each host has asked for time.
#[derive(Debug, Default)]
pub(super) struct HeldHosts(Mutex<HashMap<String, Instant>>);

impl HeldHosts {
    /// Sends nothing to a host for so long; a longer time that it has asked for before stays.
    pub(super) fn hold(&self, host: String, after: Duration) {
        let now = Instant::now();
        let mut held = self.hosts();
        if held.len() >= MAX_HOSTS && !held.contains_key(&host) {
            held.retain(|_, until| *until > now);
            let soonest = held.iter().min_by_key(|(_, until)| **until);
            let soonest = soonest.map(|(host, _)| host.clone());
            if held.len() >= MAX_HOSTS
                && let Some(soonest) = soonest
            {
                held.remove(&soonest);
            }
        }
        let until = held.entry(host).or_insert(now);
        *until = (*until).max(now + after);
    }

    /// How long nothing is sent to a host still; `None`: it may be asked.
    pub(super) fn left(&self, host: &str) -> Option<Duration> {
        let mut held = self.hosts();
        let left = held.get(host)?.checked_duration_since(Instant::now());
        if left.is_none_or(|left| left.is_zero()) {
            held.remove(host);
            return None;
        }
        left
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_time_cuts_no_longer_one_that_a_host_has_asked_for() {
        let hosts = HeldHosts::default();
        let hours = Duration::from_hours;
        for (asked, least) in [(2, 1), (1, 1), (4, 3), (0, 3)] {
            hosts.hold("slow".to_owned(), hours(asked));
            let left = hosts.left("slow").expect("it is held");
            assert!(left > hours(least), "{asked} h: {left:?}");
        }
        hosts.hold("quick".to_owned(), Duration::ZERO);
        assert_eq!(hosts.left("quick"), None);
        assert_eq!(hosts.left("other"), None);
    }

    #[test]
    fn hosts_whose_time_is_over_soonest_are_forgotten_first() {
        let hosts = HeldHosts::default();
        for number in 0..=MAX_HOSTS {
            let after = Duration::from_hours(u64::try_from(number).expect("a number") + 1);
            hosts.hold(number.to_string(), after);
        }
        assert_eq!(hosts.hosts().len(), MAX_HOSTS);
        assert!(hosts.left("0").is_none() && hosts.left("1").is_some());
    }
}

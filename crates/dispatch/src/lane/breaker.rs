//! The circuit breaker of an endpoint: after so many failures in a row nothing is sent any more but
//! a probe now and then.

use std::time::{Duration, Instant};

/// Failures in a row that open the breaker, of attempts that may go well later.
const OPENS_AFTER: u32 = 10;
/// How long after the breaker has opened its first probe may be made.
const PROBE_FIRST: Duration = Duration::from_secs(5);
/// Longest time until the next probe: each probe that fails doubles the time.
const PROBE_SLOWEST: Duration = Duration::from_mins(5);

/// The breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// Everything is sent.
    Closed {
        /// In a row.
        failures: u32,
    },
    /// Nothing is sent before this time, and then one delivery.
    Open {
        probe_at: Instant,
        delay: Duration,
        /// Whether a probe is under way.
        is_probing: bool,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Whether a delivery may be sent now; where it is open, this is the probe.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open {
                probe_at,
                is_probing,
                ..
            } => {
                let allows = !*is_probing && now >= *probe_at;
                *is_probing |= allows;
                allows
            }
        }
    }

    /// The probe has come to nothing: another one may be made.
    pub(crate) fn abandon_probe(&mut self) {
        if let Self::Open { is_probing, .. } = self {
            *is_probing = false;
        }
    }

    /// The probe was not made: there is none before that time.
    pub(crate) fn put_off(&mut self, until: Instant) {
        self.abandon_probe();
        if let Self::Open { probe_at, .. } = self {
            *probe_at = until.max(*probe_at);
        }
    }

    /// Whether nothing has failed since the last answer.
    pub(crate) fn is_fresh(&self) -> bool {
        *self == Self::default()
    }

    /// When to ask again; `None`: now, or when the probe has ended.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        match self {
            Self::Open {
                probe_at,
                is_probing: false,
                ..
            } => Some(*probe_at),
            _ => None,
        }
    }

    /// The endpoint has answered, with success or a refusal. `true`: it was open.
    pub(crate) fn answered(&mut self) -> bool {
        let was_open = self.is_open();
        *self = Self::default();
        was_open
    }

    /// An attempt has failed. `true`: it opens now.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        match self {
            Self::Closed { failures } => {
                *failures += 1;
                if *failures < OPENS_AFTER {
                    return false;
                }
                *self = Self::Open {
                    probe_at: now + PROBE_FIRST,
                    delay: PROBE_FIRST,
                    is_probing: false,
                };
                true
            }
            // Others were under way when it opened.
            Self::Open {
                is_probing: false, ..
            } => false,
            Self::Open {
                probe_at,
                delay,
                is_probing,
            } => {
                *delay = (*delay * 2).min(PROBE_SLOWEST);
                *probe_at = now + *delay;
                *is_probing = false;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_a_probe() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            assert!(!breaker.failed(start));
        }
        assert!(!breaker.answered(), "a success begins anew");
        for _ in 0..9 {
            assert!(!breaker.failed(start));
        }
        assert!(breaker.failed(start));
        assert!(!breaker.allows(start) && !breaker.failed(start));
        let probe = breaker.probe_at().expect("a probe");
        assert_eq!(probe, start + PROBE_FIRST);
        assert!(breaker.allows(probe));
        assert!(!breaker.allows(probe), "one probe at a time");
        assert!(!breaker.failed(probe));
        assert_eq!(breaker.probe_at(), Some(probe + 2 * PROBE_FIRST));
        assert!(breaker.allows(probe + 2 * PROBE_FIRST));
        assert!(breaker.answered());
        assert!(breaker.allows(start) && !breaker.is_open());
    }

    #[test]
    fn probes_become_rare_and_never_cease() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..10 {
            breaker.failed(now);
        }
        for _ in 0..20 {
            let probe = breaker.probe_at().expect("a probe");
            assert!(probe > now && probe <= now + PROBE_SLOWEST);
            now = probe;
            assert!(breaker.allows(now));
            breaker.failed(now);
        }
        assert_eq!(breaker.probe_at(), Some(now + PROBE_SLOWEST));
    }
}

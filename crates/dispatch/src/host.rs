//! Hosts: what many endpoints have in common is a host and a port, and when that is down none of
//! them has to find it out for itself.
//!
//! A host is down after failures in a row, without any answer, of several endpoints: one alone may
//! be wrong itself, and has a breaker of its own. While it is down, endpoints that have failed wait
//! for its probe, which they share. One that has not failed may try, few at a time: so no
//! endpoint keeps a host from others by failing there. Any answer, whatever it says, ends it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dovecast_notification::EndpointId;

use crate::hanging::AtHost;
use crate::lane::breaker::Breaker;
use crate::locks::Lock;

/// Failures of one endpoint that count for its host. The breaker opens after ten: so they are of
/// three endpoints at least.
const COUNTED_FAILURES: u32 = 4;
/// Attempts at a host that is down by endpoints that have not failed, at a time.
const TRIALS: usize = 4;
/// When an endpoint may ask again whose trial has to wait for others.
const TRIAL_WAIT: Duration = Duration::from_secs(1);
/// How many hosts are remembered before those that are up and unused are forgotten.
const KEPT_HOSTS: usize = 1_000;
/// For how long a host that is down and unused is remembered.
const DOWN_KEPT: Duration = Duration::from_mins(30);

/// All hosts that are used, and those that are down.
#[derive(Debug)]
pub(crate) struct Hosts(Lock<Known>);

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<String, Arc<Host>>,
    /// With so many, it is looked for those that may be forgotten.
    most: usize,
}

/// A host and a port.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    /// Whether nothing has failed since the last answer: then attempts need not wait for the lock.
    is_quiet: AtomicBool,
    state: Lock<State>,
    /// Attempts that hang.
    pub(crate) hanging: Arc<AtHost>,
}

#[derive(Debug, Default)]
struct State {
    breaker: Breaker,
    /// Failures in a row, by endpoint.
    failures: BTreeMap<EndpointId, u32>,
    /// Trials that are under way.
    trials: usize,
}

/// An attempt at a host. What is dropped without an outcome says nothing about the host.
#[derive(Debug)]
pub(crate) struct Visit {
    host: Arc<Host>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The host was up when it began.
    Usual,
    Trial,
    Probe,
}

impl Default for Hosts {
    fn default() -> Self {
        Self(Lock::new("hosts", Known::default()))
    }
}

impl Hosts {
    /// The host of that name, which is new if it was not known.
    pub(crate) fn get(&self, name: &str) -> Arc<Host> {
        let crowd: Vec<Arc<Host>> = {
            let mut known = self.0.lock();
            if let Some(host) = known.by_name.get(name) {
                return Arc::clone(host);
            }
            let host = Arc::new(Host::new(name));
            known.by_name.insert(name.to_owned(), Arc::clone(&host));
            if known.by_name.len() <= known.most.max(KEPT_HOSTS) {
                return host;
            }
            known.by_name.values().cloned().collect()
        };
        let now = Instant::now();
        let kept: Vec<bool> = crowd
            .iter()
            .map(|host| host.is_worth_keeping(now))
            .collect();
        let mut known = self.0.lock();
        for (host, is_kept) in crowd.into_iter().zip(kept) {
            // One reference is ours, one that of the map.
            if !is_kept && Arc::strong_count(&host) <= 2 {
                known.by_name.remove(&host.name);
            }
        }
        known.most = 2 * known.by_name.len();
        let host = known.by_name.entry(name.to_owned());
        Arc::clone(host.or_insert_with(|| Arc::new(Host::new(name))))
    }
}

impl Host {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_quiet: AtomicBool::new(true),
            state: Lock::new("host", State::default()),
            hanging: Arc::default(),
        }
    }

    fn is_worth_keeping(&self, now: Instant) -> bool {
        let probe_at = self.state.lock().breaker.probe_at();
        probe_at.is_some_and(|at| now.saturating_duration_since(at) < DOWN_KEPT)
    }

    /// Lets an attempt begin, or says when to ask again. `is_fresh`: the endpoint has not failed
    /// since it last answered.
    pub(crate) fn admit(self: &Arc<Self>, is_fresh: bool, now: Instant) -> Result<Visit, Instant> {
        let visit = |kind| Visit {
            host: Arc::clone(self),
            kind,
        };
        if self.is_quiet.load(Ordering::Acquire) {
            return Ok(visit(Kind::Usual));
        }
        let mut state = self.state.lock();
        if !state.breaker.is_open() {
            return Ok(visit(Kind::Usual));
        }
        if is_fresh && state.trials < TRIALS {
            state.trials += 1;
            return Ok(visit(Kind::Trial));
        }
        if is_fresh {
            return Err(now + TRIAL_WAIT);
        }
        if state.breaker.allows(now) {
            return Ok(visit(Kind::Probe));
        }
        Err(state
            .breaker
            .probe_at()
            .unwrap_or(now + TRIAL_WAIT)
            .max(now + TRIAL_WAIT))
    }
}

impl Visit {
    /// The host has answered, whatever it said.
    pub(crate) fn answered(mut self) {
        if self.kind == Kind::Usual && self.host.is_quiet.load(Ordering::Acquire) {
            return;
        }
        let host = Arc::clone(&self.host);
        let was_down = {
            let mut state = host.state.lock();
            self.end(&mut state);
            state.failures.clear();
            host.is_quiet.store(true, Ordering::Release);
            state.breaker.answered()
        };
        if was_down {
            tracing::info!(host = host.name, "a host answers again");
        }
    }

    /// Nothing has answered.
    pub(crate) fn failed(mut self, endpoint: EndpointId, now: Instant) {
        let host = Arc::clone(&self.host);
        let is_down_now = {
            let mut state = host.state.lock();
            let kind = self.end(&mut state);
            host.is_quiet.store(false, Ordering::Release);
            if state.breaker.is_open() {
                // What began before it was down, or was a trial, says nothing new.
                if kind == Kind::Probe {
                    state.breaker.failed(now);
                }
                false
            } else {
                let failures = state.failures.entry(endpoint).or_default();
                *failures += 1;
                let opens = *failures <= COUNTED_FAILURES && state.breaker.failed(now);
                if opens {
                    state.failures.clear();
                }
                opens
            }
        };
        if is_down_now {
            tracing::warn!(
                host = host.name,
                "a host does not answer; its endpoints are only probed until it does"
            );
        }
    }

    /// Gives back what it has taken; says what it was.
    fn end(&mut self, state: &mut State) -> Kind {
        let kind = std::mem::replace(&mut self.kind, Kind::Usual);
        if kind == Kind::Trial {
            state.trials -= 1;
        }
        kind
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.kind != Kind::Usual {
            let host = Arc::clone(&self.host);
            let mut state = host.state.lock();
            if self.end(&mut state) == Kind::Probe {
                state.breaker.abandon_probe();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn fail(host: &Arc<Host>, endpoint: u128, now: Instant) {
        let visit = host.admit(true, now).expect("it is up");
        visit.failed(EndpointId(Uuid::from_u128(endpoint)), now);
    }

    fn down(now: Instant) -> Arc<Host> {
        let host = Hosts::default().get("one:443");
        for number in 0..10 {
            fail(&host, number, now);
        }
        host
    }

    #[test]
    fn one_endpoint_that_fails_does_not_make_a_host_be_down() {
        let (now, host) = (Instant::now(), Hosts::default().get("one:443"));
        for _ in 0..100 {
            fail(&host, 1, now);
            fail(&host, 2, now);
        }
        assert_eq!(host.admit(false, now).expect("it is up").kind, Kind::Usual);
        fail(&host, 3, now);
        fail(&host, 3, now);
        assert!(host.admit(false, now).is_err());
    }

    #[test]
    fn those_that_have_failed_share_one_probe_and_an_answer_ends_it() {
        let now = Instant::now();
        let host = down(now);
        let probe_at = host.admit(false, now).expect_err("it is down");
        assert!(probe_at > now);
        let probe = host.admit(false, probe_at).expect("the probe");
        assert!(host.admit(false, probe_at).is_err(), "one at a time");
        probe.failed(EndpointId(Uuid::from_u128(1)), probe_at);
        let next = host.admit(false, probe_at).expect_err("it is down");
        assert!(next - probe_at > probe_at - now, "the next one is later");
        // What panics or is cut off says nothing, and leaves room for another.
        drop(host.admit(false, next).expect("the probe"));
        host.admit(false, next).expect("the probe").answered();
        assert_eq!(host.admit(false, next).expect("it is up").kind, Kind::Usual);
    }

    #[test]
    fn an_endpoint_that_has_not_failed_may_try_few_at_a_time() {
        let now = Instant::now();
        let host = down(now);
        let mut trials: Vec<Visit> = (0..TRIALS)
            .map(|_| host.admit(true, now).expect("a trial"))
            .collect();
        assert!(host.admit(true, now).is_err());
        for (number, trial) in trials.drain(1..).enumerate() {
            trial.failed(EndpointId(Uuid::from_u128(number as u128)), now);
        }
        let probe_at = host.admit(false, now).expect_err("it is down");
        assert!(
            probe_at <= now + Duration::from_secs(5),
            "trials do not put the probe off"
        );
        trials.remove(0).answered();
        assert_eq!(host.admit(false, now).expect("it is up").kind, Kind::Usual);
    }

    #[test]
    fn hosts_that_are_up_and_unused_are_forgotten_and_those_that_are_down_are_not() {
        let (hosts, now) = (Hosts::default(), Instant::now());
        for number in 0..10 {
            fail(&hosts.get("down:1"), number, now);
        }
        for number in 0..10 * KEPT_HOSTS {
            hosts.get(&format!("up:{number}"));
        }
        assert!(hosts.0.lock().by_name.len() <= KEPT_HOSTS + 1);
        assert!(hosts.get("down:1").admit(false, now).is_err());
    }
}

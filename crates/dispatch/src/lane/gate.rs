//! The gate of a lane: whether a delivery may begin now, and else when to ask again.
//!
//! The gate asks, in this order: whether the endpoint is paused, whether its breaker is open,
//! whether it is held because its host is down or too many attempts hang, whether it is active,
//! whether its rate is used up, whether the rate of its account is. An open breaker lets one
//! delivery through now and then, the probe. The host itself is asked after the gate, by the
//! worker that has the delivery in hand (`Hand::admit`); what the host does not admit holds the
//! gate for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::Breaker;
use super::pace::Pace;
use crate::endpoint::Endpoint;

/// What an endpoint takes, by itself: what a person has said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Deliveries, now.
    Now,
    /// Deliveries, when it is not paused any more.
    Later,
    /// Nothing: what is for it is dropped.
    Nothing,
}

impl Endpoint {
    pub(crate) fn takes(&self) -> Takes {
        match (self.is_active, self.is_paused) {
            (false, _) => Takes::Nothing,
            (true, true) => Takes::Later,
            (true, false) => Takes::Now,
        }
    }

    /// Whether what is for the endpoint is dropped.
    pub(crate) fn takes_nothing(&self) -> bool {
        self.takes() == Takes::Nothing
    }
}

/// How long an endpoint may miss its turn and still have it: timers are late on a busy machine.
const TURN_KEPT: Duration = Duration::from_secs(1);

/// The gate.
#[derive(Debug)]
pub(crate) struct Gate {
    endpoint: Arc<Endpoint>,
    breaker: Breaker,
    pace: Pace,
    /// The turn of this endpoint among those of its account.
    turn: Option<Instant>,
    /// When something may begin again, because the host is down or too much hangs.
    held_until: Option<Instant>,
}

/// Why a delivery may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// The rate is used up until then.
    Until(Instant),
    /// What the account may have is used up; it is the endpoint's turn then.
    OutOfTurn(Instant),
    /// Something has to happen first.
    Closed,
}

/// What an attempt did to the breaker.
pub(crate) struct Turned {
    pub(crate) opens: bool,
    pub(crate) closes: bool,
    pub(crate) is_open: bool,
    /// When the next probe may begin, where it is open.
    pub(crate) probe_at: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self {
            endpoint,
            breaker: Breaker::default(),
            pace: Pace::default(),
            turn: None,
            held_until: None,
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Takes over what the endpoint is now; `true`: what waits may begin, because it is not paused
    /// any more, or was saved anew: what has failed before says nothing about it then.
    pub(crate) fn follow(&mut self, endpoint: &Arc<Endpoint>) -> bool {
        let (was_paused, saved_ms) = (self.is_paused(), self.endpoint.saved_ms);
        if !Arc::ptr_eq(&self.endpoint, endpoint) {
            self.endpoint = Arc::clone(endpoint);
        }
        let is_anew = saved_ms != endpoint.saved_ms;
        if is_anew {
            self.close_breaker();
            self.held_until = None;
        }
        (is_anew || was_paused) && !self.is_paused()
    }

    /// Opens the gate for good, because the endpoint is gone: what waits for it is discarded
    /// behind it. `true`: that is news.
    pub(crate) fn discard(&mut self, now: Instant) -> bool {
        let is_news = !self.endpoint.takes_nothing() || self.is_shut(now);
        if is_news {
            let mut gone = Endpoint::clone(&self.endpoint);
            (gone.is_active, gone.is_paused) = (false, false);
            *self = Self::new(Arc::new(gone));
        }
        is_news
    }

    /// Whether a person has paused the endpoint. One that is not active discards what waits for
    /// it only when it is not paused either.
    pub(crate) fn is_paused(&self) -> bool {
        self.endpoint.is_paused
    }

    /// Whether what waits has to wait for a person, for the breaker, or for the host.
    pub(crate) fn is_shut(&self, now: Instant) -> bool {
        self.is_paused() || self.is_tried_only(now)
    }

    /// Whether nothing may begin, not even a probe.
    pub(crate) fn is_barred(&self, now: Instant) -> bool {
        let may_probe = self.breaker.probe_at().is_some_and(|at| at <= now);
        self.is_paused() || self.is_held(now) || (self.breaker.is_open() && !may_probe)
    }

    /// Whether no more than one delivery is worth reading: enough to try with.
    pub(crate) fn is_tried_only(&self, now: Instant) -> bool {
        self.breaker.is_open() || self.is_held(now)
    }

    /// Whether only probes may begin.
    pub(crate) fn is_open_breaker(&self) -> bool {
        self.breaker.is_open()
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    /// Until when the gate is held, if it is.
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|_| self.is_held(now))
    }

    /// Lets nothing begin before that time.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.held_until = Some(until);
        self.breaker.put_off(until);
    }

    /// Lets a delivery of so many bytes begin. What is discarded does not count for a rate.
    pub(crate) fn pass(&mut self, bytes: usize, now: Instant) -> Result<(), Shut> {
        if self.is_shut(now) {
            return Err(Shut::Closed);
        }
        if self.endpoint.takes_nothing() {
            return Ok(());
        }
        if self.endpoint.rate_limit.is_some() {
            self.pace.check(now).map_err(Shut::Until)?;
        }
        // Taken last: a turn that is waited for is nobody else's.
        self.take_turn(bytes, now)?;
        if let Some(limit) = self.endpoint.rate_limit {
            self.pace.take(limit, now);
        }
        Ok(())
    }

    /// Takes the endpoint's turn among those of its account, or waits for it.
    fn take_turn(&mut self, bytes: usize, now: Instant) -> Result<(), Shut> {
        let Some(account) = &self.endpoint.account_pace else {
            return Ok(());
        };
        // A turn that was missed for long is none: it would be saved up.
        let is_kept = |turn: &Instant| now.saturating_duration_since(*turn) <= TURN_KEPT;
        let turn = self.turn.take().filter(is_kept);
        let turn = turn.unwrap_or_else(|| account.turn(bytes, now));
        if turn > now {
            self.turn = Some(turn);
            return Err(Shut::OutOfTurn(turn));
        }
        Ok(())
    }

    /// Lets a delivery begin as the probe of an open breaker, if it is time for one.
    pub(crate) fn pass_probe(&mut self, now: Instant) -> bool {
        self.breaker.allows(now)
    }

    /// When the next probe may begin; `None`: now, or when the present one has ended.
    pub(crate) fn probe_at(&self) -> Option<Instant> {
        self.breaker.probe_at()
    }

    /// An attempt has ended.
    pub(crate) fn turn(&mut self, is_failure: bool, now: Instant) -> Turned {
        let (opens, closes) = if is_failure {
            (self.breaker.failed(now), false)
        } else {
            (false, self.breaker.answered())
        };
        Turned {
            opens,
            closes,
            is_open: self.breaker.is_open(),
            probe_at: self.breaker.probe_at(),
        }
    }

    /// Closes the breaker: the endpoint was saved anew, or what is for it is discarded, which may
    /// have been the probe.
    pub(crate) fn close_breaker(&mut self) {
        self.breaker = Breaker::default();
    }

    /// Whether nothing has failed since the endpoint last answered.
    pub(crate) fn is_fresh(&self) -> bool {
        self.breaker.is_fresh()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use dovecast_log::RateLimits;
    use dovecast_notification::EndpointId;
    use uuid::Uuid;

    use super::*;
    use crate::account_pace::AccountPaces;
    use crate::driver::nowhere;

    fn endpoint(change: impl FnOnce(&mut Endpoint)) -> Arc<Endpoint> {
        let id = EndpointId(Uuid::nil());
        let mut endpoint = Endpoint::new(id, "1".into(), nowhere());
        change(&mut endpoint);
        Arc::new(endpoint)
    }

    /// Whether a delivery may begin, whether the lane is shut, barred, read for a try only.
    #[track_caller]
    fn check(gate: &mut Gate, now: Instant, expected: (Result<(), Shut>, [bool; 3])) {
        let states = [
            gate.is_shut(now),
            gate.is_barred(now),
            gate.is_tried_only(now),
        ];
        assert_eq!((gate.pass(1, now), states), expected);
    }

    #[test]
    fn each_reason_to_wait_shuts_the_gate_and_opens_it_again() {
        const OPEN: (Result<(), Shut>, [bool; 3]) = (Ok(()), [false; 3]);
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let active = endpoint(|_| {});
        let mut gate = Gate::new(Arc::clone(&active));
        check(&mut gate, now, OPEN);

        let paused = endpoint(|endpoint| endpoint.is_paused = true);
        assert!(!gate.follow(&paused));
        check(&mut gate, now, (Err(Shut::Closed), [true, true, false]));
        assert!(gate.follow(&active), "it goes on");
        check(&mut gate, now, OPEN);

        gate.hold(now + second);
        assert_eq!(gate.held_until(now), Some(now + second));
        check(&mut gate, now, (Err(Shut::Closed), [true; 3]));
        check(&mut gate, now + second, OPEN);
        assert_eq!(gate.held_until(now + second), None);

        while !gate.turn(true, now).opens {}
        check(&mut gate, now, (Err(Shut::Closed), [true; 3]));
        let probe = gate.probe_at().expect("a probe");
        assert!(!gate.pass_probe(now));
        check(&mut gate, probe, (Err(Shut::Closed), [true, false, true]));
        assert!(gate.pass_probe(probe) && !gate.pass_probe(probe));
        assert!(gate.turn(false, probe).closes);
        check(&mut gate, probe, OPEN);

        gate.follow(&endpoint(|endpoint| {
            endpoint.rate_limit = NonZeroU32::new(1);
        }));
        check(&mut gate, probe, OPEN);
        let Err(Shut::Until(at)) = gate.pass(1, probe) else {
            panic!("one in a second");
        };
        assert!(at > probe && at <= probe + second && !gate.is_shut(probe));
        check(&mut gate, at, OPEN);
    }

    #[test]
    fn what_has_failed_before_an_endpoint_is_saved_anew_shuts_nothing() {
        let now = Instant::now();
        let mut gate = Gate::new(endpoint(|_| {}));
        while !gate.turn(true, now).opens {}
        gate.hold(now + Duration::from_mins(1));
        assert!(!gate.follow(&endpoint(|endpoint| endpoint.concurrency = 2)));
        assert!(gate.is_shut(now) && gate.is_barred(now));
        let saved = endpoint(|endpoint| endpoint.saved_ms = 1);
        assert!(gate.follow(&saved), "what waits may begin");
        assert!(gate.is_fresh() && !gate.is_shut(now) && gate.pass(1, now).is_ok());
        assert!(!gate.follow(&saved), "once");
        let paused = endpoint(|endpoint| (endpoint.saved_ms, endpoint.is_paused) = (2, true));
        assert!(!gate.follow(&paused) && gate.is_shut(now));
    }

    #[test]
    fn endpoints_of_an_account_take_turns_and_none_is_saved_up() {
        let second = Duration::from_secs(1);
        let paces = AccountPaces::new(RateLimits { count: 1, bytes: 0 }, Duration::ZERO);
        let pace = paces.of(&Arc::from("1"));
        assert!(pace.is_some());
        let mut gates: Vec<Gate> = (0..3)
            .map(|_| Gate::new(endpoint(|endpoint| endpoint.account_pace = pace.clone())))
            .collect();
        let now = Instant::now();
        let mut turns = Vec::new();
        for gate in &mut gates {
            turns.push(match gate.pass(1, now) {
                Ok(()) => now,
                Err(Shut::OutOfTurn(at)) => at,
                Err(shut) => panic!("{shut:?}"),
            });
        }
        assert!(turns[0] == now && turns[2] - turns[1] == second);
        // Who asks again has the turn that it had.
        assert_eq!(gates[2].pass(1, now), Err(Shut::OutOfTurn(turns[2])));
        assert_eq!(gates[1].pass(1, turns[1]), Ok(()));
        assert_eq!(
            gates[1].pass(1, turns[1]),
            Err(Shut::OutOfTurn(turns[2] + second))
        );
        // An endpoint with a rate of its own takes no turn before that allows one.
        let mut slow = Gate::new(endpoint(|endpoint| {
            endpoint.account_pace = pace.clone();
            endpoint.rate_limit = NonZeroU32::new(1);
        }));
        let later = turns[2] + 100 * second;
        assert_eq!(slow.pass(1, later), Ok(()));
        assert!(matches!(slow.pass(1, later), Err(Shut::Until(_))));
        let next = gates[0].pass(1, later);
        assert_eq!(next, Err(Shut::OutOfTurn(later + second)));
        // The turn of the third was missed long ago: it has another.
        let next = gates[2].pass(1, later);
        assert_eq!(next, Err(Shut::OutOfTurn(later + 2 * second)));
    }

    #[test]
    fn what_waits_for_an_endpoint_that_is_gone_passes() {
        let now = Instant::now();
        let mut gate = Gate::new(endpoint(|endpoint| {
            endpoint.is_paused = true;
            endpoint.rate_limit = NonZeroU32::new(1);
        }));
        assert!(gate.discard(now) && !gate.discard(now));
        assert_eq!(gate.endpoint().takes(), Takes::Nothing);
        for _ in 0..3 {
            assert_eq!(gate.pass(1, now), Ok(()));
        }
    }
}

//! Which endpoints a notification is for: what is cheap to tell is told at once, the rest is
//! evaluated elsewhere, and offered then.
//!
//! The directory is locked to collect candidates, never while a condition is run. What exceeds what
//! an account may have evaluated is left to a range of the log of each endpoint: nothing is lost,
//! and only who has such conditions waits for them.

use std::sync::Arc;

use dovecast_log::Log;
use dovecast_notification::condition::{Condition, Verdict};
use dovecast_notification::filter::Mismatch;
use dovecast_notification::{EndpointId, Notification};

use crate::endpoint::Endpoint;
use crate::evaluator::{AtOnce, Verdicts};
use crate::ledger::{Happened, Ledger};
use crate::live::Live;
use crate::panics::{caught, caught_now};
use crate::reports::Report;
use crate::shared::Shared;
use crate::stats::count;

/// An endpoint that gets a notification if its condition holds.
type Candidate = (Arc<Endpoint>, Arc<Condition>);

/// Endpoints of a notification.
#[derive(Default)]
pub(crate) struct Found {
    /// Endpoints that get the notification.
    pub(crate) wanted: Vec<Arc<Endpoint>>,
    /// For these it is if the condition holds, which costs too much to be told at once.
    pub(crate) costly: Vec<Candidate>,
}

/// How far a notification was offered after its conditions were evaluated.
enum Offering {
    /// To each endpoint whose condition holds.
    Done,
    /// Not to all: there are no verdicts, or the dispatcher stops.
    Unknown,
}

/// A notification whose costly conditions are evaluated: one more thing to be done of what was read
/// together. However that ends, it is left to ranges of the endpoints that are not decided about,
/// and is done with then.
struct Undecided<L: Log + Clone, S: Ledger> {
    shared: Arc<Shared<L, S>>,
    live: Live,
    /// Endpoints that are not decided about.
    candidates: Vec<Candidate>,
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.costly.is_empty()
    }
}

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Finds the endpoints of a notification.
    pub(crate) fn find(&self, notification: &Notification, found: &mut Found) {
        let mut conditional: Vec<Candidate> = Vec::new();
        {
            let entries = self.directory.read();
            entries
                .index()
                .candidates(notification, |endpoint, condition| match condition {
                    None => found.wanted.push(Arc::clone(endpoint)),
                    Some(condition) => {
                        conditional.push((Arc::clone(endpoint), Arc::clone(condition)));
                    }
                });
        }
        if conditional.is_empty() {
            return;
        }
        let mut at_once = AtOnce::new(notification);
        for (endpoint, condition) in conditional {
            match at_once.evaluate(&condition) {
                Some(Verdict::Holds) => found.wanted.push(endpoint),
                Some(Verdict::Fails) => {}
                Some(Verdict::TooCostly) => self.not_run(notification, endpoint.id),
                None if endpoint.takes_nothing() => count(&self.counters.dropped, 1),
                None => found.costly.push((endpoint, condition)),
            }
        }
    }

    /// Has conditions evaluated, and offers the notification to endpoints whose condition holds;
    /// leaves it to ranges where there is no room for that, or the endpoint has to read its ranges
    /// anyway.
    pub(crate) fn find_later(self: &Arc<Self>, live: Live, costly: Vec<Candidate>) {
        let notification = &live.notification;
        let (behind, mut candidates): (Vec<Candidate>, Vec<Candidate>) = costly
            .into_iter()
            // What would be told later would come out of order.
            .partition(|(endpoint, _)| endpoint.is_ordered || self.is_behind(endpoint.id));
        self.leave_all(&live, behind);
        let conditions = candidates
            .iter()
            .map(|(_, condition)| Arc::clone(condition));
        let offered = self.evaluator.offer(notification, conditions.collect());
        let taken = offered.as_ref().map_or(0, |(count, _)| *count);
        let left = candidates.split_off(taken);
        if let Some((first, _)) = left.first()
            && self.reports.is_due(&notification.account, Report::Deferred)
        {
            tracing::warn!(
                account.number = &*notification.account, endpoint.id = %first.id, endpoints = left.len(), notification.id = %notification.id,
                "conditions of an account exceed what may be evaluated for it, endpoints get notifications later"
            );
        }
        count(&self.counters.conditions_deferred, left.len() as u64);
        self.leave_all(&live, left);
        if let Some((_, verdicts)) = offered {
            let undecided = Undecided::new(self, live, candidates);
            tokio::spawn(undecided.decide(verdicts));
        }
    }

    /// Leaves a notification for whose body there is no room to ranges of all endpoints that may
    /// want it.
    pub(crate) fn crowd_out(self: &Arc<Self>, live: &Live, found: Found) {
        let costly = found.costly.into_iter().map(|(endpoint, _)| endpoint);
        for endpoint in found.wanted.into_iter().chain(costly) {
            if endpoint.takes_nothing() {
                count(&self.counters.dropped, 1);
            } else {
                count(&self.counters.crowded_out, 1);
                self.leave_live(&endpoint, live.item(&self.recorder, &endpoint));
            }
        }
    }

    fn leave_all(self: &Arc<Self>, live: &Live, candidates: Vec<Candidate>) {
        for (endpoint, _) in candidates {
            self.leave_live(&endpoint, live.item(&self.recorder, &endpoint));
        }
    }

    /// Offers a notification to endpoints whose condition holds.
    async fn offer_to(
        self: &Arc<Self>,
        live: &Live,
        candidates: &[Candidate],
        verdicts: &[Verdict],
    ) -> Offering {
        let mut is_counted = live.is_matched;
        for ((endpoint, _), verdict) in candidates.iter().zip(verdicts) {
            match verdict {
                Verdict::Holds => {
                    if !self.room.until_free(|| self.is_stopping()).await {
                        return Offering::Unknown;
                    }
                    if !std::mem::replace(&mut is_counted, true) {
                        count(&self.counters.matched, 1);
                    }
                    match self.is_in_range(endpoint, live) {
                        // The reader of the range asks for the condition, too.
                        Some(true) => count(&self.counters.deferred, 1),
                        // What comes behind it is part of a range already, which may be delivered
                        // by now.
                        Some(false) => self.owe(endpoint, live),
                        None => self.offer_read(endpoint, live).await,
                    }
                }
                Verdict::Fails => {}
                Verdict::TooCostly => self.not_run(&live.notification, endpoint.id),
            }
        }
        Offering::Done
    }

    /// Writes down that a notification is owed singly, and due.
    fn owe(&self, endpoint: &Endpoint, live: &Live) {
        let item = live.item(&self.recorder, endpoint);
        let owed = item.owed(self.now_ms(), "");
        self.recorder.note(Happened::Owed(owed));
        self.recorder.hold(item.held.clone());
        item.settle();
    }

    /// Whether a notification that is read again is for an endpoint; costly conditions wait for
    /// their turn.
    pub(crate) async fn wants(&self, id: EndpointId, notification: &Notification) -> bool {
        let Some(filter) = self.directory.filter(id) else {
            return false;
        };
        let mismatch = self.evaluator.mismatch(&filter, notification).await;
        if mismatch == Some(Mismatch::Cost) {
            self.not_run(notification, id);
        }
        mismatch.is_none()
    }

    /// Whether a notification is part of a range of an endpoint; `None`: the endpoint is not
    /// behind, or takes nothing.
    fn is_in_range(&self, endpoint: &Endpoint, live: &Live) -> Option<bool> {
        let lane = self.known_lane(endpoint.id);
        let lane = lane.filter(|_| !endpoint.takes_nothing())?;
        let state = lane.state();
        let behind = state.behind.as_ref()?;
        Some(behind.covers(&live.topic, live.partition, live.offset))
    }

    fn is_behind(&self, id: EndpointId) -> bool {
        let lane = self.known_lane(id);
        lane.is_some_and(|lane| lane.state().behind.is_some())
    }

    fn not_run(&self, notification: &Notification, endpoint: EndpointId) {
        count(&self.counters.conditions_not_run, 1);
        if self.reports.is_due(&notification.account, Report::NotRun) {
            tracing::warn!(
                account.number = &*notification.account, endpoint.id = %endpoint, notification.id = %notification.id,
                "the condition of an endpoint is not run, it would cost too much on a notification of this size"
            );
        }
    }
}

impl<L: Log + Clone, S: Ledger> Undecided<L, S> {
    fn new(shared: &Arc<Shared<L, S>>, live: Live, candidates: Vec<Candidate>) -> Self {
        live.read_together.add();
        Self {
            shared: Arc::clone(shared),
            live,
            candidates,
        }
    }

    /// Offers the notification to endpoints whose condition holds, when that is known.
    async fn decide(mut self, verdicts: Verdicts) {
        let Ok(verdicts) = verdicts.await else {
            return;
        };
        let offering = self
            .shared
            .offer_to(&self.live, &self.candidates, &verdicts);
        let offered = caught(offering).await;
        match offered {
            Ok(Offering::Done) => self.candidates.clear(),
            // The reader of the ranges asks again; what was offered already comes twice.
            Ok(Offering::Unknown) => {}
            Err(panicked) => self.shared.panicked("matching", &panicked),
        }
    }
}

impl<L: Log + Clone, S: Ledger> Drop for Undecided<L, S> {
    fn drop(&mut self) {
        if !self.candidates.is_empty() && self.shared.is_stopping() {
            // What is not committed is read again.
            return;
        }
        let candidates = std::mem::take(&mut self.candidates);
        let (shared, live) = (&self.shared, &self.live);
        for (endpoint, _) in candidates {
            // A delivery that is dropped by a panic is owed.
            let leave = || shared.leave_live(&endpoint, live.item(&shared.recorder, &endpoint));
            if let Err(panicked) = caught_now(leave) {
                shared.panicked("matching", &panicked);
            }
        }
        if live.read_together.done() {
            shared.recorder.news.notify_one();
        }
    }
}

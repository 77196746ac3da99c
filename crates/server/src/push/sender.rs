//! From pushes that wait to the services of devices: claims what is due, makes attempts, and writes
//! what came of each.
//!
//! Attempts are made in lanes, a bounded number in all, at one host and for one person: a service
//! that hangs takes its own places and no others. What waits for one device goes one after the
//! other, by the claim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::{LineLimit, now_ms};
use dovecast_mail_push::lanes::{LaneBounds, Lanes};
use dovecast_mail_push::retry::{DEADLINE, due_after};
use dovecast_mail_push::{Push, PushAnswer, PushVerdict, Transport};
use dovecast_operations::push::Transports;
use dovecast_store::{ClaimLimits, ClaimedPush, LastAnswer, MaySend, PushEnd, Store};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::counters::{Count, Counters};
use super::held_hosts::HeldHosts;
use crate::serve::Stopping;

/// Wakes the sender.
pub(super) type News = Arc<Notify>;

/// Attempts at a time. Four hosts can hang before others have to wait for the end of an attempt.
const LANES: LaneBounds = LaneBounds {
    in_all: 256,
    of_host: 64,
    of_person: 8,
};
/// Pushes that are looked at besides those that there is room for, of which some may find none.
const LOOKED_AT_BESIDES: usize = 64;
/// Longest time of an attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for what is due.
const DUE_INTERVAL: Duration = Duration::from_millis(250);
/// How often old pushes, subscriptions and sessions are dropped.
const DROP_INTERVAL: Duration = Duration::from_mins(1);
/// Longest reason of a service that is kept, in characters.
const MAX_REASON_CHARS: usize = 300;

/// How long attempts that are under way are waited for when the process stops; what takes longer is
/// sent again.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// About a store that does not answer what sending asks of it.
static LINES: LineLimit = LineLimit::a_minute(1);

/// Sends pushes.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(super) store: Store,
    pub(super) transports: Arc<Transports>,
    pub(super) counters: Arc<Counters>,
    pub(super) news: News,
    pub(super) per_minute: u32,
    /// Hosts that have asked for time.
    pub(super) held: Arc<HeldHosts>,
    /// Tells that nothing more is to be sent.
    pub(super) stopping: Stopping,
}

impl Sender {
    /// Sends what is due until it is stopped.
    pub(super) async fn run(&self) {
        let lanes = Lanes::new(LANES);
        let mut attempts = JoinSet::new();
        let mut dropped = Instant::now();
        while !self.stopping.has_begun() {
            if dropped.elapsed() >= DROP_INTERVAL {
                dropped = Instant::now();
                self.drop_old().await;
            }
            if self.begin(&lanes, &mut attempts).await == 0 {
                tokio::select! {
                    () = self.stopping.begun() => {}
                    () = self.news.notified() => {}
                    () = tokio::time::sleep(DUE_INTERVAL) => {}
                    Some(ended) = attempts.join_next() => self.look_at(&ended),
                }
            }
            while let Some(ended) = attempts.try_join_next() {
                self.look_at(&ended);
            }
        }
        // Services that were asked have it soon: it would be sent to them again.
        let ends = async {
            while let Some(ended) = attempts.join_next().await {
                self.look_at(&ended);
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, ends).await.is_err() {
            tracing::warn!(
                attempts = attempts.len(),
                "services have not answered before the server stops: what they were sent is sent again"
            );
        }
    }

    /// Begins attempts at what is due and finds a place; how many.
    async fn begin(&self, lanes: &Lanes, attempts: &mut JoinSet<()>) -> usize {
        let free = lanes.free();
        if free == 0 {
            return 0;
        }
        let limits = ClaimLimits {
            most: u32::try_from(free + LOOKED_AT_BESIDES).unwrap_or(u32::MAX),
            per_minute: self.per_minute,
        };
        let claimed = match self.store.claim_pushes(limits, lanes).await {
            Ok((claimed, wrong, unopened)) => {
                self.counters.add(Count::WrongPerson, wrong);
                self.counters.add(Count::Unopened, unopened);
                claimed
            }
            Err(error) => {
                trouble(
                    error,
                    "pushes that are due cannot be claimed; this is retried",
                );
                return 0;
            }
        };
        let count = claimed.len();
        for (push, permit) in claimed {
            let sender = self.clone();
            attempts.spawn(async move {
                sender.send(push).await;
                drop(permit);
            });
        }
        count
    }

    fn look_at(&self, ended: &Result<(), tokio::task::JoinError>) {
        if ended.is_err() {
            // The claim ends by itself, and the push is tried again then.
            self.counters.add(Count::Panicked, 1);
            tracing::error!("an attempt at a push has panicked");
        }
    }

    /// Makes one attempt at a claimed push, and writes what came of it.
    pub(super) async fn send(&self, push: ClaimedPush) {
        let end = self.attempt(&push).await;
        if let Err(error) = self.store.end_push(&push, &end).await {
            // It is sent again when its claim ends: twice is better than never.
            trouble(error, "what became of a push cannot be written");
        }
        if let PushEnd::Gone = &end {
            tracing::info!(person = %push.person, subscription.id = %push.subscription, "a device is gone, and is removed");
        }
        self.counters.add(
            match &end {
                PushEnd::Accepted(_) => Count::Accepted,
                PushEnd::Gone => Count::Gone,
                PushEnd::Later(..) | PushEnd::Unanswered(..) | PushEnd::Shorten(_) => {
                    Count::Retried
                }
                PushEnd::Held(_) => Count::Held,
                PushEnd::Quiet(_) => Count::Quiet,
                PushEnd::Refused(_) => Count::Refused,
                PushEnd::Released => Count::Readdressed,
                PushEnd::Dropped => Count::Replaced,
            },
            1,
        );
    }

    async fn attempt(&self, push: &ClaimedPush) -> PushEnd {
        // They may have begun while the push waited, whatever for.
        let quiet_hours = push.quiet_hours.as_ref();
        if let Some(until_ms) = quiet_hours.and_then(|hours| hours.end_of(now_ms())) {
            return PushEnd::Quiet(until_ms);
        }
        let kind = push.address.kind();
        let Some(transport) = self.transports.get(&kind) else {
            let reason = format!("`{}` is not configured on this server", kind.name());
            // Nothing was sent, and so nothing is shown.
            let answer = PushAnswer::unsent(PushVerdict::Later(None), reason);
            return later(wait(push, None), &answer);
        };
        let host = transport.host(&push.address);
        if let Some(wait) = self.held.left(&host) {
            return PushEnd::Held(milliseconds(wait));
        }
        // The guard: right before anything is sent, whose mail and whose device it is.
        match self.store.may_send(push).await {
            Ok(MaySend::Yes) => {}
            Ok(MaySend::Readdressed) => return PushEnd::Released,
            Ok(MaySend::No) => return PushEnd::Dropped,
            Err(error) => {
                trouble(
                    error,
                    "it cannot be asked whose a device is, and nothing is sent to it",
                );
                return PushEnd::Held(milliseconds(DUE_INTERVAL));
            }
        }
        if self.stopping.has_begun() {
            // Another node sends it, or this one when it is there again.
            return PushEnd::Held(0);
        }
        let answer = sent(&**transport, push).await;
        match answer.verdict {
            PushVerdict::Accepted => PushEnd::Accepted(kept(&answer)),
            PushVerdict::Gone => PushEnd::Gone,
            PushVerdict::TooLarge if push.has_short => PushEnd::Shorten(kept(&answer)),
            PushVerdict::TooLarge | PushVerdict::Refused => PushEnd::Refused(kept(&answer)),
            PushVerdict::Later(after) => {
                if let Some(after) = after {
                    self.held.hold(host, after.min(DEADLINE));
                    let lane = push.address.lane();
                    if let Err(error) = self.store.hold_lane(&lane, milliseconds(after)).await {
                        // This node knows it, and others are told as much when they ask.
                        trouble(
                            error,
                            "it cannot be written that a service has asked for time",
                        );
                    }
                }
                later(wait(push, after), &answer)
            }
            PushVerdict::LaterAlone(after) => later(wait(push, Some(after)), &answer),
        }
    }

    pub(super) async fn drop_old(&self) {
        match self.store.drop_old_pushes().await {
            Ok(dropped) => {
                self.counters.add(Count::Overdue, dropped.overdue);
                if dropped.overdue > 0 {
                    tracing::warn!(
                        pushes = dropped.overdue,
                        "pushes were dropped: their services did not accept them within five hours"
                    );
                }
            }
            Err(error) => trouble(error, "old pushes cannot be dropped; this is retried"),
        }
        for ended in [
            self.store.drop_expired_subscriptions().await,
            self.store.drop_expired_sessions().await,
        ] {
            if let Err(error) = ended {
                trouble(error, "what has expired cannot be dropped; this is retried");
            }
        }
    }
}

async fn sent(transport: &dyn Transport, claimed: &ClaimedPush) -> PushAnswer {
    let left_ms = claimed.deadline_ms.saturating_sub(now_ms());
    let push = Push {
        person: claimed.person.clone(),
        topic: claimed.topic,
        tag: claimed.tag.clone(),
        message: claimed.message.clone(),
        urgency: claimed.urgency,
        badge: claimed.badge,
        time_to_live: Duration::from_millis(u64::try_from(left_ms).unwrap_or_default()),
        time_ms: claimed.created_ms,
    };
    let sent = tokio::time::timeout(ATTEMPT_TIMEOUT, transport.send(&claimed.address, &push)).await;
    sent.unwrap_or_else(|_| PushAnswer::none("no answer within 30 seconds"))
}

/// How long a push waits that has failed, in milliseconds.
fn wait(push: &ClaimedPush, after: Option<Duration>) -> i64 {
    milliseconds(due_after(push.failures.saturating_add(1), after))
}

/// The push is due again after so many milliseconds.
fn later(after_ms: i64, answer: &PushAnswer) -> PushEnd {
    if answer.may_have_come {
        PushEnd::Unanswered(after_ms, kept(answer))
    } else {
        PushEnd::Later(after_ms, kept(answer))
    }
}

fn kept(answer: &PushAnswer) -> LastAnswer {
    LastAnswer {
        time_ms: now_ms(),
        status: answer.status,
        reason: answer.reason.chars().take(MAX_REASON_CHARS).collect(),
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn trouble(error: dovecast_store::StoreError, what: &'static str) {
    if LINES.take() {
        let error = format!("{:#}", anyhow::Error::from(error));
        tracing::warn!(error, "{what}");
    }
}

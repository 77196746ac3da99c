//! From pushes that wait to the services of devices: claims what is due, makes attempts, and writes
//! what came of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;
use dovecast_mail_push::retry::{DEADLINE, due_after};
use dovecast_mail_push::{Push, PushAnswer, PushVerdict, Transport};
use dovecast_operations::push::Transports;
use dovecast_store::{ClaimLimits, ClaimedPush, LastAnswer, PushEnd, Store};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::counters::{Count, Counters};
use super::engine::now_ms;

/// Wakes the sender.
pub(super) type News = Arc<Notify>;

/// Attempts at a time: what is claimed is sent well within the minute of its claim.
const ATTEMPTS_AT_A_TIME: u32 = 64;
/// Longest time of an attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for what is due.
const DUE_INTERVAL: Duration = Duration::from_millis(250);
/// How often old pushes, subscriptions and sessions are dropped.
const DROP_INTERVAL: Duration = Duration::from_mins(1);
/// Most hosts that are remembered to have asked for time; with more, those are forgotten whose time
/// is over soonest.
const MAX_HOSTS: usize = 1000;
/// Longest reason of a service that is kept, in characters.
const MAX_REASON_CHARS: usize = 300;

static LINES: LineLimit = LineLimit::a_minute(1);

/// Sends pushes.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(super) store: Store,
    pub(super) transports: Arc<Transports>,
    pub(super) counters: Arc<Counters>,
    pub(super) news: News,
    pub(super) per_minute: u32,
    /// Hosts that have asked for time, and until when.
    pub(super) held: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Sender {
    /// Sends what is due, for ever.
    pub(super) async fn run(&self) {
        let limits = ClaimLimits {
            most: ATTEMPTS_AT_A_TIME,
            per_minute: self.per_minute,
        };
        let mut dropped = Instant::now();
        loop {
            if dropped.elapsed() >= DROP_INTERVAL {
                dropped = Instant::now();
                self.drop_old().await;
            }
            let sent = match self.store.claim_pushes(limits).await {
                Ok((claimed, wrong, unopened)) => {
                    self.counters.add(Count::WrongPerson, wrong);
                    self.counters.add(Count::Unopened, unopened);
                    self.send_all(claimed).await
                }
                Err(error) => {
                    trouble(
                        error,
                        "pushes that are due cannot be claimed; this is retried",
                    );
                    0
                }
            };
            if sent == 0 {
                tokio::select! {
                    () = self.news.notified() => {}
                    () = tokio::time::sleep(DUE_INTERVAL) => {}
                }
            }
        }
    }

    /// Sends them side by side; a slow service costs its own pushes the wait, and the others no
    /// more than the longest time of one attempt.
    async fn send_all(&self, claimed: Vec<ClaimedPush>) -> usize {
        let count = claimed.len();
        let mut attempts = JoinSet::new();
        for push in claimed {
            let sender = self.clone();
            attempts.spawn(async move { sender.send(push).await });
        }
        while let Some(ended) = attempts.join_next().await {
            if ended.is_err() {
                // The claim ends by itself, and the push is tried again then.
                self.counters.add(Count::Panicked, 1);
                tracing::error!("an attempt at a push has panicked");
            }
        }
        count
    }

    async fn send(&self, push: ClaimedPush) {
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
                PushEnd::Later(..) | PushEnd::Shorten(_) => Count::Retried,
                PushEnd::Held(_) => Count::Held,
                PushEnd::Refused(_) => Count::Refused,
                PushEnd::Dropped => Count::Replaced,
            },
            1,
        );
    }

    async fn attempt(&self, push: &ClaimedPush) -> PushEnd {
        let kind = push.address.kind();
        let Some(transport) = self.transports.get(&kind) else {
            let reason = format!("`{}` is not configured on this server", kind.name());
            return later(push, &PushAnswer::none(reason), None);
        };
        let host = transport.host(&push.address);
        if let Some(wait) = self.held_for(&host) {
            return PushEnd::Held(milliseconds(wait));
        }
        // The guard: right before anything is sent, whose mail and whose device it is.
        match self.store.may_send(push).await {
            Ok(true) => {}
            Ok(false) => return PushEnd::Dropped,
            Err(error) => {
                trouble(
                    error,
                    "it cannot be asked whose a device is, and nothing is sent to it",
                );
                return PushEnd::Held(milliseconds(DUE_INTERVAL));
            }
        }
        let answer = sent(&**transport, push).await;
        match answer.verdict {
            PushVerdict::Accepted => PushEnd::Accepted(kept(&answer)),
            PushVerdict::Gone => PushEnd::Gone,
            PushVerdict::TooLarge if push.has_short => PushEnd::Shorten(kept(&answer)),
            PushVerdict::TooLarge | PushVerdict::Refused => PushEnd::Refused(kept(&answer)),
            PushVerdict::Later(after) => {
                if let Some(after) = after {
                    self.hold(host, after.min(DEADLINE));
                }
                later(push, &answer, after)
            }
        }
    }

    fn held_for(&self, host: &str) -> Option<Duration> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = held.get(host)?.checked_duration_since(Instant::now());
        if wait.is_none_or(|wait| wait.is_zero()) {
            held.remove(host);
            return None;
        }
        wait
    }

    fn hold(&self, host: String, after: Duration) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MAX_HOSTS {
            let now = Instant::now();
            held.retain(|_, until| *until > now);
            let soonest = held.iter().min_by_key(|(_, until)| **until);
            let soonest = soonest.map(|(host, _)| host.clone());
            if held.len() >= MAX_HOSTS
                && let Some(soonest) = soonest
            {
                held.remove(&soonest);
            }
        }
        held.insert(host, Instant::now() + after);
    }

    async fn drop_old(&self) {
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

fn later(push: &ClaimedPush, answer: &PushAnswer, after: Option<Duration>) -> PushEnd {
    let wait = due_after(push.failures.saturating_add(1), after);
    PushEnd::Later(milliseconds(wait), kept(answer))
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

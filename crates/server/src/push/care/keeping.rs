//! Keeps listeners: one that has ended, though it is still wished, is begun again.
//!
//! What the store did not answer is asked again soon. What a mail server refuses or lacks, what
//! cannot be opened, and a panic wait for minutes: logins that are refused may lock a mailbox, and
//! an operator has to act first. Each is counted; logged is one a minute for each reason.

use std::future::Future;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use dovecast_log::LineLimit;
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::sources::back_off::delay;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::states::States;
use crate::push::counters::{Count, Counters};

/// Bounds of the delay before the store is asked again.
const STORE_DELAYS: Range<Duration> = Duration::from_secs(1)..Duration::from_secs(30);
/// Shortest delay before what an operator has to mend is tried again.
const SHORTEST_LONG_DELAY: Duration = Duration::from_mins(1);

/// About a master user that is refused.
static MASTER_LINES: LineLimit = LineLimit::a_minute(1);
/// About what a mail server lacks.
static LACKS_LINES: LineLimit = LineLimit::a_minute(1);
/// About listeners that have panicked.
static PANIC_LINES: LineLimit = LineLimit::a_minute(1);

/// How hearing a mailbox has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Nothing is left to do until the wish changes.
    Done,
    /// The mailbox is to be heard still.
    Again(Reason),
}

/// Why a mailbox is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The store did not answer.
    Store,
    /// The password cannot be opened.
    Unopened,
    /// The mail server refuses the master user.
    Master,
    /// The mail server lacks something, or there is nothing to log in with.
    Lacks(&'static str),
    /// The listener has panicked.
    Panicked,
}

impl Reason {
    /// The reason as an operator is told it.
    pub(super) fn words(self) -> String {
        match self {
            Self::Store => "the store does not answer".to_owned(),
            Self::Unopened => "the stored password cannot be opened".to_owned(),
            Self::Master => "the mail server refuses the master user".to_owned(),
            Self::Lacks(what) => format!("the mail server lacks {what}"),
            Self::Panicked => "the listener has panicked".to_owned(),
        }
    }
}

/// How long a listener waits before it begins again.
pub(super) struct Delays {
    soon: Range<Duration>,
    late: Range<Duration>,
}

/// What keeps the listener of one person.
pub(super) struct Keeper<'a> {
    pub(super) person: &'a Person,
    pub(super) source: SourceKind,
    pub(super) delays: &'a Delays,
    pub(super) counters: &'a Counters,
    pub(super) states: &'a States,
}

impl Delays {
    /// Delays that an operator waits for grow up to `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            soon: STORE_DELAYS,
            late: SHORTEST_LONG_DELAY..longest.max(SHORTEST_LONG_DELAY),
        }
    }

    /// The delay after so many failures in a row.
    pub(super) fn after(&self, reason: Reason, failures: u32) -> Duration {
        delay(failures, self.bounds(reason))
    }

    fn bounds(&self, reason: Reason) -> &Range<Duration> {
        match reason {
            Reason::Store => &self.soon,
            Reason::Unopened | Reason::Master | Reason::Lacks(_) | Reason::Panicked => &self.late,
        }
    }
}

impl Keeper<'_> {
    /// Hears a mailbox until nothing is left to do; dropping the future ends it.
    pub(super) async fn keep<F: Future<Output = Stopped>>(&self, hear: impl Fn() -> F) {
        let mut failures = 0_u32;
        loop {
            let began = Instant::now();
            // Nothing of a life that has panicked is used again but what is behind locks.
            let reason = match AssertUnwindSafe(hear()).catch_unwind().await {
                Ok(Stopped::Done) => return,
                Ok(Stopped::Again(reason)) => reason,
                Err(_) => Reason::Panicked,
            };
            note(self.counters, self.person, self.source, reason);
            self.states.fares(self.person, Some(&reason.words()));
            // One that was heard for long has begun well: it is a new row of failures.
            if began.elapsed() > self.delays.bounds(reason).end {
                failures = 0;
            }
            tokio::time::sleep(self.delays.after(reason, failures)).await;
            failures = failures.saturating_add(1);
        }
    }
}

/// Counts and logs why a mailbox is not heard. What the store says is logged where it is asked.
pub(super) fn note(counters: &Counters, person: &Person, source: SourceKind, reason: Reason) {
    let count = match reason {
        Reason::Store | Reason::Unopened | Reason::Lacks(_) => Count::Unheard,
        Reason::Master => Count::MasterRefused,
        Reason::Panicked => Count::Panicked,
    };
    counters.add(count, 1);
    match reason {
        Reason::Store | Reason::Unopened => {}
        Reason::Master => {
            if MASTER_LINES.take() {
                tracing::error!(
                    %person,
                    %source,
                    "the mail server refuses the master user (`master_user` in [mail_push]): mailboxes are not heard; it is tried again in some minutes"
                );
            }
        }
        Reason::Lacks(what) => {
            if LACKS_LINES.take() {
                tracing::warn!(
                    %person,
                    %source,
                    what,
                    "a mailbox is not heard: the mail server lacks something; it is tried again in some minutes"
                );
            }
        }
        Reason::Panicked => {
            if PANIC_LINES.take() {
                tracing::error!(%person, %source, "a listener has panicked, and begins anew");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// A listener that ends in each of these ways in turn, and is done then.
    async fn kept(ends: &[Reason], delays: &Delays, counters: &Counters) {
        let person = Person::new("3", "11", "11@3").expect("a person");
        let keeper = Keeper {
            person: &person,
            source: SourceKind::ImapIdle,
            delays,
            counters,
            states: &States::default(),
        };
        let ends = Mutex::new(ends.iter().copied().collect::<VecDeque<_>>());
        let next = || ends.lock().expect("a lock").pop_front();
        let hear = || async {
            match next() {
                Some(Reason::Panicked) => panic!("as it is asked to"),
                Some(reason) => Stopped::Again(reason),
                None => Stopped::Done,
            }
        };
        keeper.keep(hear).await;
        assert_eq!(next(), None);
    }

    #[tokio::test]
    async fn a_listener_that_has_ended_is_begun_again_soon_or_in_some_minutes() {
        let minutes = Duration::from_mins;
        let late = minutes(1)..minutes(15);
        let delays = Delays::new(minutes(15));
        let at_once = Duration::ZERO..Duration::ZERO;
        let short = Delays {
            soon: at_once.clone(),
            late: at_once,
        };
        for (reason, counted, bounds) in [
            (Reason::Store, Count::Unheard, &STORE_DELAYS),
            (Reason::Unopened, Count::Unheard, &late),
            (Reason::Lacks("IDLE"), Count::Unheard, &late),
            (Reason::Master, Count::MasterRefused, &late),
            (Reason::Panicked, Count::Panicked, &late),
        ] {
            let counters = Counters::default();
            kept(&[reason; 3], &short, &counters).await;
            assert_eq!(counters.get(counted), 3, "{reason:?}");
            assert_eq!(delays.bounds(reason), bounds, "{reason:?}");
        }
        // The longest delay is never below the shortest.
        let shortest = Delays::new(Duration::ZERO);
        assert_eq!(*shortest.bounds(Reason::Master), minutes(1)..minutes(1));
    }
}

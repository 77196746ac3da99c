//! Since when a topic was shipped that is not committed: what the target may have of it is not
//! older, whatever the times of its events are.
//!
//! The time is a mark in the spool. It is written before an append, when everything before is
//! committed and nothing is in doubt: then what a crash leaves uncommitted is shipped later.

use dovecast_log::embedded::{Embedded, Mark};
use dovecast_log::{LogError, now_ms};

/// How old a mark gets before it is written anew: a commit of the spool each time, against what is
/// read back after a crash.
const INTERVAL_MS: i64 = 60_000;

/// The mark of a topic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Since(Option<i64>);

impl Since {
    pub(super) async fn of(spool: &Embedded, topic: &str) -> Result<Self, LogError> {
        let name = name(topic);
        let marks = spool.marks().await?;
        let found = marks.into_iter().find(|mark| mark.name == name);
        Ok(Self(found.and_then(|mark| i64::try_from(mark.value).ok())))
    }

    /// Milliseconds since the epoch; `None`: it was never shipped, or by a version that did not
    /// note it.
    pub(super) fn time_ms(self) -> Option<i64> {
        self.0
    }

    /// The mark to write before the next append, if it is time. After a step back of the clock it
    /// is.
    pub(super) fn renew(&mut self, topic: &str) -> Option<Mark> {
        let now = now_ms();
        let is_fresh = self
            .0
            .is_some_and(|since| (since..since.saturating_add(INTERVAL_MS)).contains(&now));
        if is_fresh {
            return None;
        }
        self.set(topic, now)
    }

    /// The mark to write before an append while something is in doubt: one that was written when
    /// the clock was ahead would be later than what is shipped now.
    pub(super) fn lower(&mut self, topic: &str) -> Option<Mark> {
        let now = now_ms();
        if self.0.is_none_or(|since| since <= now) {
            return None;
        }
        self.set(topic, now)
    }

    fn set(&mut self, topic: &str, time_ms: i64) -> Option<Mark> {
        self.0 = Some(time_ms);
        Some(Mark {
            name: name(topic),
            value: u64::try_from(time_ms).ok()?,
        })
    }
}

fn name(topic: &str) -> String {
    format!("shipped {topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_written_when_it_is_old_or_in_the_future() {
        let now = now_ms();
        for (since, is_renewed) in [
            (None, true),
            (Some(now - 1000), false),
            (Some(now - INTERVAL_MS - 1), true),
            (Some(now + INTERVAL_MS), true),
        ] {
            let mut since = Since(since);
            assert_eq!(since.renew("t").is_some(), is_renewed, "{since:?}");
            assert!(since.time_ms().is_some_and(|time| time <= now_ms()));
        }
    }
    #[test]
    fn a_mark_is_lowered_only_where_it_is_in_the_future() {
        let now = now_ms();
        for (since, is_lowered) in [
            (None, false),
            (Some(now - INTERVAL_MS - 1), false),
            (Some(now + INTERVAL_MS), true),
        ] {
            let mut since = Since(since);
            assert_eq!(since.lower("t").is_some(), is_lowered, "{since:?}");
            assert!(since.time_ms().is_none_or(|time| time <= now_ms()));
        }
    }
}

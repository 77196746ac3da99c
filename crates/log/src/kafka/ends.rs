//! Partitions that end before the place at which a consumer reads on, and of which it gets nothing.
//!
//! A topic that is deleted and made anew begins with leader epoch 0. librdkafka ignores what the cluster says of a partition whose
//! epoch is lower than the one it has seen, and so a consumer that has met a change of leaders before reads nothing of the new
//! topic, without an error. Whoever hears nothing for a while therefore looks where its partitions end; if one ends before what
//! comes next, another consumer, which has seen no epoch, has to take its place.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::assigned::{Assigned, Context};
use super::gaps::Gaps;

/// How long nothing has to come before ends are looked for, and how often.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long the cluster may take to say where one partition ends; meanwhile nothing is polled.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Partitions that are looked at in one check; others are in the next ones.
const PARTITIONS_PER_CHECK: usize = 16;
/// Checks in a row that have to find it: leaders that have just changed may say so by mistake.
const CHECKS: u32 = 2;

/// A partition that ends too early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LostEnd {
    pub(super) topic: String,
    pub(super) partition: u32,
    /// The offset that was expected next.
    pub(super) next: u64,
    /// The offset that the next record will get.
    pub(super) end: u64,
}

/// When ends are looked for.
#[derive(Debug)]
pub(super) struct EndChecks {
    /// When a record has come, or a check was made.
    quiet_since: Instant,
    /// How many partitions were looked at since the last that was found.
    place: usize,
    found: u32,
}

impl EndChecks {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            quiet_since: now,
            place: 0,
            found: 0,
        }
    }

    /// A record has come.
    pub(super) fn heard(&mut self, now: Instant) {
        self.quiet_since = now;
        self.found = 0;
    }

    /// Looks where some partitions end, if it is time; `Some`: one of them ended too early at several checks.
    pub(super) fn look(
        &mut self,
        consumer: &BaseConsumer<Context>,
        (assigned, gaps): (&Assigned, &Gaps),
        now: Instant,
    ) -> Option<LostEnd> {
        if now.saturating_duration_since(self.quiet_since) < CHECK_INTERVAL {
            return None;
        }
        self.quiet_since = now;
        let all = assigned.all();
        for _ in 0..all.len().min(PARTITIONS_PER_CHECK) {
            let (topic, partition, _) = all.get(self.place % all.len())?;
            if let Some(next) = gaps.next(topic, *partition) {
                let number = i32::try_from(*partition).unwrap_or(i32::MAX);
                // Who cannot answer is asked again; that nothing can be read now is logged elsewhere.
                let answer = consumer.fetch_watermarks(topic, number, ANSWER_TIMEOUT);
                let end = u64::try_from(answer.ok()?.1).ok()?;
                if end < next {
                    self.found += 1;
                    return (self.found >= CHECKS).then(|| LostEnd {
                        topic: topic.clone(),
                        partition: *partition,
                        next,
                        end,
                    });
                }
            }
            self.place = self.place.wrapping_add(1);
        }
        self.found = 0;
        None
    }
}

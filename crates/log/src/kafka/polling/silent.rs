//! The polling thread's look for partitions of which nothing comes.

use std::time::Instant;

use super::Polling;
use crate::kafka::ends::{Asked, Followed};
use crate::kafka::gaps::Gaps;
use crate::kafka::source::Source;
use crate::{AssignedPartition, Assignment, TopicPartition};

impl<S: Source> Polling<S> {
    /// Replaces a consumer that gets nothing of a partition although there is something, or because
    /// it has lost its end.
    pub(super) fn look_for_silent_partitions(&mut self) {
        if self.is_paused {
            self.ends.paused();
            return;
        }
        if !self.ends.is_due(Instant::now()) {
            return;
        }
        let followed = self.followed();
        let mut cluster = Asked {
            consumer: &self.consumer,
            options: &self.options,
        };
        let silent = self.ends.look(&followed, &mut cluster);
        self.ends.checked(Instant::now());
        if let Some(silent) = silent {
            tracing::error!(
                topic = &*silent.of.topic,
                partition = silent.of.partition,
                next = silent.next,
                end = silent.end,
                "a partition returns no records: it was truncated, restored or made anew; the consumer is replaced"
            );
            self.replace();
        }
    }

    /// The partitions that are read now, and what comes next of them.
    fn followed(&mut self) -> Vec<Followed> {
        if self.assigned.latest() == 0 {
            // A reader has no assignments.
            return self.gaps.all();
        }
        let all = self.assigned.all();
        let is_known = |gaps: &Gaps, ours: &AssignedPartition| {
            gaps.knows(&ours.topic, ours.partition, ours.number)
        };
        if !all.iter().all(|ours| is_known(&self.gaps, ours)) {
            let found = self
                .source
                .find_begin(&self.consumer, &self.assigned, &mut self.gaps);
            if let Err(error) = found {
                self.log(&error);
            }
        }
        let begins_at_oldest = !self.options.has_property("auto.offset.reset");
        let mut followed = Vec::new();
        for ours in all {
            let next =
                is_known(&self.gaps, &ours).then(|| self.gaps.next(&ours.topic, ours.partition));
            let next = next.flatten();
            // Where the operator lets a new group begin elsewhere, that place is not known.
            if next.is_some() || begins_at_oldest {
                let of = TopicPartition {
                    topic: ours.topic,
                    partition: ours.partition,
                };
                followed.push(Followed { of, next });
            }
        }
        followed
    }
}

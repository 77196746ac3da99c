//! Order by key: asks the ledger which endpoints owe anything of a partition that has become this
//! process's, once for all of them. The steps are told in `lane/order`.

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::{Log, Record};

use crate::ledger::{Ledger, TopicPartition};
use crate::shared::Shared;
use crate::stats::count;

/// How long records of partitions that have become ours wait until what has happened is written,
/// before the ledger is asked about them: once, as all that is read waits with them.
const WRITING: Duration = Duration::from_secs(1);

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Asks who owes anything of the partitions that these records are of, where they have become
    /// ours since the last time. Where the ledger does not answer, or does not know yet what this
    /// process has to tell, it is asked by each endpoint, until it can be asked for all.
    pub(crate) async fn ask_debtors(&self, records: &[Record]) {
        if !self.directory.has_ordered() {
            return;
        }
        let unasked = self.unasked(records);
        let is_noted = |(of, number): &(TopicPartition, u64)| {
            let after = self.partitions.asked_after(of, *number);
            after.is_some()
        };
        if !unasked.iter().all(is_noted) {
            self.note_ours().await;
        }
        let written = self.recorder.written();
        for (of, number) in unasked {
            let after = self.partitions.asked_after(&of, number);
            if after.is_none_or(|batch| batch > written) {
                continue;
            }
            let asked = self.ask(async { self.ledger.debtors(of.clone()).await });
            match asked.await {
                Ok(debtors) => self.partitions.learn(&of, number, debtors),
                Err(error) => {
                    count(&self.counters.ledger_errors, 1);
                    tracing::debug!(%error, "who owes anything of a partition is not known now");
                }
            }
        }
    }

    /// Partitions of these records that are ours, and of which the ledger was not asked yet.
    fn unasked(&self, records: &[Record]) -> Vec<(TopicPartition, u64)> {
        let mut unasked = Vec::new();
        let mut last: Option<(&Arc<str>, u32)> = None;
        for record in records {
            let place = (&record.topic, record.partition);
            if last.replace(place) == Some(place) {
                continue;
            }
            let of = TopicPartition {
                topic: Arc::clone(&record.topic),
                partition: record.partition,
            };
            let Some(number) = self.partitions.number(&of) else {
                continue;
            };
            if !self.partitions.is_asked(&of, number) {
                unasked.push((of, number));
            }
        }
        unasked
    }

    /// Notes after which batch of the recorder the ledger is asked about the partitions that have
    /// become ours, all at once, and waits for that a while.
    async fn note_ours(&self) {
        let ours = self.partitions.all();
        // They may have been ours before, and what became of them then not be written yet.
        let batch = self.recorder.batch();
        self.partitions.ask_after(ours, batch);
        self.recorder.news.notify_one();
        let written = self.recorder.until_written(batch);
        // A store that is slow holds up what is read no longer than that.
        let _in_time = tokio::time::timeout(WRITING, written).await;
    }

    /// Endpoints that are in order since now may owe anything.
    pub(crate) fn learn_ordered(&self) {
        for endpoint in self.directory.take_newly_ordered() {
            self.partitions.may_owe(endpoint);
            if let Some(lane) = self.known_lane(endpoint) {
                lane.state().order.doubt(None);
            }
        }
    }
}

//! Order by key: asks the ledger who owes anything of a partition that has become this process's,
//! once for all endpoints.

use std::sync::Arc;

use dovecast_log::{Log, Record};

use crate::ledger::{Ledger, TopicPartition};
use crate::shared::Shared;
use crate::stats::count;

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Asks who owes anything of the partitions that these records are of, where they have become
    /// ours since the last time. Where the ledger does not answer, or does not know yet what this
    /// process has to tell, it is asked by each endpoint.
    pub(crate) async fn ask_debtors(&self, records: &[Record]) {
        if !self.directory.has_ordered() {
            return;
        }
        let mut is_up_to_date = None;
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
            if self.partitions.is_asked(&of, number) {
                continue;
            }
            if is_up_to_date.is_none() {
                // It may have been ours before, and what became of it then not be written yet.
                is_up_to_date = Some(self.recorder.is_up_to_date().await);
            }
            if is_up_to_date == Some(false) {
                return;
            }
            let asked = self.ask(async { self.ledger.debtors(of.clone()).await });
            match asked.await {
                Ok(debtors) => self.partitions.learn(of, number, debtors),
                Err(error) => {
                    count(&self.counters.ledger_errors, 1);
                    tracing::debug!(%error, "who owes anything of a partition is not known now");
                }
            }
        }
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

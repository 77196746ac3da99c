//! The partitions that this process reads, and which endpoints owe anything of them.
//!
//! Who wants deliveries in order has to know what is owed of a partition before anything new of it
//! is delivered. So the ledger is asked once when a partition becomes ours: endpoints that owe
//! nothing, which are nearly all, need no question of their own. Another process may have delivered
//! a partition that went away and came back, so each assignment is asked about anew.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use dovecast_log::{Assignment, Log, Record};
use dovecast_notification::EndpointId;

use crate::ledger::{Ledger, TopicPartition};
use crate::locks::Lock;
use crate::shared::Shared;
use crate::stats::count;

/// What is known of the partitions that are read here.
pub(crate) struct Partitions {
    assignment: OnceLock<Arc<dyn Assignment>>,
    known: Lock<HashMap<TopicPartition, Known>>,
}

/// What is known of a partition.
#[derive(Debug)]
struct Known {
    /// The assignment in which the ledger was asked.
    number: u64,
    /// Endpoints that may owe something of it.
    debtors: HashSet<EndpointId>,
}

impl Default for Partitions {
    fn default() -> Self {
        Self {
            assignment: OnceLock::new(),
            known: Lock::new("partitions", HashMap::new()),
        }
    }
}

impl Partitions {
    /// The partitions are those of this consumer.
    pub(crate) fn are(&self, assignment: Arc<dyn Assignment>) {
        // One life has one consumer.
        let _ = self.assignment.set(assignment);
    }

    /// Number of the assignment of a partition; `None`: it is not ours.
    pub(crate) fn number(&self, of: &TopicPartition) -> Option<u64> {
        let assignment = self.assignment.get()?;
        assignment.number(&of.topic, of.partition)
    }

    /// All partitions that are ours, each with the number of its assignment.
    pub(crate) fn all(&self) -> Vec<(TopicPartition, u64)> {
        let Some(assignment) = self.assignment.get() else {
            return Vec::new();
        };
        let all = assignment.all().into_iter();
        let partition = |assigned: dovecast_log::AssignedPartition| {
            let of = TopicPartition {
                topic: assigned.topic,
                partition: assigned.partition,
            };
            (of, assigned.number)
        };
        all.map(partition).collect()
    }

    /// Whether an endpoint is known to have owed nothing of a partition when it became ours.
    pub(crate) fn owes_nothing(
        &self,
        endpoint: EndpointId,
        of: &TopicPartition,
        number: u64,
    ) -> bool {
        let known = self.known.lock();
        let known = known.get(of).filter(|known| known.number == number);
        known.is_some_and(|known| !known.debtors.contains(&endpoint))
    }

    /// An endpoint that has not been in order so far may owe anything.
    fn may_owe(&self, endpoint: EndpointId) {
        for known in self.known.lock().values_mut() {
            known.debtors.insert(endpoint);
        }
    }

    fn is_asked(&self, of: &TopicPartition, number: u64) -> bool {
        let known = self.known.lock();
        known.get(of).is_some_and(|known| known.number == number)
    }
}

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
                Ok(debtors) => {
                    let known = Known {
                        number,
                        debtors: debtors.into_iter().collect(),
                    };
                    self.partitions.known.lock().insert(of, known);
                }
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
            let lane = self.lanes().get(&endpoint).cloned();
            if let Some(lane) = lane {
                lane.state().order.doubt(None);
            }
        }
    }
}

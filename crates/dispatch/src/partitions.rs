//! The partitions that this process reads, and which endpoints owe anything of them.
//!
//! Who wants deliveries in order has to know what is owed of a partition before anything new of it
//! is delivered. So the ledger is asked once when a partition becomes ours: endpoints that owe
//! nothing, which are nearly all, need no question of their own. Another process may have delivered
//! a partition that went away and came back, so each assignment is asked about anew.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use dovecast_log::Assignment;
use dovecast_notification::EndpointId;

use crate::ledger::TopicPartition;
use crate::locks::Lock;

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

    /// The ledger has named who owes anything of a partition.
    pub(crate) fn learn(&self, of: TopicPartition, number: u64, debtors: Vec<EndpointId>) {
        let debtors = debtors.into_iter().collect();
        self.known.lock().insert(of, Known { number, debtors });
    }

    /// An endpoint that has not been in order so far may owe anything.
    pub(crate) fn may_owe(&self, endpoint: EndpointId) {
        for known in self.known.lock().values_mut() {
            known.debtors.insert(endpoint);
        }
    }

    /// Whether the ledger was asked in this assignment who owes anything of a partition.
    pub(crate) fn is_asked(&self, of: &TopicPartition, number: u64) -> bool {
        let known = self.known.lock();
        known.get(of).is_some_and(|known| known.number == number)
    }
}

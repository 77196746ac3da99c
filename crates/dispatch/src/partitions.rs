//! Order by key: the partitions that this process reads, and which endpoints owe anything of them,
//! as the ledger has said in the present assignment of each. The steps are told in `lane/order`.

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
    /// The assignment in which the ledger is asked.
    number: u64,
    /// The batch of the recorder with which everything is written that was said before the
    /// partition was seen to be ours; `None`: the ledger was asked after that.
    after: Option<u64>,
    /// Endpoints that may owe something of it; before the ledger was asked those that it need not
    /// know.
    debtors: HashSet<EndpointId>,
}

impl Known {
    fn is_asked(&self, number: u64) -> bool {
        self.number == number && self.after.is_none()
    }
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
        let known = known.get(of).filter(|known| known.is_asked(number));
        known.is_some_and(|known| !known.debtors.contains(&endpoint))
    }

    /// Notes after which batch of the recorder the ledger is asked about partitions, where that is
    /// not known of these assignments. The partitions were ours before the batch was.
    pub(crate) fn ask_after(&self, ours: Vec<(TopicPartition, u64)>, batch: u64) {
        let mut all = self.known.lock();
        for (of, number) in ours {
            if all.get(&of).is_none_or(|known| known.number != number) {
                let known = Known {
                    number,
                    after: Some(batch),
                    debtors: HashSet::new(),
                };
                all.insert(of, known);
            }
        }
    }

    /// The batch of the recorder after which the ledger is asked about a partition, if that is
    /// known of this assignment.
    pub(crate) fn asked_after(&self, of: &TopicPartition, number: u64) -> Option<u64> {
        let known = self.known.lock();
        let known = known.get(of).filter(|known| known.number == number)?;
        known.after
    }

    /// The ledger has named who owes anything of a partition.
    pub(crate) fn learn(&self, of: &TopicPartition, number: u64, debtors: Vec<EndpointId>) {
        let mut known = self.known.lock();
        let known = known.get_mut(of).filter(|known| known.number == number);
        if let Some(known) = known {
            known.after = None;
            known.debtors.extend(debtors);
        }
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
        known.get(of).is_some_and(|known| known.is_asked(number))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn who_owes_nothing_is_known_once_the_ledger_has_said_so_of_this_assignment() {
        let [debtor, late, other] = [1, 2, 3].map(|number| EndpointId(Uuid::from_u128(number)));
        let of = TopicPartition {
            topic: Arc::from("t"),
            partition: 3,
        };
        let partitions = Partitions::default();
        let ours = |number| vec![(of.clone(), number)];
        partitions.ask_after(ours(1), 5);
        // What is read meanwhile waits for the same.
        partitions.ask_after(ours(1), 9);
        assert_eq!(partitions.asked_after(&of, 1), Some(5));
        assert!(!partitions.is_asked(&of, 1) && !partitions.owes_nothing(other, &of, 1));
        partitions.may_owe(late);
        partitions.learn(&of, 1, vec![debtor]);
        let owe_nothing =
            [debtor, late, other].map(|endpoint| partitions.owes_nothing(endpoint, &of, 1));
        assert_eq!(owe_nothing, [false, false, true]);
        partitions.ask_after(ours(1), 12);
        assert!(partitions.is_asked(&of, 1) && partitions.asked_after(&of, 1).is_none());
        partitions.ask_after(ours(2), 14);
        partitions.learn(&of, 1, Vec::new());
        assert!(!partitions.is_asked(&of, 2) && !partitions.owes_nothing(other, &of, 2));
        assert_eq!(partitions.asked_after(&of, 2), Some(14));
    }
}

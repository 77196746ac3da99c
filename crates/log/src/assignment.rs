//! Which partitions a consumer of a group has now.

use std::sync::Arc;

/// A partition that a consumer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Number of the assignment: a partition that went away and came back has another one.
    pub number: u64,
}

/// The partitions of a consumer, which change while others join and leave its group.
pub trait Assignment: Send + Sync + 'static {
    /// All partitions that the consumer has now.
    fn all(&self) -> Vec<AssignedPartition>;

    /// Number of the assignment of a partition; `None`: the consumer has not got it.
    fn number(&self, topic: &str, partition: u32) -> Option<u64>;
}

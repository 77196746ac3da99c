//! A log that stands in for Kafka: records that nobody stores, as each is made of its place, and a
//! group whose partitions move as little as they have to.
//!
//! What it leaves out: brokers, the network, and how long Kafka itself takes to rebalance. A member
//! that is heard no more loses its partitions after [`SESSION`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use dovecast_log::{
    Appended, AssignedPartition, Assignment, Consumer, GroupStatus, Log, LogError, NewRecord,
    PartitionStatus, Position, Reader, Record, StartAt, TopicStatus,
};
use tokio::sync::watch;

use crate::nodes::Cut;

pub(crate) const TOPIC: &str = "hooks.outbox";
/// How long a member may be silent.
pub(crate) const SESSION: Duration = Duration::from_secs(10);
/// Records that are handed out at a time.
const BATCH: usize = 500;

/// What all members see.
#[derive(Debug)]
pub(crate) struct Cluster {
    state: Mutex<State>,
    /// Rises with every change.
    changed: watch::Sender<u64>,
    pub(crate) keys: Keys,
}

/// Which key a record has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// Number of the keys of all partitions.
    pub(crate) count: u64,
    pub(crate) partitions: u32,
    pub(crate) seed: u64,
}

#[derive(Debug, Default)]
struct State {
    ends: Vec<u64>,
    committed: Vec<u64>,
    /// Whose each partition is, and how often that has changed.
    owners: Vec<(Option<usize>, u64)>,
    members: Vec<usize>,
}

impl Keys {
    /// Number of the key of a record. Those of a partition are its own: every second record is of
    /// one of 16, so that there are keys with many records, and the others go round among all.
    pub(crate) fn of(&self, partition: u32, offset: u64) -> u64 {
        let each = (self.count / u64::from(self.partitions)).max(1);
        let place = u64::from(partition) << 40 | offset;
        let within = if offset.is_multiple_of(2) {
            mix(place ^ self.seed) % 16.min(each)
        } else {
            // Odd, so that all are met.
            (offset / 2 + mix(self.seed)) % each
        };
        within * u64::from(self.partitions) + u64::from(partition)
    }
}

/// Any number for each number.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Cluster {
    pub(crate) fn new(keys: Keys) -> Arc<Self> {
        let partitions = keys.partitions as usize;
        Arc::new(Self {
            state: Mutex::new(State {
                ends: vec![0; partitions],
                committed: vec![0; partitions],
                owners: vec![(None, 0); partitions],
                members: Vec::new(),
            }),
            changed: watch::Sender::new(0),
            keys,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Adds so many records to each partition.
    pub(crate) fn append(&self, of_each: u64) {
        for end in &mut self.state().ends {
            *end += of_each;
        }
        self.tell();
    }

    /// Whether all that was appended is committed.
    pub(crate) fn is_committed(&self) -> bool {
        let state = self.state();
        state.ends == state.committed
    }

    /// Partitions by member.
    pub(crate) fn shares(&self) -> BTreeMap<usize, usize> {
        let mut shares = BTreeMap::new();
        for owner in self.state().owners.iter().filter_map(|(owner, _)| *owner) {
            *shares.entry(owner).or_default() += 1;
        }
        shares
    }

    fn join(&self, member: usize) {
        let mut state = self.state();
        if !state.members.contains(&member) {
            state.members.push(member);
            state.balance();
        }
        drop(state);
        self.tell();
    }

    pub(crate) fn leave(&self, member: usize) {
        let mut state = self.state();
        state.members.retain(|other| *other != member);
        state.balance();
        drop(state);
        self.tell();
    }

    fn record(&self, partition: u32, offset: u64) -> Record {
        let key = self.keys.of(partition, offset);
        let account = crate::nodes::endpoint_of(key);
        let value = format!(
            r#"{{"application":"a","event_type":"e","level":null,"timestamp":"t","message":[{partition},{offset}],"account_id":"{account}"}}"#
        );
        Record {
            topic: TOPIC.into(),
            partition,
            offset,
            key: Some(Bytes::from(key.to_string())),
            value: value.into(),
            headers: Vec::new(),
            timestamp_ms: 0,
        }
    }
}

impl State {
    /// Gives what nobody has, and what some have too much of, to those who have least.
    fn balance(&mut self) {
        let partitions = self.owners.len();
        let mut loads: BTreeMap<usize, usize> = self.members.iter().map(|id| (*id, 0)).collect();
        let most = partitions.div_ceil(loads.len().max(1));
        for (owner, epoch) in &mut self.owners {
            let load = owner.and_then(|id| loads.get_mut(&id));
            match load {
                Some(load) if *load < most => *load += 1,
                _ if owner.is_some() => (*owner, *epoch) = (None, *epoch + 1),
                _ => {}
            }
        }
        let mut free: Vec<usize> = (0..partitions)
            .filter(|at| self.owners[*at].0.is_none())
            .collect();
        loop {
            let least = loads
                .iter()
                .min_by_key(|(_, load)| **load)
                .map(|(id, load)| (*id, *load));
            let Some((to, load)) = least else { return };
            let at = free.pop().or_else(|| {
                // Who has two more than another gives one.
                let rich = loads.iter().max_by_key(|(_, load)| **load)?;
                let (rich, has) = (*rich.0, *rich.1);
                (has > load + 1)
                    .then(|| self.owners.iter().position(|owner| owner.0 == Some(rich)))?
            });
            let Some(at) = at else { return };
            if let Some(from) = self.owners[at].0 {
                *loads.entry(from).or_default() -= 1;
            }
            let epoch = self.owners[at].1 + 1;
            self.owners[at] = (Some(to), epoch);
            *loads.entry(to).or_default() += 1;
        }
    }
}

/// The log as one node sees it.
#[derive(Clone)]
pub(crate) struct NodeLog {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) node: usize,
    pub(crate) cut: Cut,
}

/// A member of the group.
pub(crate) struct Member {
    log: NodeLog,
    /// By partition: in which of its times it was ours, and what comes next.
    next: BTreeMap<u32, (u64, u64)>,
}

/// Reads one partition.
pub(crate) struct Range {
    log: NodeLog,
    partition: u32,
    next: u64,
}

impl Log for NodeLog {
    type Reader = Range;
    type Consumer = Member;

    async fn append(&self, _: Vec<NewRecord>) -> Result<Appended, LogError> {
        Err(LogError::Closed)
    }

    async fn topics(&self) -> Result<Vec<TopicStatus>, LogError> {
        let status = |end: &u64| PartitionStatus {
            begin: 0,
            end: *end,
        };
        let partitions = self.cluster.state().ends.iter().map(status).collect();
        let name = TOPIC.to_owned();
        Ok(vec![TopicStatus { name, partitions }])
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, LogError> {
        Ok(Vec::new())
    }

    async fn progress(
        &self,
        group: &str,
        topic: &str,
        partitions: &[u32],
    ) -> Result<Vec<GroupStatus>, LogError> {
        self.cut.check().await;
        let state = self.cluster.state();
        let status = |partition: &u32| GroupStatus {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partition: *partition,
            committed: state.committed[*partition as usize],
            end: state.ends[*partition as usize],
        };
        Ok(partitions.iter().map(status).collect())
    }

    async fn positions(&self, _: &str, start: StartAt) -> Result<Vec<u64>, LogError> {
        self.cut.check().await;
        let ends = self.cluster.state().ends.clone();
        Ok(match start {
            StartAt::Beginning => vec![0; ends.len()],
            _ => ends,
        })
    }

    async fn reader(&self, _: &str, _: StartAt) -> Result<Range, LogError> {
        Err(LogError::Closed)
    }

    async fn reader_at(&self, position: &Position) -> Result<Range, LogError> {
        self.cut.check().await;
        Ok(Range {
            log: self.clone(),
            partition: position.partition,
            next: position.offset,
        })
    }

    async fn consumer(&self, _: &str, _: &[String]) -> Result<Member, LogError> {
        self.cluster.join(self.node);
        Ok(Member {
            log: self.clone(),
            next: BTreeMap::new(),
        })
    }
}

impl Assignment for NodeLog {
    fn all(&self) -> Vec<AssignedPartition> {
        let state = self.cluster.state();
        let ours = (0_u32..).zip(&state.owners);
        let ours = ours.filter(|(_, (owner, _))| *owner == Some(self.node));
        let assigned = |(partition, (_, number)): (u32, &(_, u64))| AssignedPartition {
            topic: TOPIC.into(),
            partition,
            number: *number,
        };
        ours.map(assigned).collect()
    }

    fn number(&self, _: &str, partition: u32) -> Option<u64> {
        let state = self.cluster.state();
        let (owner, number) = state.owners.get(partition as usize)?;
        (*owner == Some(self.node)).then_some(*number)
    }
}

impl Member {
    /// What there is of our partitions.
    fn read(&mut self) -> Vec<Record> {
        let cluster = Arc::clone(&self.log.cluster);
        let state = cluster.state();
        let mut records = Vec::new();
        for (partition, (owner, epoch)) in (0_u32..).zip(&state.owners) {
            if *owner != Some(self.log.node) {
                continue;
            }
            let at = partition as usize;
            let next = self.next.entry(partition).or_default();
            if next.0 != *epoch {
                *next = (*epoch, state.committed[at]);
            }
            while next.1 < state.ends[at] && records.len() < BATCH {
                records.push(cluster.record(partition, next.1));
                next.1 += 1;
            }
        }
        records
    }
}

impl Consumer for Member {
    fn assignment(&self) -> Arc<dyn Assignment> {
        Arc::new(self.log.clone())
    }

    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let mut changed = self.log.cluster.changed.subscribe();
        loop {
            self.log.cut.check().await;
            let records = self.read();
            if !records.is_empty() {
                return Ok(records);
            }
            // The sender lives as long as the cluster.
            let _ = changed.changed().await;
        }
    }

    async fn commit(&mut self, positions: &[Position]) -> Result<(), LogError> {
        self.log.cut.check().await;
        let mut state = self.log.cluster.state();
        for position in positions {
            let at = position.partition as usize;
            let epoch = self.next.get(&position.partition).map(|next| next.0);
            let (owner, now) = state.owners[at];
            if owner == Some(self.log.node) && epoch == Some(now) {
                state.committed[at] = state.committed[at].max(position.offset);
            }
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.log.cut.is_cut() {
            self.log.cluster.leave(self.log.node);
        }
    }
}

impl Reader for Range {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let mut changed = self.log.cluster.changed.subscribe();
        loop {
            self.log.cut.check().await;
            let end = self.log.cluster.state().ends[self.partition as usize];
            if self.next < end {
                let upto = end.min(self.next + BATCH as u64);
                let of = |offset| self.log.cluster.record(self.partition, offset);
                let records = (self.next..upto).map(of).collect();
                self.next = upto;
                return Ok(records);
            }
            let _ = changed.changed().await;
        }
    }
}

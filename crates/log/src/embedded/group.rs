//! Consumer groups: of all consumers of a group, with the same topics, in this process each
//! partition has one. When one joins or leaves, the partitions are shared anew, and whoever gets
//! one begins at what the group has committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension, params};
use tokio::sync::{oneshot, watch};

use super::Handle;
use super::reader::{Cursor, Next};
use super::topics::{Partition, Topic};
use super::writer::{Command, Shared};
use crate::{AssignedPartition, Assignment, Consumer, LogError, Position, Record};

/// Who is in which group.
#[derive(Debug)]
pub(super) struct Groups {
    members: Mutex<BTreeMap<String, Members>>,
    /// Changes when somebody joins or leaves.
    changes: watch::Sender<u64>,
}

/// The members of one group with the same topics.
#[derive(Debug, Default)]
struct Members {
    ids: Vec<u64>,
    /// The change after which they are these.
    since: u64,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            members: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Groups {
    fn join(&self, group: &str) -> u64 {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut id = 0;
        self.changes.send_modify(|changes| {
            *changes += 1;
            id = *changes;
        });
        let of = members.entry(group.to_owned()).or_default();
        of.ids.push(id);
        of.since = id;
        id
    }

    fn leave(&self, group: &str, id: u64) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let mut since = 0;
        self.changes.send_modify(|changes| {
            *changes += 1;
            since = *changes;
        });
        if let Some(of) = members.get_mut(group) {
            of.ids.retain(|member| *member != id);
            of.since = since;
            if of.ids.is_empty() {
                members.remove(group);
            }
        }
    }

    /// Which share of the partitions a member has: its place, and how many there are.
    fn share(&self, group: &str, id: u64) -> (usize, usize) {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let list = members.get(group).map_or(&[][..], |of| &of.ids);
        let place = list.iter().position(|member| *member == id);
        (place.unwrap_or(0), list.len().max(1))
    }

    /// The share of a member, and the change since which it is that; `None`: it has left.
    fn assigned(&self, group: &str, id: u64) -> Option<(usize, usize, u64)> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let of = members.get(group)?;
        let place = of.ids.iter().position(|member| *member == id)?;
        Some((place, of.ids.len(), of.since))
    }
}

/// Membership that ends with the consumer.
#[derive(Debug)]
struct Member {
    groups: Arc<Groups>,
    group: String,
    /// Group and topics.
    list: String,
    id: u64,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.groups.leave(&self.list, self.id);
    }
}

/// The partitions of one member.
struct Share {
    handle: Handle,
    list: String,
    id: u64,
    wanted: Option<Vec<String>>,
}

impl Assignment for Share {
    fn all(&self) -> Vec<AssignedPartition> {
        let Some((place, members, number)) = self.handle.groups.assigned(&self.list, self.id)
        else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for topic in topics(&self.handle, self.wanted.as_deref()) {
            let of_topic = (0..topic.partitions.len()).filter(|at| at % members == place);
            all.extend(of_topic.map(|at| AssignedPartition {
                topic: Arc::clone(&topic.name),
                partition: u32::try_from(at).unwrap_or(u32::MAX),
                number: assignment_number(&topic.partitions[at], number),
            }));
        }
        all
    }

    fn number(&self, topic: &str, partition: u32) -> Option<u64> {
        let (place, members, number) = self.handle.groups.assigned(&self.list, self.id)?;
        let at = usize::try_from(partition).ok()?;
        let is_wanted = self
            .wanted
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|name| name == topic));
        if !is_wanted || at % members != place {
            return None;
        }
        let topic = self.handle.shared.topics.get(topic)?;
        let partition = topic.partitions.get(at)?;
        Some(assignment_number(partition, number))
    }
}

/// Bits of an assignment's number that hold the change since which the group's members are these;
/// above them is the partition's id, which has 16 bits.
const CHANGE_BITS: u32 = 48;

/// Number of an assignment: another one when the members have changed, and when the topic was
/// removed and made again.
fn assignment_number(partition: &Partition, change: u64) -> u64 {
    (partition.id << CHANGE_BITS) | (change & ((1 << CHANGE_BITS) - 1))
}

/// See [`Log::consumer`](crate::Log::consumer).
#[derive(Debug)]
pub struct EmbeddedConsumer {
    handle: Handle,
    member: Member,
    /// Topics it reads; `None`: all there are, later ones too.
    wanted: Option<Vec<String>>,
    cursors: BTreeMap<Arc<str>, Cursor>,
    /// Whose turn it is next.
    turn: usize,
    commits: watch::Receiver<u64>,
    changes: watch::Receiver<u64>,
    is_shared: bool,
}

impl EmbeddedConsumer {
    pub(super) fn new(handle: Handle, group: &str, wanted: Option<Vec<String>>) -> Self {
        let groups = Arc::clone(&handle.groups);
        let changes = groups.changes.subscribe();
        // Those with other topics have other partitions.
        let mut list = wanted.clone().unwrap_or_default();
        list.sort_unstable();
        let list = format!("{group}\n{}", list.join("\n"));
        let member = Member {
            id: groups.join(&list),
            groups,
            group: group.to_owned(),
            list,
        };
        Self {
            commits: handle.shared.commits.subscribe(),
            changes,
            wanted,
            cursors: BTreeMap::new(),
            turn: 0,
            is_shared: false,
            member,
            handle,
        }
    }

    /// Takes the partitions that are ours now; those that were ours before keep their place.
    async fn share(&mut self, topics: &[Arc<Topic>]) -> Result<(), LogError> {
        let is_changed = self.changes.has_changed().unwrap_or(false) || !self.is_shared;
        // Whoever drops this half-way finds it still to be done.
        self.is_shared = !is_changed;
        self.changes.borrow_and_update();
        let (place, members) = self.member.groups.share(&self.member.list, self.member.id);
        for topic in topics {
            let cursor = self.cursors.get(&topic.name);
            // A topic that was removed and made again has its offsets from the beginning.
            if !is_changed && cursor.is_some_and(|cursor| cursor.is_of(topic)) {
                continue;
            }
            let committed = committed(&self.handle.shared, &self.member.group, topic).await?;
            let cursor = self.cursors.entry(Arc::clone(&topic.name)).or_default();
            let mine = |at: &usize| at % members == place;
            let partitions = &topic.partitions;
            let is_there = |at: usize, next: &Next| {
                let partition = partitions.get(at);
                partition.is_some_and(|partition| next.is_of(partition))
            };
            cursor
                .next
                .retain(|at, next| mine(at) && is_there(*at, next));
            for (at, (partition, offset)) in partitions.iter().zip(committed).enumerate() {
                if mine(&at) {
                    let next = cursor.next.entry(at);
                    next.or_insert_with(|| Next::new(partition, offset));
                }
            }
        }
        self.is_shared = true;
        Ok(())
    }

    /// Whether positions of this consumer are those of this partition, not of one that had its
    /// place before the topic was removed.
    fn has_read(&self, topic: &str, at: usize, partition: &Partition) -> bool {
        let cursor = self.cursors.get(topic);
        let next = cursor.and_then(|cursor| cursor.next.get(&at));
        next.is_none_or(|next| next.is_of(partition))
    }

    async fn try_next(&mut self) -> Result<Option<Vec<Record>>, LogError> {
        let topics = topics(&self.handle, self.wanted.as_deref());
        self.share(&topics).await?;
        for i in 0..topics.len() {
            let at = (self.turn + i) % topics.len();
            let topic = &topics[at];
            let Some(cursor) = self.cursors.get_mut(&topic.name) else {
                continue;
            };
            if let Some(records) = cursor.read(&self.handle.shared, topic).await? {
                self.turn = (at + 1) % topics.len();
                return Ok(Some(records));
            }
        }
        Ok(None)
    }
}

/// The topics of a list; `None`: all there are.
fn topics(handle: &Handle, wanted: Option<&[String]>) -> Vec<Arc<Topic>> {
    let all = &handle.shared.topics;
    match wanted {
        None => all.all(),
        Some(names) => names.iter().filter_map(|name| all.get(name)).collect(),
    }
}

impl Consumer for EmbeddedConsumer {
    fn assignment(&self) -> Arc<dyn Assignment> {
        Arc::new(Share {
            handle: self.handle.clone(),
            list: self.member.list.clone(),
            id: self.member.id,
            wanted: self.wanted.clone(),
        })
    }

    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        loop {
            self.commits.borrow_and_update();
            if let Some(records) = self.try_next().await? {
                return Ok(records);
            }
            tokio::select! {
                changed = self.commits.changed() => changed.map_err(|_| LogError::Closed)?,
                changed = self.changes.changed() => {
                    changed.map_err(|_| LogError::Closed)?;
                    // `share` has to see it.
                    self.is_shared = false;
                }
            }
        }
    }

    async fn commit(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let (place, members) = self.member.groups.share(&self.member.list, self.member.id);
        let mut mine = Vec::new();
        for position in positions {
            let at = usize::try_from(position.partition).unwrap_or(usize::MAX);
            let topic = self.handle.shared.topics.get(&position.topic);
            if let Some(partition) = topic.as_ref().and_then(|topic| topic.partitions.get(at))
                && at % members == place
                && self.has_read(&position.topic, at, partition)
            {
                mine.push((partition.id, position.offset));
            }
        }
        if mine.is_empty() {
            return Ok(());
        }
        let (reply, done) = oneshot::channel();
        let command = Command::Commit {
            group: self.member.group.clone(),
            positions: mine,
            reply,
        };
        self.handle.send(command).await?;
        done.await.map_err(|_| LogError::Closed)?
    }
}

/// What a group has committed of each partition of a topic; the oldest record where it has nothing.
async fn committed(shared: &Shared, group: &str, topic: &Arc<Topic>) -> Result<Vec<u64>, LogError> {
    let (shared, group, topic) = (shared.clone(), group.to_owned(), Arc::clone(topic));
    let pool = Arc::clone(&shared.pool);
    let read = pool.run(move || {
        let done = shared.pool.with(&shared.store, |connection| {
            let mut all = Vec::new();
            for partition in &topic.partitions {
                let offset: Option<i64> = connection
                    .prepare_cached("SELECT offset FROM committed WHERE consumer_group = ?1 AND partition_id = ?2")
                    .and_then(|mut statement| {
                        statement
                            .query_row(params![group, partition.id.cast_signed()], |row| row.get(0))
                            .optional()
                    })
                    .map_err(|error| shared.store.error("read", &error))?;
                all.push(offset.map_or_else(|| partition.begin(), i64::cast_unsigned));
            }
            Ok(all)
        });
        done.map_err(|error| shared.report(error))
    });
    read.await.map_err(|_| LogError::Closed)?
}

//! Topics that are made: when a record comes for one, and those that are named before.

use std::sync::Arc;

use rusqlite::{Transaction, params};

use super::Writer;
use crate::embedded::additions::Additions;
use crate::embedded::store::MAX_PARTITIONS;
use crate::embedded::topics::{Partition, Topic};

impl Writer {
    /// The topic of this name, made if there is none; `None` if there are too many already.
    pub(super) fn topic(
        &mut self,
        transaction: &Transaction<'_>,
        additions: &mut Additions,
        name: &Arc<str>,
    ) -> rusqlite::Result<Option<Arc<Topic>>> {
        let known = additions.new_topics.get(name).cloned();
        if let Some(topic) = known.or_else(|| self.shared.topics.get(name)) {
            return Ok(Some(topic));
        }
        let topics = self.shared.topics.len() + additions.new_topics.len();
        if topics >= self.shared.options.max_topics {
            if self.full_lines.take() {
                tracing::error!(
                    topic = &**name,
                    topics,
                    "the log has its most topics and creates no more; records are refused. \
                     `dovecast topics --remove` removes those that nobody needs"
                );
            }
            return Ok(None);
        }
        self.create(transaction, additions, name).map(Some)
    }

    /// Makes topics that are not there yet, however many there are.
    pub(super) fn create_all(
        &mut self,
        transaction: &Transaction<'_>,
        additions: &mut Additions,
        names: &[Arc<str>],
    ) -> rusqlite::Result<()> {
        for name in names {
            let is_known =
                additions.new_topics.contains_key(name) || self.shared.topics.get(name).is_some();
            if !is_known {
                self.create(transaction, additions, name)?;
            }
        }
        Ok(())
    }

    fn create(
        &mut self,
        transaction: &Transaction<'_>,
        additions: &mut Additions,
        name: &Arc<str>,
    ) -> rusqlite::Result<Arc<Topic>> {
        transaction.execute("INSERT INTO topic (name) VALUES (?1)", [&**name])?;
        let topic_id = transaction.last_insert_rowid();
        let left = MAX_PARTITIONS.saturating_sub(self.next_partition_id);
        let count = u64::from(self.shared.options.partitions).clamp(1, left.max(1));
        let mut partitions = Vec::new();
        for number in 0..u32::try_from(count).unwrap_or(1) {
            let id = self.next_partition_id;
            self.next_partition_id += 1;
            transaction.execute(
                "INSERT INTO partition (id, topic, number) VALUES (?1, ?2, ?3)",
                params![id.cast_signed(), topic_id, number],
            )?;
            partitions.push(Partition::new(id, number));
        }
        let topic = Arc::new(Topic {
            name: Arc::clone(name),
            partitions,
        });
        additions
            .new_topics
            .insert(Arc::clone(name), Arc::clone(&topic));
        Ok(topic)
    }
}

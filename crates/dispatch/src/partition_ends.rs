//! Order by key: asks the log where each partition of this process ends; owed deliveries of a
//! partition begin only after it was read up to there (`read_up`). The steps are told in
//! `lane/order`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, Position};

use crate::ledger::{KeyPlace, Ledger, TopicPartition};
use crate::read_up::Numbered;
use crate::shared::Shared;

/// How often partitions are looked at that were not read up.
const PARTITION_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the log is asked about those of a topic.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

impl<L: Log + Clone, S: Ledger> Shared<L, S> {
    /// Positions behind records, with the assignments in which they are read.
    pub(crate) fn numbered(&self, positions: &[Position]) -> Numbered {
        if !self.directory.has_ordered() {
            return Vec::new();
        }
        let numbered = |position: &Position| {
            let of = TopicPartition {
                topic: Arc::clone(&position.topic),
                partition: position.partition,
            };
            let number = self.partitions.number(&of)?;
            Some((of, number, position.offset))
        };
        positions.iter().filter_map(numbered).collect()
    }

    /// Whether what is owed in order of a partition may be delivered here. What is of no topic that
    /// is dispatched is not read at all; what is of another log, others read.
    pub(crate) fn is_read_up(&self, place: &KeyPlace) -> bool {
        let number = place.in_our_log().and_then(|of| self.partitions.number(of));
        match number {
            Some(number) => {
                !self.directory.has_ordered() || self.read_up.is_read(&place.of, number)
            }
            None => !self.is_dispatched(&place.of.topic) || self.read_up.is_left_alone(place),
        }
    }

    /// Partitions of ours of which what is owed in order may be claimed.
    pub(crate) fn claimable(&self) -> Vec<TopicPartition> {
        let ours = self.partitions.all().into_iter();
        let has_ordered = self.directory.has_ordered();
        let read = ours.filter(|(of, number)| !has_ordered || self.read_up.is_read(of, *number));
        read.map(|(of, _)| of).collect()
    }
}

pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut asked: HashMap<Arc<str>, Instant> = HashMap::new();
    loop {
        tokio::time::sleep(PARTITION_CHECK_INTERVAL).await;
        if !shared.directory.has_ordered() {
            continue;
        }
        let unread = shared.read_up.follow(shared.partitions.all());
        asked.retain(|topic, _| unread.contains_key(topic));
        for (topic, partitions) in unread {
            let was_asked = asked.get(&topic);
            if was_asked.is_some_and(|asked| asked.elapsed() < ASK_INTERVAL) {
                continue;
            }
            if let Err(error) = ask(&shared, &topic, &partitions).await {
                tracing::debug!(%error, topic = &*topic, "how far partitions go is not known now");
            }
            asked.insert(topic, Instant::now());
        }
    }
}

async fn ask<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    topic: &Arc<str>,
    partitions: &[u32],
) -> Result<(), LogError> {
    let asked = (Instant::now(), shared.read_up.waited());
    let group = &shared.options.group;
    let progress = shared.log.progress(group, topic, partitions).await?;
    shared.read_up.answered(topic, progress, asked);
    Ok(())
}

//! The first and the last offset of each partition, asked of the log once for all who want to know
//! them at the same time: with Kafka each question takes a connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, StartAt};

use crate::locks::Lock;

/// How long the log may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The bounds of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Offset of the oldest record.
    pub(crate) begin: u64,
    /// Offset the next record will get.
    pub(crate) end: u64,
}

/// What the log has answered last, by topic.
#[derive(Debug)]
pub(crate) struct KnownBounds {
    topics: Lock<HashMap<Arc<str>, Arc<LastAnswer>>>,
}

impl Default for KnownBounds {
    fn default() -> Self {
        Self {
            topics: Lock::new("bounds", HashMap::new()),
        }
    }
}

/// Held by who asks: others wait for the same answer.
type LastAnswer = tokio::sync::Mutex<Option<Answer>>;

#[derive(Debug)]
struct Answer {
    asked: Instant,
    partitions: Arc<[Bounds]>,
}

impl KnownBounds {
    /// The bounds of a topic's partitions, by number, as they were at this time or later; none
    /// where there is no such topic.
    pub(crate) async fn since<L: Log>(
        &self,
        log: &L,
        topic: &Arc<str>,
        since: Instant,
    ) -> Result<Arc<[Bounds]>, LogError> {
        let known = {
            let mut topics = self.topics.lock();
            Arc::clone(topics.entry(Arc::clone(topic)).or_default())
        };
        let asking = async {
            let mut known = known.lock().await;
            if let Some(answer) = known.as_ref().filter(|answer| answer.asked >= since) {
                return Ok(Arc::clone(&answer.partitions));
            }
            let asked = Instant::now();
            let begins = log.positions(topic, StartAt::Beginning).await?;
            let ends = log.positions(topic, StartAt::End).await?;
            let bounds = |(begin, end)| Bounds { begin, end };
            let partitions: Arc<[Bounds]> = begins.into_iter().zip(ends).map(bounds).collect();
            *known = Some(Answer {
                asked,
                partitions: Arc::clone(&partitions),
            });
            Ok(partitions)
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        answer.unwrap_or_else(|_| {
            Err(LogError::Io {
                doing: "ask",
                place: topic.to_string(),
                reason: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            })
        })
    }
}

//! From the log to streams: reads all event topics from their end on, outside any group, because
//! each node has streams of its own.

use std::sync::Arc;
use std::time::Duration;

use dovecast_event::Record;
use dovecast_log::{LineLimit, Log, LogError, Reader, StartAt, now_ms};
use dovecast_mail_push::MailEvent;
use dovecast_notification::EventAccount;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::catch_up::{CatchUp, Catching};
use super::cursor::RecordAt;
use super::hub::{Hub, Seen};
use super::turns::Turns;
use crate::push::counters::{Count, Counters};

/// How long until the log is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// About a log that cannot be followed.
static LINES: LineLimit = LineLimit::a_minute(1);
/// About events that are lost.
static LOST_LINES: LineLimit = LineLimit::a_minute(20);

/// What the log is followed with.
#[derive(Clone)]
pub(super) struct EventFeed {
    pub(super) hub: Arc<Hub>,
    pub(super) counters: Arc<Counters>,
    pub(super) account: EventAccount,
    pub(super) requests: Arc<Mutex<mpsc::UnboundedReceiver<CatchUp>>>,
}

impl EventFeed {
    /// Follows the log until it is closed.
    pub(super) async fn follow<L: Log + Clone>(&self, log: &L, topics: &[String]) {
        let begins_ms = now_ms();
        let mut readers = Vec::new();
        let mut seen = Seen::new();
        for topic in topics {
            let Some((reader, ends)) = begin(log, topic).await else {
                return;
            };
            let topic: Arc<str> = topic.as_str().into();
            for (partition, end) in (0..).zip(ends) {
                seen.insert((Arc::clone(&topic), partition), end);
            }
            readers.push(reader);
        }
        self.hub.begin(seen, begins_ms);
        let mut tasks = JoinSet::new();
        for reader in readers {
            let feed = self.clone();
            tasks.spawn(async move { feed.read(reader).await });
        }
        let (feed, log, topics) = (self.clone(), log.clone(), topics.to_vec());
        tasks.spawn(async move { feed.catch_up(log, topics).await });
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    async fn read<R: Reader>(&self, mut reader: R) {
        loop {
            match reader.next().await {
                Ok(records) => {
                    for record in &records {
                        self.take(record);
                    }
                }
                Err(LogError::Closed) => return,
                Err(error @ (LogError::Expired { .. } | LogError::Corrupt { .. })) => {
                    self.counters.add(Count::Lost, 1);
                    self.hub.lost();
                    if LOST_LINES.take() {
                        tracing::error!(%error, "events are lost; open streams are told of a gap");
                    }
                }
                Err(error) => trouble(&error).await,
            }
        }
    }

    fn take(&self, record: &Record) {
        let event = MailEvent::parse(&record.value, &self.account).ok();
        let place = RecordAt {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
        };
        self.hub.deliver(place, record.timestamp_ms, event.as_ref());
    }

    /// Serves streams that have missed something.
    async fn catch_up<L: Log + Clone>(&self, log: L, topics: Vec<String>) {
        let topics: Arc<[String]> = topics.into();
        let mut requests = self.requests.lock().await;
        let turns = Turns::default();
        let mut tasks = JoinSet::new();
        while let Some(request) = requests.recv().await {
            while let Some(ended) = tasks.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a stream could not catch up");
                }
            }
            let catching = Catching {
                log: log.clone(),
                topics: Arc::clone(&topics),
                account: self.account.clone(),
                counters: Arc::clone(&self.counters),
                turns: turns.clone(),
            };
            tasks.spawn(async move { catching.run(request).await });
        }
    }
}

/// A reader at the end of a topic, and where that is: the end is asked for behind it, so that what
/// comes between the two is told twice rather than never.
async fn begin<L: Log>(log: &L, topic: &str) -> Option<(L::Reader, Vec<u64>)> {
    loop {
        let begun = async {
            let reader = log.reader(topic, StartAt::End).await?;
            Ok((reader, log.positions(topic, StartAt::End).await?))
        };
        match begun.await {
            Ok(begun) => return Some(begun),
            Err(LogError::Closed) => return None,
            Err(error) => trouble(&error).await,
        }
    }
}

async fn trouble(error: &LogError) {
    if LINES.take() {
        tracing::warn!(%error, "streams of mail push cannot follow the log; this is retried");
    }
    tokio::time::sleep(RETRY_INTERVAL).await;
}

//! What the target has already of the records that are shipped first.
//!
//! A shipper that ended between the target's answer and its own commit would ship a batch again. So
//! before the first append the target is read back, from the time on since which something was
//! shipped and not committed, and what is found there by its `dovecast-id` is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_event::header_name;
use dovecast_log::{Log, LogError, Reader, Record, StartAt};

/// How much is read back at most, of all topics together.
const READ_BACK_RECORDS: u64 = 2_000_000;
const READ_BACK_TIME: Duration = Duration::from_mins(2);
/// How long nothing may come before the end is reached: what ends a partition need not be a record.
const READ_BACK_IDLE: Duration = Duration::from_secs(10);
/// Clocks differ.
const SLACK_MS: i64 = 10_000;

/// Which records of the spool may be in the target already.
pub(super) struct Doubtful {
    /// The offset of each partition before which records are doubtful. What is behind was not in an
    /// append before the shipper was started, because it came later, or because an append is no
    /// longer.
    ends: HashMap<(Arc<str>, u32), u64>,
}

impl Doubtful {
    pub(super) async fn of(
        spool: &impl Log,
        group: &str,
        longest_append: u64,
    ) -> Result<Self, LogError> {
        let mut committed = HashMap::new();
        for place in spool.groups().await? {
            if place.group == group {
                let partition = (Arc::<str>::from(place.topic), place.partition);
                committed.insert(partition, place.committed);
            }
        }
        let mut ends = HashMap::new();
        for topic in spool.topics().await? {
            let name: Arc<str> = topic.name.into();
            for (number, partition) in (0..).zip(topic.partitions) {
                let place = (Arc::clone(&name), number);
                let begin = committed.get(&place).copied().unwrap_or(partition.begin);
                let end = partition.end.min(begin.saturating_add(longest_append));
                ends.insert(place, end);
            }
        }
        Ok(Self { ends })
    }

    /// Whether these, which are shipped next, have to be looked up.
    pub(super) fn contains_any(&self, records: &[Record]) -> bool {
        records.iter().any(|record| {
            let partition = (Arc::clone(&record.topic), record.partition);
            self.ends
                .get(&partition)
                .is_some_and(|end| record.offset < *end)
        })
    }
}

/// What was found, and whether everything was looked at.
pub(super) struct Known {
    ids: HashSet<Vec<u8>>,
    pub(super) is_whole: bool,
}

impl Known {
    pub(super) fn contains(&self, record: &Record) -> bool {
        id(record).is_some_and(|id| self.ids.contains(id))
    }
}

/// A record's id, as its header has it.
fn id(record: &Record) -> Option<&[u8]> {
    record.header(header_name::ID)
}

/// Looks for the ids of records in the target. What goes wrong is tried again from its beginning,
/// within the same bounds.
pub(super) struct LookUp {
    asked: HashSet<Vec<u8>>,
    oldest: BTreeMap<Arc<str>, i64>,
    bounds: Bounds,
}

impl LookUp {
    /// Where it is not known since when something may have been shipped, it is not before the time
    /// of the oldest record.
    pub(super) fn of(records: &[Record], since_ms: Option<i64>) -> Self {
        let mut oldest = BTreeMap::<Arc<str>, i64>::new();
        let mut asked = HashSet::new();
        for record in records {
            if let Some(id) = id(record) {
                asked.insert(id.to_owned());
                let time = oldest.entry(Arc::clone(&record.topic));
                let own = since_ms.unwrap_or(record.timestamp_ms);
                let time = time.or_insert(own);
                *time = (*time).min(own);
            }
        }
        Self {
            asked,
            oldest,
            bounds: Bounds {
                records: READ_BACK_RECORDS,
                until: None,
            },
        }
    }

    /// An error only where the target cannot be asked at all: nothing can be shipped then, either.
    pub(super) async fn go_on<L: Log>(&mut self, target: &L) -> Result<Known, LogError> {
        let mut known = Known {
            ids: HashSet::new(),
            is_whole: true,
        };
        for (topic, time) in &self.oldest {
            let start = StartAt::Time(time.saturating_sub(SLACK_MS));
            let begin = target.positions(topic, start).await?;
            let end = target.positions(topic, StartAt::End).await?;
            // From here on it answers.
            let until = self.bounds.until;
            self.bounds.until = Some(until.unwrap_or_else(|| Instant::now() + READ_BACK_TIME));
            let places = Places {
                topic,
                start,
                begin,
                end,
            };
            let shown = look_in(target, places, &mut self.bounds, |id| {
                if self.asked.contains(id) {
                    known.ids.insert(id.to_owned());
                }
            });
            match shown.await {
                Ok(is_whole) => known.is_whole &= is_whole,
                Err(error) => {
                    tracing::warn!(%error, topic = &**topic, "cannot look up in kafka which records it has already; some may be in it twice");
                    known.is_whole = false;
                }
            }
        }
        Ok(known)
    }
}

/// What of a topic is looked through.
struct Places<'a> {
    topic: &'a str,
    start: StartAt,
    begin: Vec<u64>,
    end: Vec<u64>,
}

struct Bounds {
    records: u64,
    until: Option<Instant>,
}

/// Shows all ids of a topic from one place to another; `false`: the bounds were reached before.
async fn look_in<L: Log>(
    target: &L,
    Places {
        topic,
        start,
        begin,
        end,
    }: Places<'_>,
    bounds: &mut Bounds,
    mut show: impl FnMut(&[u8]),
) -> Result<bool, LogError> {
    let mut left = BTreeSet::new();
    for (partition, (begin, end)) in (0_u32..).zip(begin.into_iter().zip(&end)) {
        if begin < *end {
            left.insert(partition);
        }
    }
    if left.is_empty() {
        return Ok(true);
    }
    let mut reader = target.reader(topic, start).await?;
    while !left.is_empty() {
        let until = bounds.until.unwrap_or_else(Instant::now);
        let time = until.saturating_duration_since(Instant::now());
        let next = tokio::time::timeout(time.min(READ_BACK_IDLE), reader.next());
        let Ok(read) = next.await else {
            return Ok(false);
        };
        let records = match read {
            Err(LogError::Corrupt { .. } | LogError::Expired { .. }) => continue,
            read => read?,
        };
        for record in &records {
            if let Some(id) = id(record) {
                show(id);
            }
            let place = usize::try_from(record.partition).unwrap_or(usize::MAX);
            if end.get(place).is_none_or(|end| record.offset + 1 >= *end) {
                left.remove(&record.partition);
            }
        }
        bounds.records = bounds.records.saturating_sub(records.len() as u64);
        if bounds.records == 0 {
            return Ok(left.is_empty());
        }
    }
    Ok(true)
}

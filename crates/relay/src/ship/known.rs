//! What the target has already of the records that are shipped first.
//!
//! A shipper that ended between the target's answer and its own commit would ship a batch again. So before the first append
//! the target is read back, from the time of the oldest record of that batch, and what is found there by its `dovecast-id` is
//! left out.

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
    /// Where the partitions of the spool ended when the shipper was started: what came later was never shipped.
    ends: HashMap<(Arc<str>, u32), u64>,
    /// How many records one append may have had: what is behind them was not shipped either.
    left: usize,
}

impl Doubtful {
    pub(super) async fn of(spool: &impl Log, longest_append: usize) -> Result<Self, LogError> {
        let mut ends = HashMap::new();
        for topic in spool.topics().await? {
            let name: Arc<str> = topic.name.into();
            for (number, partition) in (0..).zip(topic.partitions) {
                ends.insert((Arc::clone(&name), number), partition.end);
            }
        }
        Ok(Self {
            ends,
            left: longest_append,
        })
    }

    /// Whether these, which are shipped next, have to be looked up.
    pub(super) fn contains_any(&mut self, records: &[Record]) -> bool {
        let is_doubtful = |record: &Record| {
            let partition = (Arc::clone(&record.topic), record.partition);
            self.ends
                .get(&partition)
                .is_some_and(|end| record.offset < *end)
        };
        let found = self.left > 0 && records.iter().any(is_doubtful);
        self.left = self.left.saturating_sub(records.len());
        if self.left == 0 {
            self.ends = HashMap::new();
        }
        found
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

/// The ids of `records` that are in the target.
pub(super) async fn look_up<L: Log>(target: &L, records: &[Record]) -> Result<Known, LogError> {
    let mut oldest = BTreeMap::<Arc<str>, i64>::new();
    let mut asked = HashSet::new();
    for record in records {
        if let Some(id) = id(record) {
            asked.insert(id);
            let time = oldest.entry(Arc::clone(&record.topic));
            let time = time.or_insert(record.timestamp_ms);
            *time = (*time).min(record.timestamp_ms);
        }
    }
    let mut known = Known {
        ids: HashSet::new(),
        is_whole: true,
    };
    let mut bounds = Bounds {
        records: READ_BACK_RECORDS,
        until: Instant::now() + READ_BACK_TIME,
    };
    for (topic, time) in oldest {
        let start = StartAt::Time(time.saturating_sub(SLACK_MS));
        known.is_whole &= look_in(target, (&topic, start), &mut bounds, |id| {
            if asked.contains(id) {
                known.ids.insert(id.to_owned());
            }
        })
        .await?;
    }
    Ok(known)
}

struct Bounds {
    records: u64,
    until: Instant,
}

/// Shows all ids of a topic from `start` to its present end; `false`: the bounds were reached before.
async fn look_in<L: Log>(
    target: &L,
    (topic, start): (&str, StartAt),
    bounds: &mut Bounds,
    mut show: impl FnMut(&[u8]),
) -> Result<bool, LogError> {
    let begin = target.positions(topic, start).await?;
    let end = target.positions(topic, StartAt::End).await?;
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
        let time = bounds.until.saturating_duration_since(Instant::now());
        let next = tokio::time::timeout(time.min(READ_BACK_IDLE), reader.next());
        let Ok(read) = next.await else {
            return Ok(false);
        };
        let records = match read {
            Err(LogError::Corrupt { .. }) => continue,
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

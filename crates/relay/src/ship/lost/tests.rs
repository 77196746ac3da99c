//! Stores that are away, and stores that do not keep what they are given.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use super::super::Counters;
use super::*;

/// The offset of a record that is never kept.
const POISON: u64 = 7;

/// A store that is away at first.
#[derive(Debug, Default)]
struct Letters {
    away: AtomicU32,
    /// Whether it then keeps one record not.
    is_picky: bool,
    /// How many records it was given, and with which time.
    given: Mutex<Vec<(usize, i64)>>,
    /// The offsets of what it has kept.
    kept: Mutex<Vec<u64>>,
}

impl KeepLost for Letters {
    fn keep<'a>(&'a self, lost: &'a [Lost<'a>], time_ms: i64) -> Kept<'a> {
        Box::pin(async move {
            let mut given = self.given.lock().expect("no panic");
            given.push((lost.len(), time_ms));
            let away = self.away.load(Ordering::Relaxed);
            if away > 0 {
                self.away.store(away - 1, Ordering::Relaxed);
                return Err(NotKept::Unavailable("away".to_owned()));
            }
            if self.is_picky && lost.iter().any(|lost| lost.record.offset == POISON) {
                return Err(NotKept::Failed("not that one".to_owned()));
            }
            let mut kept = self.kept.lock().expect("no panic");
            kept.extend(lost.iter().map(|lost| lost.record.offset));
            Ok(())
        })
    }
}

fn records(count: u64) -> Vec<Record> {
    let record = |offset| Record {
        topic: Arc::from("t"),
        partition: 0,
        offset,
        key: None,
        value: Bytes::from_static(b"too large"),
        headers: Vec::new(),
        timestamp_ms: 0,
    };
    (0..count).map(record).collect()
}

/// Keeps what is refused; how that ended, and how many were counted as kept.
async fn run(
    letters: &Arc<Letters>,
    count: u64,
    stopping: watch::Receiver<bool>,
) -> (Result<(), LogError>, u64) {
    let counters = Arc::<Counters>::default();
    let keeper = Arc::clone(letters) as Arc<dyn KeepLost>;
    let mut retry = Retry::new(&counters, Some(&keeper), stopping);
    let records = records(count);
    let lost = records.iter().map(|record| Lost {
        record,
        reason: "too large",
    });
    let done = keep(&mut retry, lost.collect()).await;
    (done, counters.kept.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_once_for_all_records() {
    for (away, count) in [(0, 1), (3, 300), (KEEP_TRIES * 3, 300)] {
        let letters = Arc::new(Letters {
            away: away.into(),
            ..Letters::default()
        });
        let stopping = watch::Sender::new(false);
        let done = run(&letters, count, stopping.subscribe()).await;
        assert_eq!(done, (Ok(()), count), "away for {away} tries");
        let given = letters.given.lock().expect("no panic").clone();
        assert_eq!(given.len(), away as usize + 1, "away for {away} tries");
        // All at once, and with one time, so that a store knows what it has kept already.
        let given: BTreeSet<_> = given.into_iter().collect();
        assert_eq!(given.len(), 1, "{given:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_not_kept_costs_no_other() {
    let letters = Arc::new(Letters {
        is_picky: true,
        ..Letters::default()
    });
    let stopping = watch::Sender::new(false);
    let count = KEEP_RECORDS as u64 + 20;
    let done = run(&letters, count, stopping.subscribe()).await;
    assert_eq!(done, (Ok(()), count - 1));
    let mut kept = letters.kept.lock().expect("no panic").clone();
    kept.sort_unstable();
    let expected: Vec<u64> = (0..count).filter(|offset| *offset != POISON).collect();
    assert_eq!(kept, expected);
    let alone = letters.given.lock().expect("no panic").len() - 2 - KEEP_RECORDS;
    assert_eq!(alone, KEEP_TRIES as usize - 1, "it is tried for a while");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_store_ends_with_the_shipper() {
    let letters = Arc::new(Letters {
        away: u32::MAX.into(),
        ..Letters::default()
    });
    let stopping = watch::Sender::new(false);
    let waiting = run(&letters, 3, stopping.subscribe());
    let stop = async {
        tokio::time::sleep(Duration::from_hours(1)).await;
        stopping.send_replace(true);
    };
    let (done, ()) = tokio::join!(waiting, stop);
    assert_eq!(done, (Err(LogError::Closed), 0));
}

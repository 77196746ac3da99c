//! The consumer: reads the log, finds the endpoints of each notification, offers it to their queues
//! (lanes), and commits the offsets of what is done.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_log::{Consumer, LineLimit, Log, LogError, Position, Record};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bad_record::bury;
use crate::item::{Item, ReadTogether};
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::live::Live;
use crate::matching::Found;
use crate::options::{STOP_PATIENCE, Unread};
use crate::panics::{caught, caught_now};
use crate::room::ROOM_CHECK_INTERVAL;
use crate::shared::Shared;
use crate::stats::count;
use crate::{
    catch_up, free_ranges, heartbeat, held_keys, lanes, partition_ends, recording, retrier,
    take_up, trace,
};

/// How long a record waits for room in memory before it is left to a range.
const LIVE_ROOM_PATIENCE: Duration = Duration::from_secs(1);
/// Deliveries of a notification that are offered in a row before other tasks have their turn on the
/// processor.
const OFFERS: usize = 64;
/// Reads that wait for their commit from which on nothing more is read.
const OPEN_READS: usize = 10_000;
/// How many times the deliveries that may be in flight may wait to be written before nothing more
/// is read; they wait while the ledger is away.
const UNWRITTEN_PER_IN_FLIGHT: u64 = 10;
/// About records that were removed before they were read.
static EXPIRED_LINES: LineLimit = LineLimit::a_minute(20);

/// Why a life of the dispatcher is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The dispatcher was stopped, or its log is closed.
    Stopped,
    /// A part of it has failed: another life may do better.
    Failed,
}

pub(crate) async fn run<L: Log + Clone, S: Ledger>(
    shared: Arc<Shared<L, S>>,
    fallen_behind: mpsc::UnboundedReceiver<Arc<Lane>>,
    mut stopping: watch::Receiver<bool>,
) -> Ended {
    let Some(mut consumer) = join_group(&shared, &stopping).await else {
        return Ended::Stopped;
    };
    shared.partitions.are(consumer.assignment());
    // Before anything is claimed.
    if !begin_life(&shared, &stopping).await {
        return Ended::Stopped;
    }
    let mut helpers = begin_helpers(&shared, fallen_behind);
    let (commits, mut to_commit) = mpsc::unbounded_channel();
    let recording = tokio::spawn(recording::run(Arc::clone(&shared), commits));
    let ended = loop {
        let may_read = has_room(&shared);
        shared.read_up.waits(may_read);
        tokio::select! {
            biased;
            _ = stopping.changed() => break Ended::Stopped,
            Some(positions) = to_commit.recv() => {
                shared.read_up.waits(false);
                if !commit(&shared, &mut consumer, &positions).await {
                    break Ended::Failed;
                }
            }
            read = caught(consumer.next()), if may_read => {
                shared.read_up.waits(false);
                // Of a consumer that has panicked nothing is known: another one reads again what is
                // not committed.
                let taken = match read {
                    Ok(read) => caught(take(&shared, read, &stopping)).await,
                    Err(panicked) => Err(panicked),
                };
                match taken {
                    Ok(None) => {}
                    Ok(Some(ended)) => break ended,
                    Err(panicked) => {
                        shared.panicked("consume", &panicked);
                        break Ended::Failed;
                    }
                }
            },
            Some(_) = helpers.join_next() => break Ended::Failed,
            () = shared.room.news(), if !may_read => {}
            () = tokio::time::sleep(ROOM_CHECK_INTERVAL), if !may_read => {}
        }
    };
    helpers.shutdown().await;
    end(&shared).await;
    // The recorder ends after what is left; its channel closes then.
    while let Some(positions) = to_commit.recv().await {
        commit(&shared, &mut consumer, &positions).await;
    }
    if let Err(error) = recording.await {
        tracing::error!(%error, "the recorder has failed");
    }
    if let Err(error) = shared.leave().await {
        // In some seconds we are taken for dead.
        tracing::warn!(%error, "claims cannot be released; others take them over in some seconds");
    }
    ended
}

/// The consumer of the log; `None`: the dispatcher stops, or the log is closed.
async fn join_group<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    stopping: &watch::Receiver<bool>,
) -> Option<L::Consumer> {
    let topics: Vec<String> = shared.options.sources.keys().cloned().collect();
    loop {
        match shared.log.consumer(&shared.options.group, &topics).await {
            Ok(consumer) => return Some(consumer),
            Err(LogError::Closed) => return None,
            Err(error) => shared.log_failed(&error).await,
        }
        if *stopping.borrow() {
            return None;
        }
    }
}

/// Has the others know that this dispatcher lives; `false`: it stops.
async fn begin_life<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    stopping: &watch::Receiver<bool>,
) -> bool {
    while let Err(error) = shared.beat().await {
        if *stopping.borrow() {
            return false;
        }
        shared.ledger_failed(&error).await;
    }
    true
}

/// Begins what works beside the reading of the log.
fn begin_helpers<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    fallen_behind: mpsc::UnboundedReceiver<Arc<Lane>>,
) -> JoinSet<()> {
    let mut helpers = JoinSet::new();
    helpers.spawn(Arc::clone(shared).keep_up("heartbeat", heartbeat::run));
    helpers.spawn(Arc::clone(shared).keep_up("lanes", lanes::look_after));
    helpers.spawn(Arc::clone(shared).keep_up("retrier", retrier::run));
    helpers.spawn(Arc::clone(shared).keep_up("take_up", take_up::run));
    helpers.spawn(Arc::clone(shared).keep_up("free_ranges", free_ranges::run));
    helpers.spawn(Arc::clone(shared).keep_up("held_keys", held_keys::run));
    helpers.spawn(Arc::clone(shared).keep_up("partition_ends", partition_ends::run));
    helpers.spawn(catch_up::run(Arc::clone(shared), fallen_behind));
    helpers
}

/// Takes what was read; `Some`: nothing more can be.
async fn take<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    read: Result<Vec<Record>, LogError>,
    stopping: &watch::Receiver<bool>,
) -> Option<Ended> {
    match read {
        Ok(records) => dispatch(shared, &records, stopping).await,
        Err(LogError::Closed) => return Some(Ended::Stopped),
        Err(error @ LogError::Corrupt { .. }) => {
            count(&shared.counters.damaged, 1);
            tracing::error!(%error, "records of the log are damaged; their notifications are lost");
        }
        Err(LogError::Expired {
            topic,
            partition,
            offsets,
        }) => {
            count(&shared.counters.expired, offsets.end - offsets.start);
            // The records of one key may be removed from between those of others.
            if let Some(suppressed) = EXPIRED_LINES.take_counted() {
                tracing::error!(
                    topic,
                    partition,
                    from = offsets.start,
                    to = offsets.end,
                    suppressed,
                    "notifications were removed from the log before they were read, and reach no endpoint"
                );
            }
        }
        Err(error) => shared.log_failed(&error).await,
    }
    None
}

fn has_room<L, S>(shared: &Shared<L, S>) -> bool {
    let waiting = u64::try_from(shared.recorder.waiting()).unwrap_or(u64::MAX);
    !shared.room.is_full()
        && shared.recorder.open_reads() < OPEN_READS
        && waiting < shared.options.in_flight * UNWRITTEN_PER_IN_FLIGHT
}

/// `false`: the consumer has panicked.
async fn commit<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    consumer: &mut L::Consumer,
    positions: &[Position],
) -> bool {
    match caught(consumer.commit(positions)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            // The next commit says the same and more; after a crash they are read again.
            tracing::warn!(%error, "the offsets of what is done cannot be committed, the next commit includes them");
            true
        }
        Err(panicked) => {
            shared.panicked("consume", &panicked);
            false
        }
    }
}

/// What waits is owed, what is under way may end; nothing is ours any more.
async fn end<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>) {
    shared.is_stopping.store(true, Ordering::Release);
    let lanes: Vec<_> = shared.lanes().values().cloned().collect();
    for lane in &lanes {
        let (shed, waiting) = {
            let mut state = lane.state();
            (state.fall_behind(), state.end())
        };
        shared.deferred(lane, shed);
        // What is of ranges is read again.
        let (owed, others): (Vec<Item>, Vec<Item>) = waiting.into_iter().partition(Item::is_owed);
        others.into_iter().for_each(Item::abandon);
        shared.give_back(owed, Duration::ZERO);
    }
    let deadline = Instant::now() + STOP_PATIENCE;
    while shared.is_busy() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shared.is_over.store(true, Ordering::Release);
    shared.recorder.news.notify_one();
}

/// Finds the endpoints of what was read.
async fn dispatch<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    records: &[Record],
    stopping: &watch::Receiver<bool>,
) {
    shared.learn_ordered();
    let read_together = ReadTogether::new(Position::behind(records));
    let numbered = shared.numbered(&read_together.positions);
    shared.ask_debtors(records).await;
    count(&shared.counters.records, records.len() as u64);
    for record in records {
        // When the dispatcher stops, it is owed in a moment.
        shared.room.until_free(|| *stopping.borrow()).await;
        let read = read_record(shared, record, &read_together, stopping);
        if let Some(matched) = read.await {
            offer(shared, matched).await;
        }
    }
    shared.read_up.note(numbered);
    shared.recorder.begin(Arc::clone(&read_together));
    if read_together.done() {
        shared.recorder.news.notify_one();
    }
}

/// The notification of a record, if anyone wants it or may want it. One that is none is buried.
async fn read_record<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    record: &Record,
    read_together: &Arc<ReadTogether>,
    stopping: &watch::Receiver<bool>,
) -> Option<Matched> {
    let reason = match caught_now(|| matched(shared, record, read_together)) {
        Ok(Ok(matched)) => return matched,
        Ok(Err(error)) => error.to_string(),
        Err(panicked) => {
            shared.panicked("consume", &panicked);
            format!("reading it has panicked: {panicked}")
        }
    };
    await_room(shared, record.value.len(), stopping).await;
    bury(shared, record, &reason);
    None
}

/// Offers a notification to all that want it, and has the others evaluated.
async fn offer<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>, matched: Matched) {
    let Matched {
        mut live,
        mut found,
    } = matched;
    // What was found is in order, if it is, since before it was found.
    shared.learn_ordered();
    if let Err(panicked) = caught_now(|| shared.note_missed(&live, &mut found)) {
        // To be offered to all of them, also where that is a second time.
        shared.panicked("consume", &panicked);
    }
    if found.is_empty() {
        return;
    }
    let bytes = live.notification.memory_bytes();
    live.held = shared.budget.take_within(bytes, LIVE_ROOM_PATIENCE).await;
    if live.held.is_none() {
        return shared.crowd_out(&live, found);
    }
    for (place, endpoint) in found.wanted.iter().enumerate() {
        if let Err(panicked) = caught(shared.offer_read(endpoint, &live)).await {
            // What was dropped so is owed.
            shared.panicked("consume", &panicked);
        }
        if place % OFFERS == OFFERS - 1 {
            tokio::task::yield_now().await;
        }
    }
    if !found.costly.is_empty() {
        shared.find_later(live, found.costly);
    }
}

/// A notification, and who wants it or may want it.
struct Matched {
    live: Live,
    found: Found,
}

fn matched<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    record: &Record,
    read_together: &Arc<ReadTogether>,
) -> Result<Option<Matched>, Unread> {
    let notification = shared.read(record)?;
    let mut found = Found::default();
    shared.find(&notification, &mut found);
    let span = trace::read(notification.id, record);
    trace::matched(&span, found.wanted.len());
    if found.is_empty() {
        return Ok(None);
    }
    let mut live = Live::new(notification, record, read_together, span, &shared.log_name);
    if !found.wanted.is_empty() {
        live.is_matched = true;
        count(&shared.counters.matched, 1);
    }
    Ok(Some(Matched { live, found }))
}

/// Waits for room for a body that is kept until it is written to the ledger.
async fn await_room<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    bytes: usize,
    stopping: &watch::Receiver<bool>,
) {
    while !*stopping.borrow() {
        let held = shared.budget.wait(bytes, ROOM_CHECK_INTERVAL).await;
        if held.is_some() {
            return shared.recorder.hold(held);
        }
    }
}

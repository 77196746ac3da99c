//! The feed: reads the log, finds the endpoints of each notification, offers it to their lanes, and commits what is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dovecast_log::{Consumer, Log, LogError, Position, Record};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::endpoint::Endpoint;
use super::item::{Group, Item, Origin};
use super::ledger::{DeadLetter, Ledger};
use super::matching::{Found, Live};
use super::stats::count;
use super::{STOP, Shared, lanes, now_ms, retrier, take_up, trace};
use crate::NotificationId;

/// How long what has happened is gathered before it is written.
const GATHER: Duration = Duration::from_millis(20);
/// How often it is looked whether there is room again.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// How often we say that we live.
const BEAT: Duration = Duration::from_secs(1);
/// How long until a lane that is full is looked at again.
const FULL: Duration = Duration::from_millis(1);
/// Groups that may wait for their commit.
const OPEN_GROUPS: usize = 10_000;
/// While the ledger is away nothing more is read when so many times the deliveries that may be in flight have happened.
const UNWRITTEN: u64 = 10;

pub(super) async fn run<L: Log + Clone, S: Ledger>(
    shared: Arc<Shared<L, S>>,
    mut stopping: watch::Receiver<bool>,
) {
    let topics: Vec<String> = shared.options.sources.keys().cloned().collect();
    let mut told = None;
    let mut consumer = loop {
        match shared.log.consumer(&shared.options.group, &topics).await {
            Ok(consumer) => break consumer,
            Err(LogError::Closed) => return,
            Err(error) => trouble(&mut told, &error).await,
        }
        if *stopping.borrow() {
            return;
        }
    };
    let (commits, mut to_commit) = mpsc::unbounded_channel();
    let mut helpers = JoinSet::new();
    // Before anything is claimed.
    while let Err(error) = shared.beat().await {
        if *stopping.borrow() {
            return;
        }
        shared.ledger_failed(&mut told, &error).await;
    }
    helpers.spawn(live(Arc::clone(&shared)));
    helpers.spawn(lanes::look_after(Arc::clone(&shared)));
    helpers.spawn(retrier::run(Arc::clone(&shared)));
    helpers.spawn(take_up::run(Arc::clone(&shared)));
    let recording = tokio::spawn(record(Arc::clone(&shared), commits));
    loop {
        let may_read = has_room(&shared);
        tokio::select! {
            biased;
            _ = stopping.changed() => break,
            Some(positions) = to_commit.recv() => commit(&mut consumer, &positions).await,
            read = consumer.next(), if may_read => match read {
                Ok(records) => dispatch(&shared, &records, &stopping).await,
                Err(LogError::Closed) => break,
                Err(error @ LogError::Corrupt { .. }) => {
                    count(&shared.counters.damaged, 1);
                    tracing::error!(%error, "notifications are lost");
                }
                Err(LogError::Expired { topic, partition, offsets }) => {
                    count(&shared.counters.expired, offsets.end - offsets.start);
                    tracing::error!(
                        topic, partition, from = offsets.start, to = offsets.end,
                        "notifications were removed from the log before they were read, and reach nobody"
                    );
                }
                Err(error) => trouble(&mut told, &error).await,
            },
            Some(_) = helpers.join_next() => {
                tracing::error!("a part of the dispatcher has failed");
                break;
            }
            () = shared.room.notified(), if !may_read => {}
            () = tokio::time::sleep(LOOK), if !may_read => {}
        }
    }
    helpers.shutdown().await;
    end(&shared).await;
    // The recorder ends after what is left; its channel closes then.
    while let Some(positions) = to_commit.recv().await {
        commit(&mut consumer, &positions).await;
    }
    if recording.await.is_err() {
        tracing::error!("the recorder has failed");
    }
    if let Err(error) = shared.ledger.leave().await {
        // In some seconds we are taken for dead.
        tracing::warn!(%error, "what was claimed cannot be given back");
    }
}

fn has_room<L, S>(shared: &Shared<L, S>) -> bool {
    let waiting = u64::try_from(shared.recorder.waiting()).unwrap_or(u64::MAX);
    shared.counters.in_flight.load(Ordering::Acquire) < shared.options.in_flight
        && shared.recorder.open_groups() < OPEN_GROUPS
        && waiting < shared.options.in_flight * UNWRITTEN
}

async fn trouble(told: &mut Option<Instant>, error: &LogError) {
    if told.is_none_or(|told| told.elapsed() >= Duration::from_mins(1)) {
        *told = Some(Instant::now());
        tracing::warn!(%error, "the log cannot be read, it is tried again");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
}

async fn commit<C: Consumer>(consumer: &mut C, positions: &[Position]) {
    if let Err(error) = consumer.commit(positions).await {
        // The next commit says the same and more; after a crash they are read again.
        tracing::warn!(%error, "the position in the log cannot be kept");
    }
}

/// What waits is owed, what is under way may end; nothing is ours any more.
async fn end<L: Log + Clone, S: Ledger>(shared: &Arc<Shared<L, S>>) {
    shared.is_stopping.store(true, Ordering::Release);
    let lanes: Vec<_> = shared.lanes().values().cloned().collect();
    for lane in &lanes {
        let (grown, shed, waiting) = {
            let mut state = lane.state();
            let (grown, shed) = state.fall_behind();
            (grown, shed, state.take_all())
        };
        shared.deferred(lane, &grown, shed);
        // What is of ranges is read again.
        let (owed, others): (Vec<Item>, Vec<Item>) = waiting
            .into_iter()
            .partition(|item| matches!(item.origin, Origin::Owed));
        shared.leave(others.iter().map(|item| item.in_flight).sum());
        shared.give_back(lane.id, owed, Duration::ZERO);
    }
    let deadline = Instant::now() + STOP;
    while shared.counters.in_flight.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
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
    let group = Group::new(behind(records));
    count(&shared.counters.records, records.len() as u64);
    let mut found = Found::default();
    for record in records {
        while shared.counters.in_flight.load(Ordering::Acquire) >= shared.options.in_flight {
            if *stopping.borrow() {
                // It is owed in a moment.
                break;
            }
            tokio::select! {
                () = shared.room.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let notification = match shared.read(record) {
            Ok(notification) => notification,
            Err(error) => {
                bury(shared, record, &error.to_string());
                continue;
            }
        };
        shared.find(&notification, &mut found);
        let span = trace::read(notification.id, record);
        trace::matched(&span, found.wanted.len());
        if found.is_empty() {
            continue;
        }
        let mut live = Live::new(&notification, record, &group, span);
        if !found.wanted.is_empty() {
            live.is_matched = true;
            count(&shared.counters.matched, 1);
        }
        for endpoint in found.wanted.drain(..) {
            offer(shared, &endpoint, &live).await;
        }
        if !found.costly.is_empty() {
            shared.find_later(notification, live, found.costly.drain(..));
        }
    }
    shared.recorder.begin(Arc::clone(&group));
    if group.done() {
        shared.recorder.news.notify_one();
    }
}

/// Offers what was just read to an endpoint; waits a moment where its lane is full and drains fast.
pub(super) async fn offer<L: Log + Clone, S: Ledger>(
    shared: &Arc<Shared<L, S>>,
    endpoint: &Arc<Endpoint>,
    live: &Live,
) {
    if !endpoint.is_active {
        count(&shared.counters.dropped, 1);
        return;
    }
    let mut offered = shared.offer_live(endpoint, live.item());
    while let Some((mut item, lane)) = offered {
        tokio::select! {
            () = lane.ended.notified() => {}
            () = tokio::time::sleep(FULL) => {}
        }
        item.since = Instant::now();
        offered = shared.offer_live(endpoint, item);
    }
}

/// A record that is no notification is a dead letter; it never stops the partition.
fn bury<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>, record: &Record, reason: &str) {
    count(&shared.counters.bad_records, 1);
    let letter = DeadLetter {
        endpoint: None,
        notification: NotificationId::of(record),
        body: record.value.clone(),
        reason: format!(
            "{reason} (topic `{}`, partition {}, offset {})",
            record.topic, record.partition, record.offset
        ),
        time_ms: now_ms(),
        attempts: 0,
    };
    shared.recorder.happened().dead.push(letter);
}

/// The positions behind the last record of each partition.
fn behind(records: &[Record]) -> Vec<Position> {
    let mut last = BTreeMap::new();
    for record in records {
        last.insert((&record.topic, record.partition), record.offset + 1);
    }
    let position = |((topic, partition), offset): ((&Arc<str>, u32), u64)| Position {
        topic: Arc::clone(topic),
        partition,
        offset,
    };
    last.into_iter().map(position).collect()
}

/// Writes what has happened, and tells what may be committed; until the dispatcher stops and nothing is left.
async fn record<L: Log + Clone, S: Ledger>(
    shared: Arc<Shared<L, S>>,
    commits: mpsc::UnboundedSender<Vec<Position>>,
) {
    let mut told = None;
    loop {
        shared.recorder.news.notified().await;
        if !shared.is_stopping() {
            tokio::time::sleep(GATHER).await;
        }
        let is_last = shared.is_stopping();
        // Before it is taken: what ends now has written down what came of it.
        let is_idle = shared.counters.in_flight.load(Ordering::Acquire) == 0
            || shared.is_over.load(Ordering::Acquire);
        let (happened, positions) = shared.recorder.take();
        while !happened.is_empty() {
            match shared.ledger.record(happened.clone()).await {
                Ok(()) => break,
                Err(error) if shared.is_stopping() => {
                    tracing::error!(%error, "what was delivered last cannot be kept, it is delivered again");
                    return;
                }
                Err(error) => shared.ledger_failed(&mut told, &error).await,
            }
        }
        if !positions.is_empty() && commits.send(positions).is_err() {
            return;
        }
        if is_last && is_idle {
            return;
        }
        if is_last {
            // Attempts outlast the stop; what they come to is found out by trying again.
            shared.recorder.news.notify_one();
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Says that we live.
async fn live<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut told = None;
    loop {
        match shared.beat().await {
            Ok(()) => tokio::time::sleep(BEAT).await,
            Err(error) => shared.ledger_failed(&mut told, &error).await,
        }
    }
}

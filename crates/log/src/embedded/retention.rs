//! Removes the oldest batches: those that are too old, and those that are too much.
//!
//! A batch has the time of the clock when it was appended, and a clock may have been wrong. The
//! order within a partition is right whatever the clock said; across partitions a batch counts with
//! at most the time of what was appended behind it, and now ([`Oldest::counted_ms`]), and with at
//! least the time of what was removed before it. So no partition stands in for the others. How old
//! a batch is, the retention clock says ([`clock`]), which no clock that is set moves on at once.
//! Of too many bytes partitions lose that have more than their share ([`shares`]), and in a
//! partition the key that has most of it ([`thinning`]).
//!
//! [`Oldest::counted_ms`]: oldest::Oldest::counted_ms

mod clock;
mod needed;
mod oldest;
mod pass;
mod shares;
mod thinning;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::store::StoreError;
use super::writer::Shared;

use clock::RetentionClock;
use pass::{Done, Pass};
use thinning::{Cursors, Thinning, Told};

pub(super) use clock::Now;
pub(super) use needed::Needed;

/// Batches that one step removes at most: appends wait for it.
const BATCHES_PER_STEP: usize = 500;
/// Bytes of them, after which a step takes no more: what is removed is overwritten, and so goes
/// through the write-ahead file.
const BYTES_PER_STEP: u64 = 16 * 1024 * 1024;
/// Pages that one step gives back to the file system.
const PAGES_PER_STEP: u32 = 2000;
/// What a mark adds to the write-ahead file: a page.
const MARK_BYTES: u64 = 4096;
/// How long whole batches go, whoever has most of a partition, after batches could not be written
/// anew.
const BARRED: Duration = Duration::from_mins(1);

/// What retention knows from one step to the next.
pub(super) struct Retention {
    clock: RetentionClock,
    cursors: Cursors,
    told: Told,
    /// Until when batches are not written anew.
    barred_until: Option<Instant>,
}

impl Retention {
    pub(super) fn new(now: Now) -> Self {
        Self {
            clock: RetentionClock::new(now),
            cursors: Cursors::default(),
            told: Told::default(),
            barred_until: None,
        }
    }
}

/// What a step has done.
pub(super) struct Step {
    /// Bytes of the batches that were removed, of those that were written anew, and of the mark.
    pub(super) bytes: u64,
    /// There may be more to remove.
    pub(super) is_more_due: bool,
}

/// Removes what is due, up to a bound.
pub(super) fn step(
    shared: &Shared,
    connection: &mut Connection,
    retention: &mut Retention,
    now: Now,
) -> Result<Step, StoreError> {
    let is_barred = retention
        .barred_until
        .is_some_and(|until| now.steady < until);
    let mut done = remove(shared, connection, retention, (now, is_barred));
    if done.is_err() && !is_barred {
        // Perhaps there is no room for a batch to be written anew. Whole ones go meanwhile.
        retention.cursors = Cursors::default();
        retention.barred_until = Some(now.steady + BARRED);
        done = remove(shared, connection, retention, (now, true));
    }
    done.map_err(|error| shared.store.error("trim", &error))
}

fn remove(
    shared: &Shared,
    connection: &mut Connection,
    retention: &mut Retention,
    (now, is_barred): (Now, bool),
) -> rusqlite::Result<Step> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let cursors = (!is_barred).then_some(&mut retention.cursors);
    let thinning = Thinning::new(shared, &transaction, cursors);
    let mut pass = Pass::new(shared, &transaction, now.time_ms, thinning)?;
    pass.warn()?;
    let clock = &mut retention.clock;
    let (mut cutoff_ms, mut marked_ms) = (i64::MIN, None);
    if let Some(age_ms) = shared.options.retention_ms {
        let age_ms = i64::try_from(age_ms).unwrap_or(i64::MAX);
        let time_ms = clock.go_on(now, &transaction, age_ms, pass.oldest_ms())?;
        cutoff_ms = time_ms.saturating_sub(age_ms);
        marked_ms = clock.write(&transaction)?;
    }
    let done = pass.remove(cutoff_ms)?;
    transaction.commit()?;
    clock.marked(marked_ms);
    let bytes = publish(shared, &done);
    retention.told.tell(&done.thinned);
    if bytes > 0 {
        // It gives back a page for each row that is asked for.
        let mut vacuum =
            connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(Step {
        bytes: bytes + marked_ms.map_or(0, |_| MARK_BYTES),
        is_more_due: done.is_more_due,
    })
}

/// Shows what was removed; says how many bytes were, or were written.
fn publish(shared: &Shared, done: &Done) -> u64 {
    let counters = &shared.counters;
    let unread = done.unread_records;
    counters.removed_unread.fetch_add(unread, Ordering::Relaxed);
    let mut bytes = 0;
    for thinned in &done.thinned {
        let partition = &thinned.topic.partitions[thinned.place];
        partition.thin(thinned.bytes, 0);
        partition.count_thinned(thinned.records);
        bytes += thinned.bytes + thinned.written_bytes;
        if thinned.bytes > 0 {
            let removed = &counters.removed;
            removed.fetch_add(thinned.records, Ordering::Relaxed);
        }
    }
    for gone in &done.gone {
        let partition = gone.batch.partition();
        counters.removed.fetch_add(gone.records, Ordering::Relaxed);
        bytes += gone.batch.bytes;
        partition.thin(0, gone.passed_bytes);
        partition.set_begin_pos(gone.batch.pos + gone.batch.bytes + gone.passed_bytes);
        partition.set_begin(gone.batch.end);
        partition.set_removed_ms(gone.counted_ms);
    }
    bytes
}

#[cfg(test)]
mod tests;

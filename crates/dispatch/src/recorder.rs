//! Gathers what has happened to deliveries until it is written to the ledger (the database), and
//! says which positions of the log may be committed after that.
//!
//! Everything of what was read together is in `happened` before that counts as done, or with what
//! lanes have `missed`. So looking for reads that are done first, then deferring what was missed,
//! and taking what has happened afterwards, gets all that belongs to them.
//! Nothing here writes: that is `recording`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use dovecast_log::Position;
use tokio::sync::Notify;

use crate::behind::Growth;
use crate::budget::Reserved;
use crate::clock::{Clock, Waits, ms};
use crate::gathered::Gathered;
use crate::item::{Item, Origin, ReadTogether};
use crate::ledger::{Happened, Millis, Owed, OwedId};
use crate::locks::{Held, Lock};
use crate::permits::Permits;
use crate::range_run::RangeRun;

/// How long a delivery waits that was dropped on the way, if it has not failed before.
const DROPPED_FIRST: Duration = Duration::from_secs(5);
/// Longest wait of a delivery that was dropped on the way, which each failure doubles: a fault that
/// it meets each time is met seldom.
const DROPPED_LONGEST: Duration = Duration::from_hours(1);

/// What waits to be written, and what was read together, in the order in which it was read.
#[derive(Debug)]
pub(crate) struct Recorder {
    happened: Lock<Gathered>,
    reads: Lock<VecDeque<Arc<ReadTogether>>>,
    /// Room in memory for the bodies in what has happened.
    held: Lock<Vec<Arc<Reserved>>>,
    clock: Clock,
    /// Due times that have still to be written after the clock was set.
    unwritten: Permits,
    /// Batches that were taken to be written, and that were written.
    taken: AtomicU64,
    written: AtomicU64,
    /// A batch was written.
    wrote: Notify,
    /// How long what is owed has to wait.
    pub(crate) waits: Waits,
    /// There is something to be written.
    pub(crate) news: Notify,
}

impl Recorder {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            waits: Waits::default(),
            unwritten: Permits::default(),
            taken: AtomicU64::new(0),
            written: AtomicU64::new(0),
            wrote: Notify::new(),
            happened: Lock::new("happened", Gathered::default()),
            reads: Lock::new("reads", VecDeque::new()),
            held: Lock::new("held", Vec::new()),
            news: Notify::new(),
        }
    }

    /// When a delivery is due that has to wait so long.
    pub(crate) fn due(&self, id: OwedId, delay: Duration) -> Millis {
        self.waits.begin(id, delay);
        self.clock.now_ms().saturating_add(ms(delay))
    }

    /// What has happened, to be added to.
    pub(crate) fn happened(&self) -> Held<MutexGuard<'_, Gathered>> {
        self.happened.lock()
    }

    /// Adds one thing that has happened.
    pub(crate) fn note(&self, happened: Happened) {
        self.happened().push(happened);
    }

    /// Adds things that have happened in this order, and nothing else between them.
    pub(crate) fn note_all(&self, all: impl IntoIterator<Item = Happened>) {
        let mut gathered = self.happened();
        for happened in all {
            gathered.push(happened);
        }
    }

    /// Ranges have begun or grown. Several threads may say so of one range, in any order.
    pub(crate) fn grown(&self, growths: &[Growth]) {
        let mut happened = self.happened();
        for Growth { id, to, begins } in growths {
            happened.push(if *begins {
                Happened::Begun(id.clone(), *to)
            } else {
                Happened::Grown(id.clone(), *to)
            });
        }
    }

    /// Everything of a range is done that is before an offset.
    pub(crate) fn progress(&self, range: &RangeRun, from: u64) {
        let mut happened = self.happened();
        if range.is_void() {
            return;
        }
        happened.push(Happened::Progress(range.id.clone(), from));
    }

    /// A delivery is not under way any more, and what came of it is written down.
    pub(crate) fn end(&self, origin: &Origin) {
        match origin {
            Origin::Live { read_together, .. } => {
                if read_together.done() {
                    self.news.notify_one();
                }
            }
            Origin::Owed => self.news.notify_one(),
            Origin::Range { run, offset } => {
                if let Some(from) = run.done(*offset) {
                    self.progress(run, from);
                    self.news.notify_one();
                }
            }
            Origin::End => {}
        }
    }

    /// A delivery was dropped on the way: it is owed, as after a failure.
    pub(crate) fn dropped(&self, item: &Item) {
        let owed = self.as_dropped(item.owed(0, ""));
        self.note(if item.is_owed() {
            Happened::FailedAgain(owed)
        } else {
            Happened::Owed(owed)
        });
        self.hold(item.held.clone());
        self.end(&item.origin);
        self.news.notify_one();
    }

    /// A delivery that was claimed was dropped before it was one here: it is owed, as after a
    /// failure.
    pub(crate) fn dropped_claimed(&self, owed: Owed, held: Option<Arc<Reserved>>) {
        let owed = self.as_dropped(owed);
        self.note(Happened::FailedAgain(owed));
        self.hold(held);
        self.news.notify_one();
    }

    fn as_dropped(&self, owed: Owed) -> Owed {
        let doublings = owed.failures.min(16);
        let delay = (DROPPED_FIRST * (1 << doublings)).min(DROPPED_LONGEST);
        let id = (owed.endpoint, owed.notification);
        Owed {
            due_ms: self.due(id, delay),
            failures: owed.failures.saturating_add(1),
            reason: "the dispatcher failed while it was under way".to_owned(),
            ..owed
        }
    }

    /// Writes the due times of what waits anew, by a clock that was set: some in each transaction,
    /// and behind what is to be written already.
    pub(crate) fn postpone(&self) {
        let due = self.waits.due(self.clock.now_ms());
        // Those of an earlier step are wrong by now.
        self.happened().postpone(due, &self.unwritten);
        self.news.notify_one();
    }

    /// Whether due times have still to be written.
    pub(crate) fn is_postponing(&self) -> bool {
        self.unwritten.is_any()
    }

    /// A body was added to what has happened: the room it takes is not free before that is written.
    pub(crate) fn hold(&self, held: Option<Arc<Reserved>>) {
        self.held.lock().extend(held);
    }

    /// The room that may be freed when what is taken after this is written.
    pub(crate) fn take_held(&self) -> Vec<Arc<Reserved>> {
        std::mem::take(&mut *self.held.lock())
    }

    /// Records were read together.
    pub(crate) fn begin(&self, read_together: Arc<ReadTogether>) {
        self.reads.lock().push_back(read_together);
    }

    /// Reads that are not committed.
    pub(crate) fn open_reads(&self) -> usize {
        self.reads.lock().len()
    }

    /// How much waits to be written: more than is being written now.
    pub(crate) fn waiting(&self) -> usize {
        self.happened().waiting()
    }

    /// Number of the batch with which everything is written, at the latest, that was given to the
    /// recorder before this was asked.
    pub(crate) fn batch(&self) -> u64 {
        self.taken.load(Ordering::Acquire) + 1
    }

    /// Number of the batch that was written last.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Waits until a batch is written. Who waits for a [`Self::batch`] that may be one of nothing
    /// wakes the recorder first, by `news`.
    pub(crate) async fn until_written(&self, batch: u64) {
        loop {
            // It hears of a batch from here on.
            let wrote = self.wrote.notified();
            if self.written() >= batch {
                return;
            }
            wrote.await;
        }
    }

    /// Everything is written that was taken until now. It is taken and written by one task.
    pub(crate) fn wrote_taken(&self) {
        let taken = self.taken.load(Ordering::Acquire);
        self.written.store(taken, Ordering::Release);
        self.wrote.notify_waiters();
    }

    /// How many reads are done, before the first that is not.
    pub(crate) fn done_reads(&self) -> usize {
        let reads = self.reads.lock();
        reads.iter().take_while(|read| read.is_done()).count()
    }

    /// What is to be written, and what may be committed after that: so many reads.
    pub(crate) fn take(&self, done_reads: usize) -> (Gathered, Vec<Position>) {
        let mut positions = BTreeMap::new();
        {
            let mut reads = self.reads.lock();
            for read in reads.drain(..done_reads) {
                for position in &read.positions {
                    let place = (Arc::clone(&position.topic), position.partition);
                    positions.insert(place, position.offset);
                }
            }
        }
        let happened = {
            let mut happened = self.happened();
            self.taken.fetch_add(1, Ordering::AcqRel);
            happened.take()
        };
        let position = |((topic, partition), offset)| Position {
            topic,
            partition,
            offset,
        };
        let positions = positions.into_iter().map(position).collect();
        (happened, positions)
    }
}

//! What one stream is told, in order: first what it has missed, then what happens.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;

use super::catch_up::{CatchUp, Caught};
use super::cursor::{Cursor, RecordAt};
use super::hub::Slot;
use super::outlet::End;
#[cfg(test)]
use super::outlet::Outlet;
use super::told::Told;
use crate::push::counters::{Count, Counters};

/// Topic of the message that says that the log has not all of what the stream was to be told.
pub(super) const GAP: &str = "stream:gap";

/// What comes next on a stream.
pub(super) enum Next {
    Told(Arc<Told>),
    /// Some of what was missed is lost.
    Gap,
    /// All that was missed was told: from here on the cursor of the beginning is good.
    CaughtUp,
}

/// A wish to catch up, and who fulfils it.
type Wish = (CatchUp, mpsc::UnboundedSender<CatchUp>);

/// Source of one stream. Its place is free again when it is dropped.
pub(super) struct Source {
    slot: Slot,
    counters: Arc<Counters>,
    begins: Cursor,
    missed: Option<Box<Missed>>,
    /// The last record that was told, or that the client came with.
    last: Option<RecordAt>,
}

/// What was missed, and where what happens now would say it again.
struct Missed {
    /// Cursor that the client came with.
    from: Cursor,
    /// The wish, until the client asks for something.
    wish: Option<Wish>,
    /// `None`: all of it was told.
    more: Option<mpsc::Receiver<Caught>>,
    /// The last place of each partition.
    told: Vec<RecordAt>,
}

impl Source {
    /// A stream that begins at a cursor, which is not behind the first message of its slot.
    pub(super) fn new(slot: Slot, begins: Cursor, counters: Arc<Counters>) -> Self {
        Self {
            slot,
            counters,
            last: begins.place.clone(),
            begins,
            missed: None,
        }
    }

    /// What was missed since a cursor comes first. It is wished for when the client asks for
    /// something: one that never does has no turn.
    pub(super) fn catch_up(&mut self, from: Cursor, wish: Wish, more: mpsc::Receiver<Caught>) {
        self.last.clone_from(&from.place);
        self.missed = Some(Box::new(Missed {
            from,
            wish: Some(wish),
            more: Some(more),
            told: Vec::new(),
        }));
    }

    /// Cursor of who has been told nothing yet: it has what its client came with.
    pub(super) fn cursor(&self) -> &Cursor {
        let missed = self.missed.as_ref();
        missed.map_or(&self.begins, |missed| &missed.from)
    }

    /// Where the stream begins: what was missed is before it.
    pub(super) fn begins(&self) -> &Cursor {
        &self.begins
    }

    /// The cursor of a client that is told nothing for long: without it, who comes back would have
    /// all of that time read again. Asked for before `poll_next`, it is good if that has nothing.
    pub(super) fn idle_cursor(&self, now_ms: i64) -> Option<Cursor> {
        let missed = self.missed.as_ref();
        if missed.is_some_and(|missed| missed.more.is_some()) {
            return None;
        }
        self.slot.all_told(self.last.as_ref(), now_ms)
    }

    /// What comes next, or why nothing does any more.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Next, End>> {
        loop {
            if let Some(end) = self.slot.outlet.poll_end(context) {
                return Poll::Ready(Err(end));
            }
            let next = ready!(self.poll_message(context));
            match &next {
                // The guard, once more: nothing is sent to another than it is of.
                Next::Told(told) if told.person != self.slot.outlet.person => {
                    self.counters.add(Count::WrongPerson, 1);
                    continue;
                }
                Next::Told(told) => {
                    self.last = Some(told.place.clone());
                    self.counters.add(Count::Streamed, 1);
                }
                Next::Gap => self.counters.add(Count::StreamGap, 1),
                Next::CaughtUp => {}
            }
            return Poll::Ready(Ok(next));
        }
    }

    /// Waits for the end of the stream alone.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<End> {
        let end = self.slot.outlet.poll_end(context);
        end.map_or(Poll::Pending, Poll::Ready)
    }

    /// What comes next where it is asked for, else the end of the stream alone.
    pub(super) fn poll_either(
        &mut self,
        context: &mut Context<'_>,
        is_asked: bool,
    ) -> Poll<Result<Next, End>> {
        if is_asked {
            self.poll_next(context)
        } else {
            self.poll_end(context).map(Err)
        }
    }

    /// What waits for the stream.
    #[cfg(test)]
    pub(super) fn outlet(&self) -> &Outlet {
        &self.slot.outlet
    }

    /// Counts something about the stream.
    pub(super) fn count(&self, what: Count) {
        self.counters.add(what, 1);
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if let Some(missed) = &mut self.missed
            && let Some(next) = ready!(missed.poll_next(context))
        {
            return Poll::Ready(next);
        }
        if self.slot.outlet.take_gap() {
            return Poll::Ready(Next::Gap);
        }
        loop {
            let told = ready!(self.slot.outlet.poll_next(context));
            let again = |missed: &Missed| missed.has(&told.place);
            if !self.missed.as_deref().is_some_and(again) {
                return Poll::Ready(Next::Told(told));
            }
        }
    }
}

impl Missed {
    /// The next of what was missed; `None`: all of it was told.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Next>> {
        if let Some((wish, fulfils)) = self.wish.take() {
            // A wish that nobody takes is one that fails, below.
            drop(fulfils.send(wish));
        }
        let Some(more) = &mut self.more else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match ready!(more.poll_recv(context)) {
            Some(Caught::Told(told)) => {
                self.note(&told.place);
                Next::Told(told)
            }
            Some(Caught::Gap) => {
                self.told.clear();
                Next::Gap
            }
            Some(Caught::All) => {
                self.more = None;
                Next::CaughtUp
            }
            // Whoever read it for the stream has failed.
            None => {
                self.more = None;
                Next::Gap
            }
        }))
    }

    fn note(&mut self, place: &RecordAt) {
        match self.told.iter_mut().find(|one| is_same(one, place)) {
            Some(last) => last.offset = place.offset,
            None => self.told.push(place.clone()),
        }
    }

    fn has(&self, place: &RecordAt) -> bool {
        let last = self.told.iter().find(|one| is_same(one, place));
        last.is_some_and(|last| place.offset <= last.offset)
    }
}

fn is_same(one: &RecordAt, other: &RecordAt) -> bool {
    (&one.topic, one.partition) == (&other.topic, other.partition)
}

//! What one stream is told, in order: first what it has missed, then what happens.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;

use super::catch_up::Caught;
use super::cursor::{Cursor, Place};
use super::hub::Slot;
use super::outlet::End;
use super::told::Told;
use crate::push::counters::{Count, Counters};
use crate::push::engine::now_ms;

/// Topic of the message that says that some of what was missed is not in the log any more.
pub(super) const GAP: &str = "stream:gap";

/// What comes next on a stream.
pub(super) enum Next {
    Told(Arc<Told>),
    /// Some of what was missed is lost.
    Gap,
}

/// Source of one stream. Its place is free again when it is dropped.
pub(super) struct Source {
    slot: Slot,
    counters: Arc<Counters>,
    caught: Option<Box<Missed>>,
}

/// What was missed, and where what happens now would say it again.
struct Missed {
    more: Option<mpsc::Receiver<Caught>>,
    /// The last place of each partition.
    told: Vec<Place>,
}

impl Source {
    pub(super) fn new(slot: Slot, counters: Arc<Counters>) -> Self {
        Self {
            slot,
            counters,
            caught: None,
        }
    }

    /// What was missed comes first.
    pub(super) fn catch_up(&mut self, caught: mpsc::Receiver<Caught>) {
        self.caught = Some(Box::new(Missed {
            more: Some(caught),
            told: Vec::new(),
        }));
    }

    /// Where the stream begins.
    pub(super) fn cursor(&self) -> Cursor {
        self.slot.cursor(now_ms())
    }

    /// What comes next, or why nothing does any more.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Next, End>> {
        loop {
            if let Some(end) = self.slot.outlet.poll_end(context) {
                return Poll::Ready(Err(end));
            }
            let next = ready!(self.poll_message(context));
            if let Next::Told(told) = &next {
                // The guard, once more: nothing is sent to another than it is of.
                if told.person != self.slot.outlet.person {
                    self.counters.add(Count::WrongPerson, 1);
                    continue;
                }
                self.counters.add(Count::Streamed, 1);
            } else {
                self.counters.add(Count::StreamGap, 1);
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

    /// Counts something about the stream.
    pub(super) fn count(&self, what: Count) {
        self.counters.add(what, 1);
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if let Some(missed) = &mut self.caught
            && let Some(more) = &mut missed.more
        {
            match ready!(more.poll_recv(context)) {
                Some(Caught::Told(told)) => {
                    missed.note(&told.place);
                    return Poll::Ready(Next::Told(told));
                }
                Some(Caught::Gap) => {
                    missed.told.clear();
                    return Poll::Ready(Next::Gap);
                }
                None => missed.more = None,
            }
        }
        loop {
            let told = ready!(self.slot.outlet.poll_next(context));
            let again = |missed: &Missed| missed.has(&told.place);
            if !self.caught.as_deref().is_some_and(again) {
                return Poll::Ready(Next::Told(told));
            }
        }
    }
}

impl Missed {
    fn note(&mut self, place: &Place) {
        match self.told.iter_mut().find(|one| is_same(one, place)) {
            Some(last) => last.offset = place.offset,
            None => self.told.push(place.clone()),
        }
    }

    fn has(&self, place: &Place) -> bool {
        let last = self.told.iter().find(|one| is_same(one, place));
        last.is_some_and(|last| place.offset <= last.offset)
    }
}

fn is_same(one: &Place, other: &Place) -> bool {
    (&one.topic, one.partition) == (&other.topic, other.partition)
}

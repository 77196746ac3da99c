//! One delivery of a notification to an endpoint while it is in memory, and where it comes from:
//! that decides what is stored when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dovecast_log::Position;
use dovecast_notification::{Content, EndpointId, Notification, OrderKey, Part, Transaction};
use tracing::Span;
use uuid::Uuid;

use crate::budget::Reserved;
use crate::hanging::Hangs;
use crate::lane::Lane;
use crate::ledger::{KeyPlace, Millis, Owed, OwedId, RedeliveredWith};
use crate::range_run::RangeRun;
use crate::recorder::Recorder;
use crate::room::{Claim, InFlight};

/// A delivery to be made. Whatever drops it before it is settled, because of a panic, owes it so,
/// and it is made again some time later.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) endpoint: EndpointId,
    /// Whole: several endpoints share it.
    pub(crate) notification: Arc<Notification>,
    /// What the endpoint may see of it; `None`: everything.
    pub(crate) content: Option<Arc<Content>>,
    /// Attempts that have failed.
    pub(crate) failures: u32,
    /// Since when it waits.
    pub(crate) since: Instant,
    pub(crate) origin: Origin,
    pub(crate) span: Span,
    /// How often it was a probe that failed.
    pub(crate) probes: u32,
    /// What is read again of a range has none: it is bounded by its window.
    pub(crate) place: Option<InFlight>,
    /// The room that its body takes in memory; shared with the other deliveries of its
    /// notification.
    pub(crate) held: Option<Arc<Reserved>>,
    /// Where it was owed.
    pub(crate) claim: Option<Claim>,
    /// While it is under way for long.
    pub(crate) hangs: Option<Box<Hangs>>,
    /// Place among the deliveries of its key, where those go one after the other.
    pub(crate) order: Option<Arc<KeyPlace>>,
    /// Whether it has waited for another one of its key.
    pub(crate) has_waited: bool,
    /// While it is under way, where it has an order.
    pub(crate) turn: Option<Turn>,
    /// Place in a mailbox transaction, where whole ones are delivered.
    pub(crate) transaction: Option<Transaction>,
    /// What is delivered together with it, while it is under way: what follows it in its
    /// transaction.
    pub(crate) followers: Vec<Self>,
    /// Which part of the transaction these are.
    pub(crate) part: Part,
    /// What the driver has noted of it for the next attempt.
    pub(crate) note: String,
    recorder: Arc<Recorder>,
    is_settled: bool,
}

/// What is delivered, and where.
#[derive(Debug)]
pub(crate) struct What {
    pub(crate) endpoint: EndpointId,
    pub(crate) notification: Arc<Notification>,
    /// What the endpoint may see of it; `None`: everything.
    pub(crate) content: Option<Arc<Content>>,
    /// Attempts that have failed.
    pub(crate) failures: u32,
    pub(crate) span: Span,
    /// Place among the deliveries of its key, where those go one after the other.
    pub(crate) order: Option<Arc<KeyPlace>>,
}

/// The turn of a delivery that is under way, among those of its key. Whatever drops it before it
/// has ended leaves word in the lane, which owes what waits behind it.
#[derive(Debug)]
pub(crate) struct Turn(Option<(Arc<Lane>, Arc<KeyPlace>)>);

impl Turn {
    pub(crate) fn new(lane: &Arc<Lane>, place: Arc<KeyPlace>) -> Self {
        Self(Some((Arc::clone(lane), place)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((lane, place)) = self.0.take() {
            // Not the lane itself: its lock may be held by what is panicking just now.
            lane.lost.lock().push(place);
        }
    }
}

impl Item {
    pub(crate) fn new(recorder: &Arc<Recorder>, what: What, origin: Origin) -> Self {
        Self {
            endpoint: what.endpoint,
            notification: what.notification,
            content: what.content,
            failures: what.failures,
            since: Instant::now(),
            origin,
            span: what.span,
            probes: 0,
            place: None,
            held: None,
            claim: None,
            hangs: None,
            order: what.order,
            has_waited: false,
            turn: None,
            transaction: None,
            followers: Vec::new(),
            part: Part::WHOLE,
            note: String::new(),
            recorder: Arc::clone(recorder),
            is_settled: false,
        }
    }

    /// What is told what becomes of it.
    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Names the delivery.
    pub(crate) fn id(&self) -> OwedId {
        (self.endpoint, self.notification.id)
    }

    /// The notification as the endpoint may see it: there is nothing else of it in what is sent or
    /// kept for the endpoint.
    pub(crate) fn seen(&self) -> Arc<Notification> {
        let cut = self.content.as_ref();
        match cut.and_then(|content| content.cut(&self.notification)) {
            Some(cut) => Arc::new(cut),
            None => Arc::clone(&self.notification),
        }
    }

    /// The delivery of nothing but the end of its transaction, which is lost.
    pub(crate) fn lost_end(&self) -> Self {
        let what = What {
            endpoint: self.endpoint,
            notification: Arc::clone(&self.notification),
            content: self.content.clone(),
            failures: if self.is_end() { self.failures } else { 0 },
            span: Span::none(),
            order: self.order.clone(),
        };
        let mut end = Self::new(&self.recorder, what, Origin::End);
        (end.transaction, end.part) = (self.transaction, Part::LOST_END);
        end
    }

    /// Whether nothing but the end of a transaction is told.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.origin, Origin::End)
    }

    /// What is owed of it: due at that time.
    pub(crate) fn owed(&self, due_ms: Millis, reason: impl Into<String>) -> Owed {
        Owed {
            note: self.note.clone(),
            endpoint: self.endpoint,
            notification: self.notification.id,
            content: self.seen().canonical(),
            failures: self.failures,
            due_ms,
            reason: reason.into(),
            place: self.order.as_deref().cloned(),
        }
    }

    /// With what it is redelivered, should it be given up.
    pub(crate) fn redelivered(&self) -> Option<RedeliveredWith> {
        let transaction = self.transaction_id()?;
        let (place, key) = (self.order.as_ref()?, self.notification.key.as_deref()?);
        let KeyPlace {
            of, offset, log, ..
        } = KeyPlace::clone(place);
        let key = OrderKey::of_redelivery(&of.topic, of.partition, key);
        Some(RedeliveredWith {
            transaction,
            place: KeyPlace {
                of,
                key,
                offset,
                log,
            },
        })
    }

    /// The delivery and what is delivered together with it, in order.
    pub(crate) fn together(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.followers)
    }

    /// Does something with the delivery and with each that is delivered together with it, in order.
    pub(crate) fn for_each(&mut self, mut act: impl FnMut(&mut Self)) {
        act(self);
        self.followers.iter_mut().for_each(act);
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.origin, Origin::Live { .. })
    }

    /// The transaction of a mailbox that it is of, if it is known.
    pub(crate) fn transaction_id(&self) -> Option<Uuid> {
        self.transaction.map(|of| of.id)
    }

    /// Whether it was read again of a range that the endpoint is owed.
    pub(crate) fn is_of_range(&self) -> bool {
        matches!(self.origin, Origin::Range { .. })
    }

    /// Ends the turn, or says that it has not begun after all: the lane knows.
    pub(crate) fn end_turn(&mut self) {
        if let Some(mut turn) = self.turn.take() {
            turn.0 = None;
        }
    }

    pub(crate) fn is_owed(&self) -> bool {
        matches!(self.origin, Origin::Owed)
    }

    /// What came of it is written down.
    pub(crate) fn settle(mut self) {
        self.is_settled = true;
        self.end_turn();
        self.recorder.end(&self.origin);
        std::mem::take(&mut self.followers)
            .into_iter()
            .for_each(Self::settle);
    }

    /// Leaves it as it was: what it is of is read again.
    pub(crate) fn abandon(mut self) {
        self.is_settled = true;
        self.end_turn();
        std::mem::take(&mut self.followers)
            .into_iter()
            .for_each(Self::abandon);
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if !self.is_settled && !self.is_end() {
            self.recorder.dropped(self);
        }
    }
}

/// Where a delivery comes from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Just read from the log; its records are not committed before it is done or owed.
    Live {
        read_together: Arc<ReadTogether>,
        topic: Arc<str>,
        partition: u32,
        offset: u64,
    },
    /// Owed; claimed by us.
    Owed,
    /// Read from a range that is owed.
    Range { run: Arc<RangeRun>, offset: u64 },
    /// Nothing but the end of a transaction: nothing is written down of it.
    End,
}

impl Origin {
    /// Just read; one more thing to be done of what was read together.
    pub(crate) fn live(
        read_together: &Arc<ReadTogether>,
        topic: &Arc<str>,
        partition: u32,
        offset: u64,
    ) -> Self {
        read_together.add();
        Self::Live {
            read_together: Arc::clone(read_together),
            topic: Arc::clone(topic),
            partition,
            offset,
        }
    }
}

/// Records that were read together. They are committed when nothing of them is left to be done, and
/// nothing of what was read before.
#[derive(Debug)]
pub(crate) struct ReadTogether {
    /// Behind the last record of each partition.
    pub(crate) positions: Vec<Position>,
    left: AtomicUsize,
}

impl ReadTogether {
    /// With one thing left: the reading itself.
    pub(crate) fn new(positions: Vec<Position>) -> Arc<Self> {
        Arc::new(Self {
            positions,
            left: AtomicUsize::new(1),
        })
    }

    /// One more thing to be done.
    pub(crate) fn add(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// One thing is done; `true`: it was the last. What is to be kept of it has to be written down
    /// before.
    pub(crate) fn done(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }
}

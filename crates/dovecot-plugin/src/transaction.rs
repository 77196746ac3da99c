//! The records of one mailbox transaction, in order.
//!
//! The last record says that it is the last, so one record is always held back, never more.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use dovecast_dovecot_sys::MailboxStatus;
use dovecast_event::{Event, UnixMillis};
use uuid::{Builder, Uuid};

use crate::record::{Envelope, Record};
use crate::shorten::render_within;

/// State of one transaction of one driver instance.
pub(crate) struct Txn {
    id: Uuid,
    next_seq: u32,
    held: Option<Record>,
    /// Status of the mailbox after the transaction, filled when first asked for; `None` in it:
    /// there is none to be had.
    pub(crate) status: OnceCell<Option<MailboxStatus>>,
}

impl Txn {
    pub(crate) fn new() -> Self {
        Self {
            id: new_id(now()),
            next_seq: 0,
            held: None,
            status: OnceCell::new(),
        }
    }

    /// Takes the next event; hands out the one before it.
    pub(crate) fn push(
        &mut self,
        event: &Event<'_>,
        time: UnixMillis,
        envelope: &Rc<Envelope>,
    ) -> Option<Record> {
        let record = Record {
            envelope: Rc::clone(envelope),
            value: render_within(event),
            id: new_id(time),
            time,
            txn: self.id,
            txn_seq: self.next_seq,
            txn_last: false,
        };
        self.next_seq = self.next_seq.saturating_add(1);
        self.held.replace(record)
    }

    /// The last record, marked so.
    pub(crate) fn finish(self) -> Option<Record> {
        self.held.map(|last| Record {
            txn_last: true,
            ..last
        })
    }
}

/// The time now.
pub(crate) fn now() -> UnixMillis {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// A UUIDv7; those of one process ascend.
///
/// The random part is drawn once per process and then counted up (RFC 9562 section 6.2, method 2):
/// drawing it for every event would be a system call each, several in one command.
fn new_id(time: UnixMillis) -> Uuid {
    thread_local! {
        static LAST: Cell<Option<LastId>> = const { Cell::new(None) };
    }
    LAST.with(|last| {
        let next = last.get().map_or_else(LastId::random, LastId::next);
        let next = LastId {
            time: next.time.max(time),
            ..next
        };
        last.set(Some(next));
        next.id()
    })
}

/// What the next id of this process is made from.
#[derive(Clone, Copy)]
struct LastId {
    time: UnixMillis,
    /// The first bytes of all ids of the process.
    head: [u8; 2],
    /// Begins at random below 2^61 and so never outgrows the 62 bits there are.
    counter: u64,
}

impl LastId {
    fn random() -> Self {
        let random = Uuid::now_v7().into_bytes();
        let (_, tail) = random.as_chunks::<8>().0.split_at(1);
        Self {
            time: UnixMillis(0),
            head: [random[6], random[7]],
            counter: u64::from_be_bytes(tail[0]) & (u64::MAX >> 3),
        }
    }

    fn next(self) -> Self {
        Self {
            counter: self.counter + 1,
            ..self
        }
    }

    fn id(self) -> Uuid {
        let mut random = [0; 10];
        random[..2].copy_from_slice(&self.head);
        random[2..].copy_from_slice(&self.counter.to_be_bytes());
        Builder::from_unix_timestamp_millis(self.time.0, &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Variant;

    use super::*;

    #[test]
    fn ids_ascend_within_a_process() {
        let ids: Vec<Uuid> = (0..10_000).map(|_| new_id(now())).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(
            ids.iter()
                .all(|id| id.get_version_num() == 7 && id.get_variant() == Variant::RFC4122)
        );
    }

    #[test]
    fn ids_ascend_though_the_clock_is_set_back_and_others_processes_are_different() {
        let now = now();
        assert!(new_id(now) < new_id(UnixMillis(now.0 - 10_000)));
        let (ours, theirs) = (LastId::random(), LastId::random());
        assert_ne!((ours.head, ours.counter), (theirs.head, theirs.counter));
    }
}

//! The records of one mailbox transaction, in order.
//!
//! The last record says that it is the last, so one record is always held back, never more.

use std::cell::{Cell, OnceCell};
use std::time::{SystemTime, UNIX_EPOCH};

use dovecast_dovecot_sys::MailboxStatus;
use dovecast_event::{Event, RecordHeaders, UnixMillis, render};
use rdkafka::message::{Header, OwnedHeaders};
use uuid::{Builder, Uuid};

use crate::cluster::Record;

/// State of one transaction of one driver instance.
pub(crate) struct Txn {
    id: Uuid,
    next_seq: u32,
    held: Option<Held>,
    /// Status of the mailbox after the transaction, filled when first asked for; `None` in it: there is none to be had.
    pub(crate) status: OnceCell<Option<MailboxStatus>>,
}

/// A rendered event whose place in the transaction is not known yet.
struct Held {
    id: Uuid,
    time: UnixMillis,
    seq: u32,
    value: Vec<u8>,
}

/// What all records of an instance have in common.
pub(crate) struct Envelope<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) host: &'a str,
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
        envelope: &Envelope<'_>,
    ) -> Option<Record> {
        let mut value = Vec::with_capacity(512);
        render(event, &mut value);
        let held = Held {
            id: new_id(time),
            time,
            seq: self.next_seq,
            value,
        };
        self.next_seq = self.next_seq.saturating_add(1);
        let before = self.held.replace(held)?;
        Some(self.record(before, false, envelope))
    }

    /// The last record, marked so.
    pub(crate) fn finish(mut self, envelope: &Envelope<'_>) -> Option<Record> {
        let last = self.held.take()?;
        Some(self.record(last, true, envelope))
    }

    fn record(&self, held: Held, is_last: bool, envelope: &Envelope<'_>) -> Record {
        let headers = RecordHeaders {
            id: held.id,
            time: held.time,
            host: envelope.host,
            txn: self.id,
            txn_seq: held.seq,
            txn_last: is_last,
        };
        let mut kafka_headers = Some(OwnedHeaders::new_with_capacity(6));
        headers.write(&mut Vec::with_capacity(32), |key, value| {
            kafka_headers = kafka_headers.take().map(|all| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        });
        Record {
            topic: envelope.topic.to_owned(),
            key: envelope.key.to_vec(),
            value: held.value,
            headers: kafka_headers.unwrap_or_default(),
        }
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
/// The random part is drawn once per process and then counted up (RFC 9562 section 6.2, method 2): drawing it for every
/// event would be a system call each, several in one command.
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
    /// The same for all ids of the process.
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

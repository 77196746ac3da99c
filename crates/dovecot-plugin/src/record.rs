//! A record on its way. Small while it waits; its headers are written when librdkafka takes it, or
//! by the relay.

use std::rc::Rc;

#[cfg(feature = "kafka")]
use dovecast_event::RecordHeaders;
use dovecast_event::UnixMillis;
#[cfg(feature = "kafka")]
use rdkafka::message::{Header, OwnedHeaders};
#[cfg(feature = "kafka")]
use rdkafka::producer::BaseRecord;
use uuid::Uuid;

/// What names and values of all headers take in a request, and the record's own framing; rather too
/// much.
#[cfg(feature = "kafka")]
const FRAMING_BYTES: usize = 320;

/// What all records of a driver instance have in common.
pub(crate) struct Envelope {
    pub(crate) topic: String,
    pub(crate) key: Vec<u8>,
    #[cfg(feature = "kafka")]
    pub(crate) host: String,
}

/// One event, rendered.
pub(crate) struct Record {
    pub(crate) envelope: Rc<Envelope>,
    pub(crate) value: Vec<u8>,
    pub(crate) id: Uuid,
    pub(crate) time: UnixMillis,
    pub(crate) txn: Uuid,
    pub(crate) txn_seq: u32,
    pub(crate) txn_last: bool,
}

#[cfg(feature = "kafka")]
impl Record {
    /// What it takes while it waits.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.value.capacity()
    }

    /// What it takes at most in a request to a broker.
    pub(crate) fn request_bytes(&self) -> usize {
        self.envelope.key.len() + self.value.len() + self.envelope.host.len() + FRAMING_BYTES
    }

    /// As librdkafka takes it.
    pub(crate) fn to_kafka(&self) -> BaseRecord<'_, [u8], [u8]> {
        let headers = RecordHeaders {
            id: self.id,
            time: self.time,
            host: &self.envelope.host,
            txn: self.txn,
            txn_seq: self.txn_seq,
            txn_last: self.txn_last,
        };
        let mut kafka_headers = Some(OwnedHeaders::new_with_capacity(6));
        headers.write(&mut Vec::with_capacity(32), |key, value| {
            let header = Header {
                key,
                value: Some(value),
            };
            kafka_headers = kafka_headers.take().map(|all| all.insert(header));
        });
        BaseRecord::to(&self.envelope.topic)
            .key(self.envelope.key.as_slice())
            .payload(self.value.as_slice())
            .headers(kafka_headers.unwrap_or_default())
    }
}

//! A message of librdkafka as a record.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::{Header, Record};

pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    // rdkafka panics on a name that is not UTF-8.
    let headers = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| headers(message)));
    let headers = headers.unwrap_or_else(|_| {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        tracing::warn!(
            topic,
            partition,
            offset,
            "a record has headers whose names are not UTF-8; it is read without them"
        );
        Vec::new()
    });
    Record {
        topic: Arc::from(message.topic()),
        partition: u32::try_from(message.partition()).unwrap_or(0),
        offset: u64::try_from(message.offset()).unwrap_or(0),
        key: message.key().map(Bytes::copy_from_slice),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
    }
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let header = |header: rdkafka::message::Header<'_, &[u8]>| Header {
        name: Arc::from(header.key),
        value: Bytes::copy_from_slice(header.value.unwrap_or_default()),
    };
    let headers = message.headers();
    headers
        .map(|headers| headers.iter().map(header).collect())
        .unwrap_or_default()
}

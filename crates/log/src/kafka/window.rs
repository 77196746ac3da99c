//! How many records librdkafka gets at a time, so that none overtakes one that is refused.

use super::KafkaOptions;
use super::settings::record_bytes;
use crate::NewRecord;

/// What a record takes in a batch besides what counts for its topic's limit; rather too much.
const FRAMING_BYTES: usize = 64;

/// What is handed over at a time: what surely fits into one request to a partition.
#[derive(Clone, Copy)]
pub(super) struct Window {
    records: usize,
    bytes: usize,
}

impl Window {
    /// The window that the producer's properties allow.
    pub(super) fn of(options: &KafkaOptions) -> Self {
        let number = |property: &str, default: usize| {
            let set = options
                .properties
                .iter()
                .rfind(|(name, _)| name == property);
            let set = set.and_then(|(_, value)| value.trim().parse().ok());
            set.unwrap_or(default)
        };
        // librdkafka's defaults.
        let bytes = number("batch.size", 1_000_000).min(number("message.max.bytes", 1_000_000));
        Self {
            records: number("batch.num.messages", 10_000).max(1),
            // The request has a header of its own.
            bytes: bytes / 10 * 9,
        }
    }

    /// How many of the records go next: one at least.
    pub(super) fn count(self, records: &[NewRecord]) -> usize {
        let mut bytes = 0;
        let has_room = |record: &&NewRecord| {
            bytes += record_bytes(record) + FRAMING_BYTES;
            bytes <= self.bytes
        };
        let next = records.iter().take(self.records);
        next.take_while(has_room).count().max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_window_is_what_fits_into_one_request() {
        let record = |bytes: usize| NewRecord {
            topic: Arc::from("t"),
            key: None,
            value: vec![b'x'; bytes].into(),
            headers: Vec::new(),
            timestamp_ms: 0,
            id: None,
        };
        let check = |properties: &[(&str, &str)], bytes: usize, expected: usize| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let window = Window::of(&KafkaOptions {
                brokers: String::new(),
                properties: properties.iter().map(owned).collect(),
            });
            let records = vec![record(bytes); 20];
            assert_eq!(window.count(&records), expected, "{properties:?}, {bytes}");
        };
        check(&[], 10, 20);
        check(&[], 100_000, 8);
        check(&[], 3_000_000, 1);
        check(&[("batch.num.messages", "7")], 10, 7);
        check(&[("batch.size", "200000")], 100_000, 1);
        check(&[("message.max.bytes", "400000")], 100_000, 3);
    }
}

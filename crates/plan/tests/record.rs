//! What an event takes in Kafka besides its value: the figure of plans against the names of headers
//! and the format of Kafka's records.

use dovecast_event::header_name;
use dovecast_plan::measured::RECORD_OVERHEAD;

/// Bytes of a record besides key, value and headers: length, attributes, time, offset, the lengths
/// of key and value, the number of headers, each a number of one to three bytes.
const FRAME: usize = 2 + 1 + 3 + 2 + 1 + 2 + 1;
/// Head of a batch, shared by at least eight records.
const SHARE_OF_BATCH: usize = 61 / 8;
/// A mail user's name.
const KEY: usize = 20;

#[test]
fn what_kafka_stores_besides_the_value_is_what_plans_reckon_with() {
    let headers = [
        (header_name::ID, 36),
        (header_name::TIME, 24),
        (header_name::HOST, 20),
        (header_name::TXN, 36),
        (header_name::TXN_SEQ, 1),
        (header_name::TXN_LAST, 1),
    ];
    // Each of the two has its length before it, one byte.
    let headers: usize = headers
        .map(|(name, value)| 2 + name.len() + value)
        .iter()
        .sum();
    let bytes = u64::try_from(FRAME + SHARE_OF_BATCH + KEY + headers).expect("few");
    let planned = RECORD_OVERHEAD.value;
    assert!(
        (bytes..bytes + 20).contains(&planned),
        "{bytes}, planned {planned}"
    );
}

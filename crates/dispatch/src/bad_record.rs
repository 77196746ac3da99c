//! Records that are no notifications: each is a dead letter without an endpoint, with the beginning
//! of the record. Where very many come, only the first of each minute are: the others are counted,
//! and in the log for as long as that keeps them.

use std::time::Instant;

use bytes::Bytes;
use dovecast_log::{Log, Record};
use dovecast_notification::NotificationId;

use crate::ledger::{DeadLetter, Happened, Ledger, RecordPlace};
use crate::shared::Shared;
use crate::stats::count;

/// Bytes that are kept of a record that is no notification: enough to see what it is, and little
/// where somebody sends very many.
const KEPT_BYTES: usize = 4096;

/// What is kept of a record that is no notification.
fn beginning(value: &Bytes) -> Bytes {
    if value.len() <= KEPT_BYTES {
        return value.clone();
    }
    // What is text stays text.
    let is_begun = |byte: u8| byte & 0xc0 == 0x80;
    let longest = KEPT_BYTES;
    let end = (longest - 3..=longest)
        .rev()
        .find(|end| !is_begun(value[*end]));
    // A copy: the whole of it takes room as long as a part of it does.
    Bytes::copy_from_slice(&value[..end.unwrap_or(longest)])
}

/// A record of a range that is no notification, unless this process has met it before: live, or in
/// a range of another endpoint.
pub(crate) fn bury_once<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    record: &Record,
    reason: &str,
) {
    if shared.buried.meet(RecordPlace::of(record)) {
        keep(shared, record, reason);
    }
}

/// A record that is no notification is a dead letter; it never stops the partition.
pub(crate) fn bury<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    record: &Record,
    reason: &str,
) {
    shared.buried.meet(RecordPlace::of(record));
    keep(shared, record, reason);
}

fn keep<L: Log + Clone, S: Ledger>(shared: &Shared<L, S>, record: &Record, reason: &str) {
    count(&shared.counters.bad_records, 1);
    if !shared.buried.take(Instant::now()) {
        count(&shared.counters.bad_records_not_kept, 1);
        if let Some(suppressed) = shared.buried.take_line() {
            tracing::warn!(
                topic = &*record.topic,
                partition = record.partition,
                offset = record.offset,
                suppressed,
                reason,
                "a record is not a notification and is not kept as a dead letter: there are too many of them"
            );
        }
        return;
    }
    let content = beginning(&record.value);
    let (kept, all) = (content.len(), record.value.len());
    let cut = if kept < all {
        format!("; {kept} of its {all} bytes are kept")
    } else {
        String::new()
    };
    let reason = format!(
        "{reason} (topic `{}`, partition {}, offset {}){cut}",
        record.topic, record.partition, record.offset
    );
    let letter = DeadLetter {
        note: String::new(),
        together: None,
        endpoint: None,
        record: Some(RecordPlace::of(record)),
        notification: NotificationId::of(record),
        content,
        reason,
        time_ms: shared.now_ms(),
        attempts: 0,
    };
    shared.recorder.note(Happened::Dead(letter));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_record_the_beginning_is_kept_and_text_stays_text() {
        for (text, kept) in [
            ("x".repeat(KEPT_BYTES), KEPT_BYTES),
            ("x".repeat(KEPT_BYTES + 1), KEPT_BYTES),
            (format!("x{}", "ä".repeat(KEPT_BYTES)), KEPT_BYTES - 1),
            ("€".repeat(KEPT_BYTES), KEPT_BYTES - 1),
            (format!("xx{}", "😀".repeat(KEPT_BYTES)), KEPT_BYTES - 2),
        ] {
            let begun = beginning(&Bytes::from(text.clone().into_bytes()));
            assert_eq!(begun.len(), kept);
            assert_eq!(begun, text.as_bytes()[..kept]);
            assert!(std::str::from_utf8(&begun).is_ok());
        }
        let begun = beginning(&Bytes::from(vec![0x80; 2 * KEPT_BYTES]));
        assert_eq!(begun.len(), KEPT_BYTES);
    }
}

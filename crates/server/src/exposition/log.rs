//! Metrics of the log.

use dovecast_log::embedded::{COMMIT_BUCKETS_US, EmbeddedStats};
use dovecast_log::{GroupStatus, TopicStatus};

use super::{Exposition, seconds};

/// What the embedded log has done.
pub(super) fn log(out: &mut Exposition, log: &EmbeddedStats) {
    for (name, help, value) in [
        (
            "dovecast_log_appended_records_total",
            "Records made durable.",
            log.appended,
        ),
        (
            "dovecast_log_duplicate_records_total",
            "Records dropped because their id was appended already.",
            log.duplicates,
        ),
        (
            "dovecast_log_removed_records_total",
            "Records that retention has removed.",
            log.removed,
        ),
        (
            "dovecast_log_removed_unread_records_total",
            "Records that retention has removed before a consumer group had read them.",
            log.removed_unread,
        ),
        (
            "dovecast_log_commit_errors_total",
            "Commits that failed; their records were not acknowledged.",
            log.errors,
        ),
        (
            "dovecast_log_retention_errors_total",
            "Times that old records could not be removed.",
            log.retention_errors,
        ),
        (
            "dovecast_log_damaged_batches_total",
            "Batches of records found damaged.",
            log.damaged,
        ),
    ] {
        out.count(name, help, value);
    }
    let of_keys = "dovecast_log_removed_of_keys_records_total";
    let help = "Records removed because their key had most of a full partition.";
    out.family(of_keys, "counter", help);
    for (topic, records) in &log.removed_of_keys {
        out.sample(&[("topic", topic)], records);
    }
    out.gauge(
        "dovecast_log_stored_bytes",
        "Size of the records in the log.",
    );
    out.sample(&[], log.bytes);
    out.family(
        "dovecast_log_commit_seconds",
        "histogram",
        "How long commits took; appended records divided by commits are the mean size of a batch.",
    );
    let mut commits = 0;
    for (bucket, count) in log.commit_buckets.iter().enumerate() {
        commits += count;
        let bound = COMMIT_BUCKETS_US.get(bucket);
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |us| seconds(*us));
        out.sample_of("_bucket", &[("le", &bound)], commits);
    }
    out.sample_of("_sum", &[], seconds(log.commit_sum_us));
    out.sample_of("_count", &[], commits);
}

/// Where partitions end and begin, and how far consumer groups are.
pub(super) fn ends(out: &mut Exposition, topics: &[TopicStatus], groups: &[GroupStatus]) {
    out.gauge(
        "dovecast_log_end_offset",
        "Offset the next record of a partition gets.",
    );
    for topic in topics {
        for (partition, status) in topic.partitions.iter().enumerate() {
            let partition = partition.to_string();
            out.sample(
                &[("topic", &topic.name), ("partition", &partition)],
                status.end,
            );
        }
    }
    out.gauge(
        "dovecast_log_begin_offset",
        "Offset of the oldest record of a partition.",
    );
    for topic in topics {
        for (partition, status) in topic.partitions.iter().enumerate() {
            let partition = partition.to_string();
            out.sample(
                &[("topic", &topic.name), ("partition", &partition)],
                status.begin,
            );
        }
    }
    out.gauge(
        "dovecast_log_group_lag_records",
        "Records of a partition that a consumer group has not committed.",
    );
    for group in groups {
        let partition = group.partition.to_string();
        let labels = [
            ("group", group.group.as_str()),
            ("topic", &group.topic),
            ("partition", &partition),
        ];
        out.sample(&labels, group.end.saturating_sub(group.committed));
    }
}

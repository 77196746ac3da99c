//! When a partition counts as read up.

use super::*;

const TOPIC: &str = "t";

fn of() -> TopicPartition {
    TopicPartition {
        topic: TOPIC.into(),
        partition: 0,
    }
}

/// What the log says now, of partition 0.
fn answer(read_up: &ReadUp, committed: u64, end: u64, waited: Duration) {
    let progress = GroupStatus {
        group: "g".to_owned(),
        topic: TOPIC.to_owned(),
        partition: 0,
        committed,
        end,
    };
    read_up.answered(&TOPIC.into(), vec![progress], (Instant::now(), waited));
}

#[test]
fn a_partition_is_read_up_when_nothing_is_to_be_read_or_all_of_it_was() {
    let read_up = ReadUp::default();
    let unread = read_up.follow(vec![(of(), 1)]);
    assert_eq!(unread.into_values().collect::<Vec<_>>(), [[0]]);
    answer(&read_up, 5, 5, Duration::ZERO);
    assert!(read_up.is_read(&of(), 1) && !read_up.is_read(&of(), 2));
    assert!(read_up.follow(vec![(of(), 1)]).is_empty());
    // Another time, there is something.
    assert_eq!(read_up.follow(vec![(of(), 2)]).len(), 1);
    answer(&read_up, 5, 8, Duration::ZERO);
    read_up.note(vec![(of(), 2, 7)]);
    assert!(!read_up.is_read(&of(), 2));
    // It goes further by now, which is no matter.
    answer(&read_up, 7, 20, Duration::ZERO);
    read_up.note(vec![(of(), 2, 8)]);
    assert!(read_up.is_read(&of(), 2));
}

#[test]
fn what_is_known_of_another_assignment_says_nothing() {
    let read_up = ReadUp::default();
    let before = Instant::now().checked_sub(Duration::from_secs(1));
    let asked = (before.expect("later than that"), Duration::ZERO);
    read_up.note(vec![(of(), 2, 8)]);
    let status = GroupStatus {
        group: "g".to_owned(),
        topic: TOPIC.to_owned(),
        partition: 0,
        committed: 3,
        end: 3,
    };
    read_up.answered(&TOPIC.into(), vec![status], asked);
    assert!(!read_up.is_read(&of(), 2));
    read_up.note(vec![(of(), 3, 1)]);
    read_up.note(vec![(of(), 2, 9)]);
    answer(&read_up, 0, 9, Duration::ZERO);
    assert!(!read_up.is_read(&of(), 2) && !read_up.is_read(&of(), 3));
    // The partitions that are ours are seen a moment later.
    assert_eq!(read_up.follow(vec![(of(), 2)]).len(), 1);
    read_up.note(vec![(of(), 3, 9)]);
    assert!(read_up.is_read(&of(), 3));
}

#[test]
fn markers_that_nobody_gets_are_not_waited_for() {
    let read_up = ReadUp::default();
    read_up.follow(vec![(of(), 1)]);
    read_up.note(vec![(of(), 1, 5)]);
    answer(&read_up, 5, 6, SILENT / 2);
    assert!(!read_up.is_read(&of(), 1));
    answer(&read_up, 5, 6, SILENT);
    assert!(read_up.is_read(&of(), 1));
}

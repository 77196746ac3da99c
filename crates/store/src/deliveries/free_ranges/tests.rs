//! What looking for free ranges reads: no more where each endpoint owes a hundred times as many.
//! Counted are the steps of SQLite's virtual machine.

use rusqlite::{Connection, ToSql};

use super::*;
use crate::steps;

/// A database with so many ranges of ten endpoints and two topics, with four partitions each.
fn owed(ranges: u32) -> Connection {
    let connection = steps::empty();
    let fill = format!(
        "WITH RECURSIVE n (value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < {ranges} - 1) \
         INSERT INTO owed_range (log, endpoint_id, topic, part, start_offset, from_offset, to_offset) \
         SELECT 'log', 'endpoint ' || (value % 10), 'topic ' || (value / 10 % 2), value / 20 % 4, value, value, value + 1 FROM n"
    );
    connection.execute_batch(&fill).expect("ranges");
    connection
}

#[test]
fn looking_for_free_ranges_reads_no_more_where_endpoints_owe_a_hundred_times_as_many() {
    let (few, many) = (owed(800), owed(80_000));
    let topics: [Arc<str>; 3] = ["topic 0", "topic 1", "topic 2"].map(Arc::from);
    let owing = owing("log", &topics);
    let named: [&dyn ToSql; 6] = [&"topic 0", &"topic 1", &"topic 2", &"log", &"log", &"log"];
    let log: [&dyn ToSql; 1] = [&"log"];
    for (statement, values, rows) in [
        (&*owing.text(false), &named[..], 20),
        (PARTITIONS, &log[..], 8),
    ] {
        let (few, many) = (
            steps::run(&few, statement, values),
            steps::run(&many, statement, values),
        );
        assert_eq!((few.0, many.0), (rows, rows), "{statement}");
        steps::are_no_more(few.1, many.1, statement);
    }
}

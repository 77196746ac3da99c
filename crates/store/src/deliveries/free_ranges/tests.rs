//! What looking for free ranges reads: no more where each endpoint owes a hundred times as many.
//! Counted are the steps of SQLite's virtual machine.

use rusqlite::{Connection, StatementStatus, ToSql};

use super::*;
use crate::schema::{MIGRATIONS, spoken};

/// Steps that say nothing: one more level of an index is deeper.
const SLACK: i32 = 300;

/// So many ranges of ten endpoints and two topics, with four partitions each.
fn owed(ranges: u32) -> Connection {
    let connection = Connection::open_in_memory().expect("a database");
    for migration in MIGRATIONS {
        let migration = spoken(migration, false);
        connection.execute_batch(&migration).expect("the schema");
    }
    let fill = format!(
        "WITH RECURSIVE n (value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < {ranges} - 1) \
         INSERT INTO owed_range (log, endpoint_id, topic, part, start_offset, from_offset, to_offset) \
         SELECT 'log', 'endpoint ' || (value % 10), 'topic ' || (value / 10 % 2), value / 20 % 4, value, value, value + 1 FROM n"
    );
    connection.execute_batch(&fill).expect("ranges");
    connection
}

/// The rows that a statement gives, and the steps it takes.
fn run(connection: &Connection, statement: &str, values: &[&dyn ToSql]) -> (usize, i32) {
    let mut statement = connection.prepare(statement).expect(statement);
    let mut found = statement.query(values).expect("an answer");
    let mut rows = 0;
    while found.next().expect("a row").is_some() {
        rows += 1;
    }
    drop(found);
    (rows, statement.get_status(StatementStatus::VmStep))
}

#[test]
fn looking_for_free_ranges_reads_no_more_where_endpoints_owe_a_hundred_times_as_many() {
    let (few, many) = (owed(800), owed(80_000));
    let topics: [Arc<str>; 3] = ["topic 0", "topic 1", "topic 2"].map(Arc::from);
    let owing = owing("log", &topics);
    let named: [&dyn ToSql; 6] = [&"topic 0", &"topic 1", &"topic 2", &"log", &"log", &"log"];
    let log: [&dyn ToSql; 1] = [&"log"];
    for (statement, values, rows) in [(owing.text(), &named[..], 10), (PARTITIONS, &log[..], 8)] {
        let (few, many) = (run(&few, statement, values), run(&many, statement, values));
        assert_eq!((few.0, many.0), (rows, rows), "{statement}");
        assert!(
            many.1 <= few.1 + SLACK,
            "{} steps among many, {} among few: {statement}",
            many.1,
            few.1
        );
    }
}

//! What the statements of ranges read: no more where there are a hundred times as many ranges.

use dovecast_notification::EndpointId;
use rusqlite::{Connection, ToSql};
use uuid::Uuid;

use super::*;
use crate::steps;

const TOPIC: &str = "t";
const FROM: u64 = 7;
const TO: u64 = 9;

/// Ranges of so many endpoints, each of one partition.
fn owing(number: u32) -> Connection {
    let connection = steps::empty();
    let fill = format!(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {number}) \
         INSERT INTO owed_range (log, endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by) \
         SELECT '', printf('00000000-0000-0000-0000-%012d', value), '{TOPIC}', 0, 1, 1, 9, 'us' FROM n"
    );
    connection.execute_batch(&fill).expect("ranges");
    connection
}

#[test]
fn to_write_ranges_reads_no_more_where_a_hundred_times_as_many_are_there() {
    let row = |number: u128| RangeId {
        endpoint: EndpointId(Uuid::from_u128(number)),
        topic: TOPIC.into(),
        partition: 0,
        start: 1,
    };
    // Ids show hexadecimal digits, and those of the rows are decimal.
    let rows = [row(0x1), row(0x20), row(0x300)];
    let extent = Extent {
        from: FROM,
        to: TO,
        row: 1,
        is_lapsed: false,
    };
    let with_extent: Vec<_> = rows.iter().map(|row| (row, extent)).collect();
    let ended: Vec<_> = rows.iter().map(|row| (row, TO)).collect();
    let ids: Vec<_> = rows.iter().map(|row| row.endpoint.to_string()).collect();
    let (offsets, part) = ((FROM.cast_signed(), TO.cast_signed()), 0_i64);
    let (us, log) = ("us", "");
    let mut inserted: Vec<&dyn ToSql> = Vec::new();
    let mut named: Vec<&dyn ToSql> = Vec::new();
    for id in &ids {
        let place: [&dyn ToSql; 4] = [id, &TOPIC, &part, &1_i64];
        inserted.extend(place);
        inserted.extend([&offsets.0 as &dyn ToSql, &offsets.1, &us, &log]);
        named.extend(place);
        named.push(&offsets.1);
    }
    named.push(&log);
    let mut let_go = inserted.clone();
    let_go.push(&us);
    let mut move_on = insert(&with_extent, Some(us), log);
    move_on.push(MOVE_ON);
    let mut release = insert(&with_extent, Some(us), log);
    release.push(LET_GO).bind(us.to_owned());
    let cases = [
        (claim(Gets::Begins, &with_extent, us, log), &inserted, 3),
        (claim(Gets::Grows, &with_extent, us, log), &inserted, 3),
        (move_on, &inserted, 0),
        (release, &let_go, 0),
        (end(&ended, log), &named, 3),
    ];
    let (few, many) = (owing(1_000), owing(100_000));
    for (statement, values, expected) in &cases {
        let (rows, of_many) = steps::run(&many, &statement.text(false), values);
        let (_, of_few) = steps::run(&few, &statement.text(false), values);
        assert_eq!(rows, *expected, "{}", statement.text(false));
        steps::are_no_more(of_few, of_many, &statement.text(false));
    }
}

#[test]
fn no_statement_writes_a_row_twice() {
    let row = |start| RangeId {
        endpoint: EndpointId(Uuid::nil()),
        topic: TOPIC.into(),
        partition: 0,
        start,
    };
    let list: Vec<_> = (0..150)
        .chain(0..3)
        .map(|start| (row(start), start))
        .collect();
    let parts = distinct(list.clone());
    let lengths: Vec<_> = parts.iter().map(Vec::len).collect();
    assert_eq!(lengths, [100, 53]);
    assert_eq!(parts.concat(), list);
    let twice = distinct(vec![(row(1), 'a'), (row(2), 'b'), (row(1), 'c')]);
    let letters: Vec<String> = twice
        .iter()
        .map(|part| part.iter().map(|(_, letter)| *letter).collect())
        .collect();
    assert_eq!(letters, ["ab", "c"]);
}

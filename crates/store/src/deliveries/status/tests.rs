//! What noting how endpoints are reads: no more where there are a hundred times as many. Counted
//! are the steps of SQLite's virtual machine.

use rusqlite::StatementStatus;
use uuid::Uuid;

use super::*;
use crate::steps;

/// Steps for statuses of twenty endpoints among so many.
fn counted(endpoints: u32) -> i32 {
    let connection = steps::empty();
    let fill = format!(
        "INSERT INTO account (id, number, created_ms) VALUES ('a', '1', 0); \
         WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {endpoints}) \
         INSERT INTO endpoint (id, account_id, name, url, search_name, search_url, active, retry_policy, created_ms, updated_ms) \
         SELECT printf('00000000-0000-0000-0000-%012d', value), 'a', value, '', '', '', 1, '', 0, 0 FROM n"
    );
    connection.execute_batch(&fill).expect("endpoints");
    // Ids show hexadecimal digits.
    let ids = (0x10..0x20).map(|number| EndpointId(Uuid::from_u128(number)));
    let statuses: Vec<Status> = ids.map(|id| Status::failure(id, 5)).collect();
    let mut update = connection.prepare(&UPDATE_ON_SQLITE).expect("a statement");
    let updated = update.execute((99, json(&statuses))).expect("an update");
    assert_eq!(updated, 10, "10 to 19");
    update.get_status(StatementStatus::VmStep)
}

#[test]
fn noting_how_endpoints_are_reads_no_more_where_there_are_a_hundred_times_as_many() {
    let (few, many) = (counted(100), counted(10_000));
    steps::are_no_more(few, many, &UPDATE_ON_SQLITE);
}

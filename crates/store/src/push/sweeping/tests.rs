//! What sweeping writes: no more where there are a hundred times as many rows that stay. Counted
//! are the steps of SQLite's virtual machine.

use rusqlite::{Connection, ToSql};

use crate::push::heard::{FORGET_CREDENTIALS, FORGET_HEARD};
use crate::push::leases::FORGET_LEASES;
use crate::push::metadata::{COME_BACK, GIVE_UP, LEFT};
use crate::push::time::AHEAD;
use crate::steps;

/// A database with so many persons, each with a row of every kind.
fn persons(number: u32) -> Connection {
    let connection = steps::empty();
    for insert in [
        "push_subscription (id, context, user_name, login, client, transport, token_hash, last_four, wishes, sealed, created_ms) \
         SELECT value, 'c', 'u' || value, 'l', 'c', 't', value, 't', '{}', 's', 0",
        "push_heard (context, user_name, snapshot, fence) SELECT 'c', 'u' || value, '{}', 1",
        "push_credential (id, context, user_name, sealed, changed_ms) SELECT value, 'c', 'u' || value, 's', 0",
        "push_metadata (context, user_name, login, fence, left_ms) SELECT 'c', 'u' || value, 'l', 1, 0",
        "push_lease (context, user_name, login, node, fence) SELECT 'c', 'u' || value, 'l', '', 1",
        "push_waiting (id, subscription_id, context, user_name, topic, tag, message, short_message, \
         gathered_until_ms, created_ms, due_ms, deadline_ms, failures, revision, claimed_until_ms) \
         SELECT value, value, 'c', 'u' || value, 't', 't', 'm', 'm', 0, 1, 1, 1, 0, 1, 0",
    ] {
        let fill = format!(
            "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {number}) \
             INSERT INTO {insert} FROM n"
        );
        connection.execute_batch(&fill).expect(insert);
    }
    connection
}

/// The steps that a statement takes that finds nothing.
fn counted(connection: &Connection, statement: &str, values: &[&dyn ToSql]) -> i32 {
    let (rows, counted) = steps::run(connection, statement, values);
    assert_eq!(rows, 0, "nothing is due");
    counted
}

#[test]
fn what_is_swept_is_written_at_the_same_cost_where_a_hundred_times_as_many_rows_stay() {
    let (few, many) = (persons(200), persons(20_000));
    let check = |statement: &str, values: &[&dyn ToSql]| {
        let (few, many) = (
            counted(&few, statement, values),
            counted(&many, statement, values),
        );
        steps::are_no_more(few, many, statement);
    };
    for (sweep, numbers) in [
        (FORGET_HEARD, &[1][..]),
        (FORGET_CREDENTIALS, &[1, 1][..]),
        (COME_BACK, &[1][..]),
        (LEFT, &[1][..]),
        (GIVE_UP, &[1][..]),
        (FORGET_LEASES, &[1][..]),
    ] {
        let names = ["c", "u7", "c", "u8", "c", "u9"];
        let persons = names.chunks(2);
        let persons = persons.map(|one| (one[0].to_owned(), one[1].to_owned()));
        let act = sweep.act_on(numbers, persons.collect());
        let numbers = numbers.iter().map(|number| number as &dyn ToSql);
        let names = names.iter().map(|name| name as &dyn ToSql);
        check(&act.text(false), &numbers.chain(names).collect::<Vec<_>>());
    }
    check(AHEAD, &[&5]);
}

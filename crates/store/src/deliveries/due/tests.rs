//! What claims read: no more where a hundred times as much is owed.

use dovecast_notification::{NotificationId, OrderKey};
use rusqlite::{Connection, ToSql};

use uuid::Uuid;

use super::by_account::{ENDPOINTS, PAGE, Part, of_endpoints};
use super::*;
use crate::deliveries::claims::DEAD;
use crate::deliveries::order::next_due;
use crate::deliveries::owing::{Removed, remove};
use crate::steps;

const NOW_MS: i64 = 4_999_000;
fn endpoint(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

/// Deliveries of three endpoints that are due: as many as `number` says of one that must wait, and
/// of one who lives has claimed; and ten more that are due later than all of these, of an endpoint
/// that has as many again which are not due yet.
fn owing(number: u32) -> Connection {
    let connection = steps::empty();
    for (of, first, last, claimed_by) in [
        (1, 1, number, "NULL"),
        (2, 1, number, "'lives'"),
        (3, 1_000_001, 1_000_010, "NULL"),
        (3, 6_000_001, 6_000_000 + number, "NULL"),
    ] {
        let of = endpoint(of);
        let fill = format!(
            "WITH RECURSIVE n (value) AS (SELECT {first} UNION ALL SELECT value + 1 FROM n WHERE value < {last}) \
             INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, made_ms, claimed_by, reason) \
             SELECT '{of}', printf('00000000-0000-0000-0000-%012d', value), '{{}}', 1, value, 0, {claimed_by}, '' FROM n"
        );
        connection.execute_batch(&fill).expect("deliveries");
    }
    let of = endpoint(4);
    let fill = format!(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {number}) \
         INSERT INTO owed (endpoint_id, notification_id, content, failures, due_ms, made_ms, reason, log, topic, part, record_offset, order_key) \
         SELECT '{of}', printf('00000000-0000-0000-0000-%012d', value), '{{}}', 1, {BEHIND}, 0, '', '', 't', 0, value, 'key' FROM n"
    );
    connection
        .execute_batch(&fill)
        .expect("deliveries of a key");
    let lives = "INSERT INTO dispatcher (id, alive_until_ms) VALUES ('lives', 5000000)";
    connection.execute_batch(lives).expect("a dispatcher");
    connection
}

#[test]
fn a_claim_reads_no_more_where_a_hundred_times_as_much_is_owed() {
    // Ids show hexadecimal digits, and those of the third endpoint are 1000001 to 1000010.
    let ids: Vec<OwedId> = (0x100_0001..=0x100_0009)
        .map(|number| {
            (
                EndpointId(Uuid::from_u128(3)),
                NotificationId(Uuid::from_u128(number)),
            )
        })
        .collect();
    let claim = claim("us".to_owned(), &ids, 20, "");
    let mut claimed = vec!["us".to_owned()];
    for (endpoint, notification) in &ids {
        claimed.extend([endpoint.to_string(), notification.to_string()]);
    }
    claimed.push("20".to_owned());
    let claimed: Vec<&dyn ToSql> = claimed.iter().map(|value| value as &dyn ToSql).collect();
    let (few, many) = (owing(1_000), owing(100_000));
    let (third, fourth) = (endpoint(3), endpoint(4));
    let until_ms = NOW_MS + SKEW_MS;
    let next = next_due(&[&(EndpointId(Uuid::nil()), OrderKey(Uuid::nil()))], NOW_MS);
    let gone: Vec<OwedId> = ids
        .iter()
        .map(|(_, id)| (EndpointId(Uuid::nil()), *id))
        .collect();
    let of = of_endpoints(
        &[Part {
            account: 0,
            endpoint: EndpointId(Uuid::from_u128(3)),
            skipped: 0,
            most: 20,
        }],
        NOW_MS,
    );
    let remove = remove(&gone, Removed::Unwanted);
    let nobody = Uuid::nil().to_string();
    let mut removed: Vec<&dyn ToSql> = Vec::new();
    for id in claimed[1..].chunks(2).take(ids.len()) {
        removed.extend([&nobody as &dyn ToSql, id[1]]);
    }
    let cases: [(&str, &[&dyn ToSql], usize); 9] = [
        (SET_BACK, &[&until_ms], 0),
        (DEAD, &[&"us", &NOW_MS, &until_ms], 0),
        (DUE_FIRST, &[&NOW_MS, &1_000], 1_000),
        (ENDPOINTS, &[&"", &PAGE], 3),
        (&of.text(false), &[&third, &third, &NOW_MS, &20, &0], 10),
        (&claim.text(false), &claimed, 9),
        (order::run::FOLLOWERS, &[&fourth, &"key", &1, &20], 20),
        (
            &next.text(false),
            &[&fourth, &"key", &NOW_MS, &NOW_MS, &BEHIND],
            0,
        ),
        (&remove.text(false), &removed, 0),
    ];
    for (statement, values, expected) in cases {
        let (rows, of_many) = steps::run(&many, statement, values);
        let (_, of_few) = steps::run(&few, statement, values);
        assert_eq!(rows, expected, "{statement}");
        steps::are_no_more(of_few, of_many, statement);
    }
}

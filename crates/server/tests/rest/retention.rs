//! A log that may not grow: who fills it loses his own, and is told before.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::setup::{User, World, bearer, cases, delivering, text};
use crate::sources::message;

cases![
    who_fills_the_log_loses_his_own_and_nobody_elses,
    who_fills_a_partition_takes_nothing_from_others_in_it,
];

/// What the log may hold, in megabytes.
const RETENTION_MB: usize = 16;
/// A large message: just below what one may have.
const LARGE_BYTES: usize = 1_000_000;
/// Notifications of the victim.
const NOTIFICATIONS: u64 = 20;

fn token<'a>(server: &'a Server, admin: &User<'_>, number: &str) -> Result<User<'a>> {
    let fields = json!({"name": "t", "scope": "account", "account_number": number});
    let made = admin
        .post("/tokens", &json!({"token": fields}))?
        .with(201)?;
    Ok(bearer(server, &text(&made.json["meta"]["token"])?))
}

/// The partition of the last record of an account.
fn partition(server: &Server, account: &str) -> Result<u64> {
    let records = server.records("hooks.outbox")?;
    let found = records.iter().rev().find_map(|record| {
        let record: Value = serde_json::from_str(record).ok()?;
        (record["key"] == account).then(|| record["partition"].as_u64())?
    });
    found.with_context(|| format!("no record of {account}: {records:?}"))
}

/// An account whose records are in the partition of those of `other`, or in another one.
fn beside(server: &Server, admin: &User<'_>, other: &str, is_shared: bool) -> Result<String> {
    admin.post("/messages", &message(other))?.with(201)?;
    let taken = partition(server, other)?;
    for number in 0..100 {
        let account = format!("victim-{number}");
        admin.post("/messages", &message(&account))?.with(201)?;
        if (partition(server, &account)? == taken) == is_shared {
            return Ok(account);
        }
    }
    anyhow::bail!("no account is beside partition {taken}, shared: {is_shared}")
}

fn who_fills_the_log_loses_his_own_and_nobody_elses(world: &World) -> Result<()> {
    check(world, false)
}

fn who_fills_a_partition_takes_nothing_from_others_in_it(world: &World) -> Result<()> {
    check(world, true)
}

/// The victim gets all that is his, in a partition of his own or in one that is filled.
fn check(world: &World, is_shared: bool) -> Result<()> {
    let bounds =
        format!("[log]\nretention_mb = {RETENTION_MB}\n[quota]\nmessages_kb_per_second = 0");
    let server = delivering(world.fresh()?.0).config(&bounds).start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let account = beside(&server, &admin, "greedy", is_shared)?;
    let (victim, greedy) = (
        token(&server, &admin, &account)?,
        token(&server, &admin, "greedy")?,
    );
    let sink = HookEndpoint::start()?;
    let paused = json!({"name": "e", "url": sink.url(), "paused": true, "filter": {}});
    let id = victim.endpoint(&paused)?;
    greedy.endpoint(&paused)?;
    for number in 0..NOTIFICATIONS {
        let mut own = message(&account);
        own["message"] = json!(number);
        victim.post("/messages", &own)?.with(201)?;
    }
    let mut large = message("greedy");
    large["message"] = json!("x".repeat(LARGE_BYTES));
    let fill = |count: usize| -> Result<()> {
        (0..count).try_for_each(|_| greedy.post("/messages", &large)?.with(201).map(drop))
    };
    // Nearly full, and nothing of it is delivered.
    fill(RETENTION_MB - 1)?;
    let alarm =
        "the log is nearly as large as it may be, and soon removes what was not delivered yet";
    let told = poll_until(PATIENCE, || {
        server.server_log().contains(alarm).then_some(())
    });
    told.with_context(|| format!("no alarm: {}", server.server_log()))?;
    let lost = "dovecast_log_removed_unread_records_total";
    ensure!(server.metric(lost)? < 1.0, "an alarm that comes too late");
    fill(2 * RETENTION_MB)?;
    server.metric_is(lost, |lost| lost > 0.0)?;
    let change = json!({"endpoint": {"paused": false}});
    victim
        .put(&format!("/endpoints/{id}"), &change)?
        .with(200)?;
    // One that comes twice is no other one.
    let missing = || {
        let hooks = sink.hooks();
        let numbers = hooks.iter().filter_map(|hook| {
            let body: Value = serde_json::from_str(&hook.body).ok()?;
            body["message"].as_u64()
        });
        let come: BTreeSet<u64> = numbers.collect();
        (0..NOTIFICATIONS)
            .filter(|number| !come.contains(number))
            .count()
    };
    let all = poll_until(PATIENCE, || (missing() == 0).then_some(()));
    all.with_context(|| format!("{} of {NOTIFICATIONS} are lost", missing()))?;
    Ok(())
}

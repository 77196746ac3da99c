//! An endpoint that was mended: it gets what it owes at once, however long that was to wait.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields, messages, send};
use crate::setup::{User, World, cases};

cases![
    a_change_of_how_an_endpoint_is_reached_delivers_what_it_owes,
    whoever_asks_for_all_gets_what_is_owed_and_what_is_dead,
    lists_show_when_the_next_attempt_is,
    all_and_something_else_at_once_is_refused,
];

/// Seconds until the second attempt: nobody waits for it.
const LATER: u32 = 86_400;
/// Fewer failures than open the circuit breaker, and more.
const FEW: usize = 8;
const MANY: usize = 12;

/// An endpoint that owes so many, and is tried again much later.
fn failing(
    (user, number): (&User<'_>, &str),
    (world, sink): (&World, &HookEndpoint),
    count: usize,
) -> Result<String> {
    sink.answer(503);
    let mut fields = fields(sink, &json!({}));
    fields["retry_delays"] = json!([LATER]);
    let id = user.endpoint(&fields)?;
    for message in 1..=count {
        send(&world.server, number, &["--message", &message.to_string()])?;
    }
    let waits = poll_until(ARRIVAL, || {
        let line = line(world, number).ok()?;
        // What the breaker has kept from its first attempt is a range of the log.
        let has_all = line["owed_deliveries"] == count || line["owed_ranges"] != 0;
        (has_all && line["last_delivery_status"] == "failure").then_some(())
    });
    waits.context("nothing is owed")?;
    Ok(id)
}

/// What the command lists of the only endpoint of an account.
fn line(world: &World, number: &str) -> Result<Value> {
    let lines = world
        .server
        .run(["endpoints", "--json", "--account-id", number])?;
    let lines: Value = serde_json::from_str(&lines)?;
    Ok(lines[0].clone())
}

fn arrived(sink: &HookEndpoint, count: usize) -> Result<()> {
    let mut arrived = messages(&sink.wait_for(count, ARRIVAL)?)?;
    arrived.sort_by_key(|message| message.parse::<usize>().unwrap_or(0));
    let expected: Vec<String> = (1..=count).map(|message| message.to_string()).collect();
    ensure!(arrived == expected, "{arrived:?}");
    Ok(())
}

fn a_change_of_how_an_endpoint_is_reached_delivers_what_it_owes(world: &World) -> Result<()> {
    let good = HookEndpoint::start()?;
    for (change, is_elsewhere) in [
        (json!({"url": good.url()}), true),
        (json!({"data": {"headers": {"X-Key": "right"}}}), false),
        (json!({"timeout_seconds": 30}), false),
        (json!({"active": true}), false),
    ] {
        let (user, number) = account(world)?;
        let sink = HookEndpoint::start()?;
        let id = failing((&user, &number), (world, &sink), MANY)?;
        if !is_elsewhere {
            sink.answer(204);
        }
        user.put(&format!("/endpoints/{id}"), &json!({"endpoint": change}))?
            .with(200)?;
        arrived(if is_elsewhere { &good } else { &sink }, MANY)?;
    }
    Ok(())
}

fn whoever_asks_for_all_gets_what_is_owed_and_what_is_dead(world: &World) -> Result<()> {
    let ask = |user: &User<'_>, id: &str| {
        let path = format!("/endpoints/{id}/redeliver");
        user.post(&path, &json!({"redeliver": {"all": true}}))
    };
    for is_command in [false, true] {
        let (user, number) = account(world)?;
        let sink = HookEndpoint::start()?;
        let id = failing((&user, &number), (world, &sink), FEW)?;
        // There is one more attempt after the first: what is asked for begins anew each time, and
        // dies of being refused only.
        for status in [503, 503, 400] {
            sink.answer(status);
            let asked = poll_until(ARRIVAL, || {
                let said = ask(&user, &id).ok()?.with(202).ok()?;
                (said.json["meta"]["redelivered"] == FEW).then_some(())
            });
            asked.with_context(|| format!("not all is owed before {status}"))?;
        }
        crate::redelivery::dead_letters(world, &id, FEW)?;
        sink.answer(204);
        if is_command {
            let said = world.server.run(["redeliver", &id, "--all"])?;
            ensure!(said == format!("{FEW} deliveries are due now\n"), "{said}");
        } else {
            let said = ask(&user, &id)?.with(202)?;
            ensure!(said.json["meta"]["redelivered"] == FEW, "{said:?}");
        }
        arrived(&sink, FEW)?;
    }
    Ok(())
}

fn lists_show_when_the_next_attempt_is(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let id = failing((&user, &number), (world, &sink), FEW)?;
    let now: jiff::Timestamp = jiff::Timestamp::now();
    let line = line(world, &number)?;
    let next_ms = line["next_attempt_ms"]
        .as_i64()
        .context("no next attempt")?;
    // Give or take a fifth, and what the test takes.
    ensure!(
        next_ms > now.as_millisecond() + i64::from(LATER) * 500,
        "{line}"
    );
    let list = user.get("/endpoints")?.with(200)?;
    let shown = &list.json["data"][0];
    ensure!(shown["id"] == *id, "{shown}");
    let next = shown["attributes"]["next_attempt_time"]
        .as_str()
        .context("no time")?;
    let next: jiff::Timestamp = next.parse()?;
    ensure!(next.as_millisecond() == next_ms, "{next} and {next_ms}");
    let table = world.server.run(["endpoints", "--account-id", &number])?;
    ensure!(
        table
            .lines()
            .next()
            .is_some_and(|head| head.ends_with("NEXT")),
        "{table}"
    );
    sink.answer(204);
    user.put(
        &format!("/endpoints/{id}"),
        &json!({"endpoint": {"active": true}}),
    )?
    .with(200)?;
    arrived(&sink, FEW)?;
    let gone = poll_until(ARRIVAL, || {
        let shown = user.get(&format!("/endpoints/{id}")).ok()?;
        shown.json["data"]["attributes"]["next_attempt_time"]
            .is_null()
            .then_some(())
    });
    gone.context("an attempt is shown that is none any more")
}

fn all_and_something_else_at_once_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "http://127.0.0.1:1024/"}))?;
    let path = format!("/endpoints/{id}/redeliver");
    for (asked, place) in [
        (
            json!({"all": true, "since": "2026-11-20T10:00:00Z"}),
            "/redeliver/all",
        ),
        (json!({"all": false}), "/redeliver/notification"),
    ] {
        user.post(&path, &json!({"redeliver": asked}))?
            .refused(422, "", place)?;
    }
    Ok(())
}

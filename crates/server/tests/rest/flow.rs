//! How deliveries flow to an endpoint: `paused`, `rate_limit`, `retry_delays`, `ordering`,
//! `fallback_id`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::deliveries::account;
use crate::setup::{User, World, cases, unique};

cases![
    what_is_said_of_the_flow_is_shown_and_kept,
    an_order_is_shown_kept_and_checked,
    what_cannot_be_is_refused,
    a_fallback_has_no_fallback,
    a_paused_endpoint_gets_everything_when_it_goes_on,
    a_rate_limit_is_kept,
    an_endpoint_without_retries_leaves_it_to_its_fallback,
];

const ARRIVAL: Duration = dovecast_testkit::PATIENCE;
const URL: &str = "https://example.org/";

fn shown(user: &User<'_>, id: &str) -> Result<Value> {
    let said = user.get(&format!("/endpoints/{id}"))?.with(200)?;
    let shown = &said.json["data"]["attributes"];
    Ok(json!([
        shown["paused"],
        shown["rate_limit"],
        shown["retry_delays"],
        shown["fallback_id"]
    ]))
}

fn change(user: &User<'_>, id: &str, endpoint: &Value) -> Result<()> {
    let body = json!({"endpoint": endpoint});
    user.put(&format!("/endpoints/{id}"), &body)?
        .with(200)
        .map(drop)
}

fn what_is_said_of_the_flow_is_shown_and_kept(world: &World) -> Result<()> {
    let user = world.account();
    let other = user.endpoint(&json!({"name": "other", "url": URL}))?;
    ensure!(shown(&user, &other)? == json!([false, null, null, null]));
    let id = user.endpoint(&json!({
        "name": "a", "url": URL,
        "paused": true, "rate_limit": 10_000, "retry_delays": [1, 604_800], "fallback_id": other,
    }))?;
    let all = json!([true, 10_000, [1, 604_800], other]);
    ensure!(shown(&user, &id)? == all);
    change(&user, &id, &json!({"name": "b"}))?;
    ensure!(shown(&user, &id)? == all);
    change(
        &user,
        &id,
        &json!({"paused": false, "rate_limit": 1, "retry_delays": []}),
    )?;
    ensure!(shown(&user, &id)? == json!([false, 1, [], other]));
    let nothing = json!({"rate_limit": null, "retry_delays": null, "fallback_id": null});
    change(&user, &id, &nothing)?;
    ensure!(shown(&user, &id)? == json!([false, null, null, null]));
    // Who is gone is nobody's fallback.
    change(&user, &id, &json!({"fallback_id": other}))?;
    user.delete(&format!("/endpoints/{other}"))?.with(204)?;
    ensure!(shown(&user, &id)? == json!([false, null, null, null]));
    Ok(())
}

fn an_order_is_shown_kept_and_checked(world: &World) -> Result<()> {
    let user = world.account();
    let shown = |id: &str| -> Result<Value> {
        let said = user.get(&format!("/endpoints/{id}"))?.with(200)?;
        Ok(said.json["data"]["attributes"]["ordering"].clone())
    };
    let id = user.endpoint(&json!({"name": "a", "url": URL}))?;
    ensure!(shown(&id)? == "none");
    change(&user, &id, &json!({"ordering": "key"}))?;
    change(&user, &id, &json!({"paused": true}))?;
    ensure!(shown(&id)? == "key");
    for wrong in [json!("partition"), json!(1), json!(["key"])] {
        let said = wrong
            .as_str()
            .map_or_else(|| wrong.to_string(), str::to_owned);
        let body = json!({"endpoint": {"ordering": wrong}});
        let detail = format!("`{said}` is neither `none` nor `key`");
        user.put(&format!("/endpoints/{id}"), &body)?.refused(
            422,
            &detail,
            "/data/attributes/ordering",
        )?;
    }
    ensure!(shown(&id)? == "key");
    let other = user.endpoint(&json!({"name": "b", "url": URL, "ordering": "key"}))?;
    ensure!(shown(&other)? == "key");
    change(&user, &other, &json!({"ordering": "none"}))?;
    ensure!(shown(&other)? == "none");
    Ok(())
}

fn what_cannot_be_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "b", "url": URL}))?;
    let foreign = world
        .account()
        .endpoint(&json!({"name": "b", "url": URL}))?;
    let rate = "is not a number from 1 to 10000";
    let delays = "is not an array of at most 20 numbers from 1 to 604800 (seconds)";
    let fallback = "is not another endpoint of the account";
    for (name, value, detail) in [
        ("rate_limit", json!(0), rate),
        ("rate_limit", json!(10_001), rate),
        ("rate_limit", json!(-1), rate),
        ("rate_limit", json!(0.5), rate),
        ("rate_limit", json!("7"), rate),
        ("retry_delays", json!(5), delays),
        ("retry_delays", json!([0]), delays),
        ("retry_delays", json!([604_801]), delays),
        ("retry_delays", json!(["5"]), delays),
        ("retry_delays", json!(vec![1; 21]), delays),
        ("fallback_id", json!(7), fallback),
        ("fallback_id", json!("nobody"), fallback),
        ("fallback_id", json!(uuid::Uuid::nil()), fallback),
        ("fallback_id", json!(foreign), fallback),
        ("fallback_id", json!(id), fallback),
    ] {
        let place = format!("/data/attributes/{name}");
        let change = json!({"endpoint": {name: value}});
        let said = user.put(&format!("/endpoints/{id}"), &change)?;
        said.refused(422, detail, &place)?;
        if value != json!(id) {
            let made = json!({"endpoint": {"name": "a", "url": URL, name: value}});
            user.post("/endpoints", &made)?
                .refused(422, detail, &place)?;
        }
    }
    ensure!(shown(&user, &id)? == json!([false, null, null, null]));
    Ok(())
}

fn a_fallback_has_no_fallback(world: &World) -> Result<()> {
    let user = world.account();
    let new = |name: &str, fallback: &Value| {
        user.endpoint(&json!({"name": name, "url": URL, "fallback_id": fallback}))
    };
    let last = new("last", &Value::Null)?;
    let first = new("first", &json!(last))?;
    let made = json!({"endpoint": {"name": "a", "url": URL, "fallback_id": first}});
    let place = "/data/attributes/fallback_id";
    user.post("/endpoints", &made)?
        .refused(422, "has a fallback itself", place)?;
    let other = new("other", &Value::Null)?;
    let change = json!({"endpoint": {"fallback_id": other}});
    let said = user.put(&format!("/endpoints/{last}"), &change)?;
    said.refused(
        422,
        "cannot be: this endpoint is the fallback of another",
        place,
    )?;
    Ok(())
}

fn a_paused_endpoint_gets_everything_when_it_goes_on(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let (sink, other) = (HookEndpoint::start()?, HookEndpoint::start()?);
    let new = |sink: &HookEndpoint, paused: bool| {
        user.endpoint(&json!({
            "name": unique("endpoint"), "url": sink.url(), "filter": {}, "paused": paused,
        }))
    };
    let id = new(&sink, true)?;
    new(&other, false)?;
    world.server.run(["send", "-u", &number, "--count", "40"])?;
    other.wait_for(40, ARRIVAL)?;
    ensure!(sink.hooks().is_empty());
    let listed = world.server.run(["endpoints"])?;
    let line = listed.lines().find(|line| line.starts_with(&id));
    ensure!(
        line.is_some_and(|line| line.contains(" paused ")),
        "{listed}"
    );
    change(&user, &id, &json!({"paused": false}))?;
    sink.wait_for(40, ARRIVAL)?;
    Ok(())
}

fn a_rate_limit_is_kept(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    user.endpoint(&json!({
        "name": "slow", "url": sink.url(), "filter": {}, "rate_limit": 20,
    }))?;
    let start = Instant::now();
    world.server.run(["send", "-u", &number, "--count", "41"])?;
    sink.wait_for(41, ARRIVAL)?;
    ensure!(start.elapsed() >= Duration::from_millis(40 * 50 - 10));
    Ok(())
}

fn an_endpoint_without_retries_leaves_it_to_its_fallback(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let (broken, fallback) = (HookEndpoint::start()?, HookEndpoint::start()?);
    broken.answer(503);
    let id = user.endpoint(&json!({"name": "fallback", "url": fallback.url()}))?;
    let broken_id = user.endpoint(&json!({
        "name": "broken", "url": broken.url(), "filter": {},
        "retry_delays": [], "fallback_id": id,
    }))?;
    world.server.run(["send", "-u", &number, "-m", "Hi"])?;
    let hooks = fallback.wait_for(1, ARRIVAL)?;
    let body: Value = serde_json::from_str(&hooks[0].body)?;
    ensure!(body["message"] == "Hi", "{body}");
    let dead = poll_until(ARRIVAL, || {
        let letters = world.server.run(["dead-letters", "--json"]).ok()?;
        letters.contains(&broken_id).then_some(())
    });
    ensure!(dead.is_some(), "it is a dead letter all the same");
    Ok(())
}

//! Endpoints that are disabled because they fail: when, who is told, and how they come back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::setup::{User, World, bearer, cases, delivering, text};

cases![
    an_endpoint_that_is_gone_is_disabled_and_told_of,
    an_endpoint_that_its_policy_disables_is_told_of,
    an_endpoint_that_fails_for_days_is_disabled_and_told_of,
    an_endpoint_that_has_failed_for_less_is_not_disabled,
];

const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

fn start(world: &World) -> Result<(Server, String)> {
    let server = delivering(world.fresh()?.0).start()?;
    let token = token(&server)?;
    Ok((server, token))
}

/// Token of the account 1.
fn token(server: &Server) -> Result<String> {
    let admin = bearer(server, &server.admin_token()?);
    let new = json!({"token": {"name": "t", "scope": "account", "account_number": "1"}});
    text(&admin.post("/tokens", &new)?.with(201)?.json["meta"]["token"])
}

fn endpoint(user: &User<'_>, name: &str, sink: &HookEndpoint, policy: &str) -> Result<String> {
    user.endpoint(&json!({
        "name": name, "url": sink.url(), "active": true, "filter": {}, "retry_policy": policy,
    }))
}

/// An endpoint that is told what dovecast has to tell.
fn watcher(user: &User<'_>) -> Result<HookEndpoint> {
    let apps = user.get("/apps?limit=100")?.with(200)?;
    let apps = apps.json["data"].as_array().context("no list")?;
    let own = apps
        .iter()
        .find(|app| app["attributes"]["name"] == "dovecast");
    let own = own.context("it is no application")?;
    let sink = HookEndpoint::start()?;
    user.endpoint(&json!({
        "name": "watcher", "url": sink.url(), "active": true, "filter": {"app_ids": [own["id"]]},
    }))?;
    Ok(sink)
}

fn send(server: &Server) -> Result<()> {
    server.run(["send", "-u", "1"]).map(drop)
}

/// Waits until the endpoint shows this.
fn shows(user: &User<'_>, id: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    let found = poll_until(ARRIVAL, || {
        let said = user.get(&format!("/endpoints/{id}")).ok()?;
        last = said.json["data"]["attributes"].clone();
        is_so(&last).then(|| last.clone())
    });
    found.with_context(|| format!("it stays so: {last}"))
}

fn told(sink: &HookEndpoint) -> Result<Value> {
    let hooks = sink.wait_for(1, ARRIVAL)?;
    Ok(serde_json::from_str(&hooks[0].body)?)
}

fn an_endpoint_that_its_policy_disables_is_told_of(world: &World) -> Result<()> {
    let (server, token) = start(world)?;
    let user = bearer(&server, &token);
    let (sink, watcher) = (HookEndpoint::start()?, watcher(&user)?);
    sink.answer(404);
    let id = endpoint(&user, "dead", &sink, "hooks")?;
    send(&server)?;
    shows(&user, &id, |shown| shown["active"] == false)?;
    let told = told(&watcher)?;
    let expected = json!({"id": id, "name": "dead"});
    ensure!(
        (
            &told["application"],
            &told["event_type"],
            &told["level"],
            &told["message"]["endpoint"]
        ) == (
            &json!("dovecast"),
            &json!("endpoint.disabled"),
            &Value::Null,
            &expected
        ),
        "{told}"
    );
    let reason = told["message"]["reason"].as_str().unwrap_or_default();
    ensure!(reason == "the endpoint answers 404 Not Found", "{told}");
    Ok(())
}

fn an_endpoint_that_is_gone_is_disabled_and_told_of(world: &World) -> Result<()> {
    let (server, token) = start(world)?;
    let user = bearer(&server, &token);
    let (sink, watcher) = (HookEndpoint::start()?, watcher(&user)?);
    sink.answer(410);
    let id = endpoint(&user, "gone", &sink, "default")?;
    send(&server)?;
    shows(&user, &id, |shown| shown["active"] == false)?;
    let told = told(&watcher)?;
    let message = &told["message"];
    ensure!(
        message["endpoint"] == json!({"id": id, "name": "gone"}),
        "{told}"
    );
    ensure!(
        message["reason"] == "the endpoint answers 410 Gone",
        "{told}"
    );
    Ok(())
}

fn an_endpoint_that_fails_for_days_is_disabled_and_told_of(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let mut server = delivering(builder).start()?;
    let token = token(&server)?;
    let user = bearer(&server, &token);
    let (sink, watcher) = (HookEndpoint::start()?, watcher(&user)?);
    sink.answer(503);
    let id = endpoint(&user, "dead", &sink, "default")?;
    send(&server)?;
    shows(&user, &id, |shown| {
        shown["last_delivery_status"] == "failure"
    })?;
    server.stop()?;
    let six_days_ms = 6 * 24 * 60 * 60 * 1000;
    database.execute(
        &server,
        &format!("UPDATE endpoint SET first_failure_ms = last_delivery_ms - {six_days_ms}, failing_ms = {six_days_ms} WHERE id = '{id}'"),
    )?;
    server.start_again()?;
    let user = bearer(&server, &token);
    let shown = shows(&user, &id, |shown| shown["active"] == false)?;
    let told = told(&watcher)?;
    ensure!(
        told["message"]
            == json!({
                "endpoint": {"id": id, "name": "dead"},
                "reason": "every attempt has failed for too long",
                "first_failure_time": shown["first_failure_time"],
            }),
        "{told} {shown}"
    );
    // Switched on by a person it begins anew.
    sink.answer(204);
    user.put(
        &format!("/endpoints/{id}"),
        &json!({"endpoint": {"active": true}}),
    )?
    .with(200)?;
    send(&server)?;
    sink.wait_for(1, ARRIVAL)?;
    let shown = shows(&user, &id, |shown| {
        shown["last_delivery_status"] == "success"
    })?;
    ensure!(
        shown["active"] == true && shown["first_failure_time"] == Value::Null,
        "{shown}"
    );
    ensure!(watcher.hooks().len() == 1, "it is told once");
    Ok(())
}

fn an_endpoint_that_has_failed_for_less_is_not_disabled(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let mut server = delivering(builder).start()?;
    let token = token(&server)?;
    let user = bearer(&server, &token);
    let sink = HookEndpoint::start()?;
    sink.answer(503);
    let mut ids = Vec::new();
    for (name, policy) in [("less", "default"), ("more", "default")] {
        ids.push(endpoint(&user, name, &sink, policy)?);
    }
    send(&server)?;
    for id in &ids {
        shows(&user, id, |shown| {
            shown["last_delivery_status"] == "failure"
        })?;
    }
    server.stop()?;
    let hour_ms = 60 * 60 * 1000;
    for (id, hours) in ids.iter().zip([119, 121]) {
        let ms = hours * hour_ms;
        database.execute(
            &server,
            &format!(
                "UPDATE endpoint SET first_failure_ms = last_delivery_ms - {ms}, failing_ms = {ms} WHERE id = '{id}'"
            ),
        )?;
    }
    server.start_again()?;
    let user = bearer(&server, &token);
    shows(&user, &ids[1], |shown| shown["active"] == false)?;
    shows(&user, &ids[0], |shown| shown["active"] == true)?;
    Ok(())
}

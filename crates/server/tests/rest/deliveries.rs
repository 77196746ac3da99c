//! From a notification to the endpoint: what arrives, who gets what, what becomes of failures, and
//! a server that is killed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_drivers::signature::{Secret, sign};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::setup::{User, World, bearer, cases, delivering, text, unique};

cases![
    a_notification_arrives_as_hooks_backend_sends_it_and_signed,
    an_event_is_a_notification_of_the_users_account,
    a_condition_decides_by_the_message,
    a_condition_that_would_cost_too_much_is_explained_and_counted,
    a_failure_is_shown_and_repaired_by_a_later_success,
    what_was_refused_once_comes_by_a_later_attempt,
    the_policy_of_hooks_backend_switches_an_endpoint_off,
    a_test_sends_one_and_leaves_no_trace,
    nothing_goes_to_an_address_that_is_not_allowed,
    the_commands_show_what_became_of_deliveries_and_why,
    a_server_that_is_killed_again_and_again_delivers_everything,
];

pub(crate) const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

/// An account of its own with its number.
pub(crate) fn account(world: &World) -> Result<(User<'_>, String)> {
    let number = unique("number");
    let token = world
        .admin()
        .post(
            "/tokens",
            &json!({"token": {"name": "t", "scope": "account", "account_number": number}}),
        )?
        .with(201)?;
    let token = text(&token.json["meta"]["token"])?;
    Ok((bearer(&world.server, &token), number))
}

pub(crate) fn send(server: &Server, account: &str, more: &[&str]) -> Result<()> {
    let mut arguments = vec!["send", "--account-id", account];
    if !more.contains(&"--application") {
        arguments.extend(["--application", "a", "--event-type", "e"]);
    }
    arguments.extend(more);
    server.run(arguments).map(drop)
}

fn body(hook: &Hook) -> Result<Value> {
    Ok(serde_json::from_str(&hook.body)?)
}

pub(crate) fn messages(hooks: &[Hook]) -> Result<Vec<String>> {
    hooks
        .iter()
        .map(|hook| text(&body(hook)?["message"]))
        .collect()
}

pub(crate) fn fields(sink: &HookEndpoint, filter: &Value) -> Value {
    json!({"name": unique("endpoint"), "url": sink.url(), "active": true, "filter": filter})
}

fn a_notification_arrives_as_hooks_backend_sends_it_and_signed(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, secret) = user.signed_endpoint(&fields(&sink, &json!({})))?;
    let more = [
        "--level",
        "Info",
        "--timestamp",
        "2026-11-20T10:00:00Z",
        "--message-json",
        r#"{"a":[1,null]}"#,
    ];
    send(&world.server, &number, &more)?;
    let hooks = sink.wait_for(1, ARRIVAL)?;
    let hook = &hooks[0];
    ensure!(
        hook.body
            == r#"{"timestamp":"2026-11-20T10:00:00.000Z","application":"a","event_type":"e","level":"Info","message":{"a":[1,null]}}"#,
        "{}",
        hook.body
    );
    ensure!(hook.header("content-type") == Some("application/json"));
    let webhook_id = hook.header("webhook-id").context("no id")?;
    let timestamp = hook.header("webhook-timestamp").context("no time")?;
    let expected = sign(
        &[Secret::parse(&secret)?],
        webhook_id,
        timestamp,
        hook.body.as_bytes(),
    );
    ensure!(
        hook.header("webhook-signature") == Some(&*expected),
        "{hook:?}"
    );
    // Shown when it is noted.
    let shown = poll_until(ARRIVAL, || {
        let said = user.get(&format!("/endpoints/{id}")).ok()?;
        let status = said.json["data"]["attributes"]["last_delivery_status"].clone();
        (status != Value::Null).then_some(status)
    });
    ensure!(shown == Some(json!("success")), "{shown:?}");
    Ok(())
}

fn an_event_is_a_notification_of_the_users_account(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let apps = user.get("/apps?limit=1000")?.with(200)?;
    let included = apps.json["included"].as_array().context("no list")?;
    let new = included
        .iter()
        .find(|one| one["attributes"]["name"] == "MessageNew");
    let new = text(&new.context("`MessageNew` is not registered")?["id"])?;
    let sink = HookEndpoint::start()?;
    user.endpoint(&fields(&sink, &json!({"event_type_ids": [new]})))?;
    for kind in ["MessageRead", "MessageNew"] {
        let event = format!(
            r#"{{"user":"{number}","mailbox":"INBOX","event":"{kind}","uidvalidity":1,"uid":2}}"#
        );
        world.server.run(["send", "--event", &event])?;
    }
    let hooks = sink.wait_for(1, ARRIVAL)?;
    let body = body(&hooks[0])?;
    ensure!(
        (
            &body["application"],
            &body["event_type"],
            &body["message"]["uid"]
        ) == (&json!("dovecot"), &json!("MessageNew"), &json!(2)),
        "{body}"
    );
    ensure!(sink.hooks().len() == 1);
    Ok(())
}

fn a_condition_decides_by_the_message(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let condition = json!({"condition": "message.mailbox == \"INBOX\" && message.uid > 3"});
    user.endpoint(&fields(&sink, &condition))?;
    for (mailbox, uid) in [("INBOX", 3), ("Trash", 4), ("INBOX", 4)] {
        let message = json!({"mailbox": mailbox, "uid": uid}).to_string();
        send(&world.server, &number, &["--message-json", &message])?;
    }
    let hooks = sink.wait_for(1, ARRIVAL)?;
    ensure!(body(&hooks[0])?["message"] == json!({"mailbox": "INBOX", "uid": 4}));
    Ok(())
}

fn a_condition_that_would_cost_too_much_is_explained_and_counted(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let condition = json!({"condition": "message.list.all(x, x in message.list)"});
    let id = user.endpoint(&fields(&sink, &condition))?;
    let cheap = json!({"condition": "has(message.list)"});
    user.endpoint(&fields(&sink, &cheap))?;
    // Longer than what is evaluated at once.
    let message = json!({"list": vec![10; 10_000]}).to_string();
    let of_message = ["--message-json", &message];
    send(&world.server, &number, &of_message)?;
    sink.wait_for(1, ARRIVAL)?;
    let not_run = "dovecast_dispatch_conditions_not_run_total";
    world.server.metric_is(not_run, |count| count > 0.0)?;
    let told = ["the condition of an endpoint is not run", &number, &id];
    world.server.log_with(&told)?;
    let explain = ["explain", "--account-id", &number, "--application", "a"];
    let explain = explain.into_iter().chain(["--event-type", "e"]);
    let explained = world.server.run(explain.chain(of_message))?;
    let line = explained.lines().find(|line| line.starts_with(&id));
    let why = "no: the condition is not run, it would cost too much on a notification of this size";
    ensure!(line.is_some_and(|line| line.ends_with(why)), "{explained}");
    Ok(())
}

/// Waits until the endpoint shows this.
pub(crate) fn shows(user: &User<'_>, id: &str, attribute: &str, expected: &Value) -> Result<Value> {
    let mut last = Value::Null;
    let found = poll_until(ARRIVAL, || {
        let said = user.get(&format!("/endpoints/{id}")).ok()?;
        last = said.json["data"]["attributes"].clone();
        (last[attribute] == *expected).then(|| last.clone())
    });
    found.with_context(|| format!("`{attribute}` does not become {expected}: {last}"))
}

fn a_failure_is_shown_and_repaired_by_a_later_success(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    sink.answer(503);
    let id = user.endpoint(&fields(&sink, &json!({})))?;
    send(&world.server, &number, &[])?;
    let shown = shows(&user, &id, "last_delivery_status", &json!("failure"))?;
    ensure!(shown["first_failure_time"] != Value::Null, "{shown}");
    ensure!(shown["active"] == true, "{shown}");
    sink.answer(204);
    send(&world.server, &number, &[])?;
    let shown = shows(&user, &id, "last_delivery_status", &json!("success"))?;
    ensure!(shown["first_failure_time"] == Value::Null, "{shown}");
    Ok(())
}

fn what_was_refused_once_comes_by_a_later_attempt(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    sink.refuse_once(1);
    let id = user.endpoint(&fields(&sink, &json!({})))?;
    send(&world.server, &number, &[])?;
    // The first delay is five seconds.
    ensure!(sink.wait_for(1, ARRIVAL)?.len() == 1);
    let shown = shows(&user, &id, "last_delivery_status", &json!("success"))?;
    ensure!(shown["first_failure_time"] == Value::Null, "{shown}");
    Ok(())
}

fn the_policy_of_hooks_backend_switches_an_endpoint_off(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    sink.answer(404);
    let mut endpoint = fields(&sink, &json!({}));
    endpoint["retry_policy"] = json!("hooks");
    let id = user.endpoint(&endpoint)?;
    send(&world.server, &number, &[])?;
    shows(&user, &id, "active", &json!(false))?;
    Ok(())
}

fn a_test_sends_one_and_leaves_no_trace(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let id = user.endpoint(&fields(&sink, &json!({})))?;
    let path = format!("/endpoints/{id}/test");
    user.post(&path, &json!({}))?.with(204)?;
    let hooks = sink.hooks();
    let body = body(hooks.first().context("nothing has come")?)?;
    ensure!(
        (
            &body["application"],
            &body["event_type"],
            &body["level"],
            &body["message"]
        ) == (
            &json!("Test"),
            &json!("Test"),
            &json!("Test"),
            &json!("Test message from webhooks")
        ),
        "{body}"
    );
    sink.answer(500);
    let said = user.post(&path, &json!({}))?.with(502)?;
    ensure!(
        said.json["errors"][0]["detail"] == "the endpoint answers 500 Internal Server Error",
        "{said:?}"
    );
    let shown = user.get(&format!("/endpoints/{id}"))?.with(200)?;
    let shown = &shown.json["data"]["attributes"];
    ensure!(
        shown["last_delivery_status"] == Value::Null && shown["active"] == true,
        "{shown}"
    );
    // What is sent afterwards is noted afterwards: by then a test that was queued would be owed.
    sink.answer(204);
    send(&world.server, &number, &[])?;
    shows(&user, &id, "last_delivery_status", &json!("success"))?;
    let listed: Value = serde_json::from_str(&world.server.run(["endpoints", "--json"])?)?;
    let listed = listed.as_array().context("no list")?;
    let listed = listed.iter().find(|line| line["id"] == json!(id));
    let listed = listed.context("it is not listed")?;
    ensure!(
        listed["owed_deliveries"] == 0 && listed["owed_ranges"] == 0,
        "{listed}"
    );
    ensure!(sink.hooks().len() == 2, "a test was repeated");
    Ok(())
}

fn nothing_goes_to_an_address_that_is_not_allowed(world: &World) -> Result<()> {
    let server = world.fresh()?.0.start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let new = json!({"token": {"name": "t", "scope": "account", "account_number": "1"}});
    let token = text(&admin.post("/tokens", &new)?.with(201)?.json["meta"]["token"])?;
    let user = bearer(&server, &token);
    let sink = HookEndpoint::start()?;
    let id = user.endpoint(&fields(&sink, &json!({})))?;
    let said = user
        .post(&format!("/endpoints/{id}/test"), &json!({}))?
        .with(502)?;
    let detail = text(&said.json["errors"][0]["detail"])?;
    ensure!(
        detail.starts_with("`127.0.0.1` is at no public address, and at none of the networks that"),
        "{detail}"
    );
    send(&server, "1", &[])?;
    shows(&user, &id, "last_delivery_status", &json!("failure"))?;
    ensure!(sink.hooks().is_empty());
    Ok(())
}

fn the_commands_show_what_became_of_deliveries_and_why(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let app = world.app()?;
    let (taking, refusing) = (HookEndpoint::start()?, HookEndpoint::start()?);
    refusing.answer(404);
    let mut taken = fields(&taking, &json!({"event_type_ids": [app.plain]}));
    taken["name"] = json!("taking");
    let taken = user.endpoint(&taken)?;
    let mut refused = fields(&refusing, &json!({}));
    refused["name"] = json!("refusing");
    let refused = user.endpoint(&refused)?;
    let plain = ["--application", &app.name, "--event-type", "plain"];
    send(&world.server, &number, &plain)?;
    taking.wait_for(1, ARRIVAL)?;
    shows(&user, &refused, "last_delivery_status", &json!("failure"))?;
    shows(&user, &taken, "last_delivery_status", &json!("success"))?;
    let run = |arguments: &[&str]| world.server.run(arguments);

    let endpoints = run(&["endpoints"])?;
    let line = |id: &str| endpoints.lines().find(|line| line.starts_with(id));
    let shown = line(&refused).context("it is not listed")?;
    ensure!(
        [&*number, "refusing", "active", "failure"]
            .iter()
            .all(|word| shown.contains(word)),
        "{shown}"
    );
    let attempts = run(&["attempts", &taken])?;
    ensure!(
        attempts.lines().count() == 2 && attempts.contains("HTTP/1.1 204 No Content"),
        "{attempts}"
    );
    let letters = run(&["dead-letters", "--json", "--limit", "1000"])?;
    let letters: Vec<Value> = serde_json::from_str(&letters)?;
    let letter = letters.iter().find(|letter| letter["endpoint"] == *refused);
    let letter = letter.context("no dead letter")?;
    ensure!(
        letter["reason"] == "the endpoint answers 404 Not Found" && letter["attempts"] == 1,
        "{letter}"
    );
    let mut explain = vec!["explain", "--account-id", &number];
    explain.extend(["--application", &app.name, "--event-type", "graded"]);
    let explained = run(&explain)?;
    let about = |id: &str| explained.lines().find(|line| line.starts_with(id));
    let (no, yes) = (
        about(&taken).context("not told")?,
        about(&refused).context("not told")?,
    );
    ensure!(
        no.ends_with("no: the event type is not among those of the filter"),
        "{no}"
    );
    ensure!(yes.ends_with("yes"), "{yes}");
    let nobody = run(&[
        "explain",
        r#"{"application":"a","event_type":"e","level":null,"timestamp":"t","message":1,"account_id":"nobody"}"#,
    ])?;
    ensure!(nobody == "the account has no endpoints\n", "{nobody}");
    Ok(())
}

fn a_server_that_is_killed_again_and_again_delivers_everything(world: &World) -> Result<()> {
    let mut server = delivering(world.fresh()?.0).start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let new = json!({"token": {"name": "t", "scope": "account", "account_number": "1"}});
    let token = text(&admin.post("/tokens", &new)?.with(201)?.json["meta"]["token"])?;
    let (good, bad) = (HookEndpoint::start()?, HookEndpoint::start()?);
    for sink in [&good, &bad] {
        let mut endpoint = fields(sink, &json!({}));
        // However many attempts fall into times when it refuses.
        endpoint["retry_delays"] = json!(vec![2; 20]);
        bearer(&server, &token).endpoint(&endpoint)?;
    }
    let mut sent = BTreeSet::new();
    for round in 0..4 {
        bad.answer(if round % 2 == 0 { 503 } else { 204 });
        for number in 0..5 {
            let message = format!("{round}-{number}");
            send(&server, "1", &["--message", &message])?;
            sent.insert(message);
        }
        server.kill()?;
        server.start_again()?;
    }
    bad.answer(204);
    for sink in [&good, &bad] {
        let mut ids = BTreeSet::new();
        let all = poll_until(4 * ARRIVAL, || {
            let hooks = sink.hooks();
            let found: BTreeSet<String> = messages(&hooks).ok()?.into_iter().collect();
            ids = hooks
                .iter()
                .filter_map(|hook| hook.header("webhook-id").map(str::to_owned))
                .collect();
            (found == sent).then_some(hooks.len())
        });
        let count = all.with_context(|| format!("{} of {} have come", ids.len(), sent.len()))?;
        ensure!(
            ids.len() == sent.len(),
            "{} ids for {} notifications",
            ids.len(),
            sent.len()
        );
        println!("{} came again", count - sent.len());
    }
    Ok(())
}

//! Following one notification by its id: in the server's log, from the record to each attempt, and
//! without what it says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::setup::{World, bearer, cases, delivering, text};

cases![a_notification_is_followed_by_its_id];

const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

fn a_notification_is_followed_by_its_id(world: &World) -> Result<()> {
    let builder = delivering(world.fresh()?.0);
    let server = builder
        .config("[logging]\nformat = 'json'\nfilter = 'info,dovecast_dispatch=debug'")
        .start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let new = json!({"token": {"name": "t", "scope": "account", "account_number": "1"}});
    let token = text(&admin.post("/tokens", &new)?.with(201)?.json["meta"]["token"])?;
    let sink = HookEndpoint::start()?;
    sink.refuse_once(1);
    let endpoint = bearer(&server, &token).endpoint(&json!({
        "name": "followed", "url": sink.url(), "active": true, "filter": {},
    }))?;
    server.run(["send", "-u", "1", "-m", "nobody reads this"])?;
    let hooks = sink.wait_for(1, ARRIVAL)?;
    let webhook_id = hooks[0].header("webhook-id").context("no id")?;
    let id = webhook_id.split('_').nth(1).context("no notification")?;
    let said = poll_until(ARRIVAL, || {
        let said = said_of(&server.server_log(), id);
        said.contains(&("delivered".to_owned(), Value::from(204)))
            .then_some(said)
    });
    let said = said.with_context(|| server.server_log())?;
    let expected = [
        ("matched", Value::Null),
        ("failed", Value::from(503)),
        ("delivered", Value::from(204)),
    ];
    ensure!(
        said == expected.map(|(what, status)| (what.to_owned(), status)),
        "{said:?}"
    );
    let log = server.server_log();
    ensure!(log.contains(&endpoint), "{log}");
    ensure!(!log.contains("nobody reads this"), "{log}");
    Ok(())
}

/// What the log says within the spans of a notification: message and status.
fn said_of(log: &str, id: &str) -> Vec<(String, Value)> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let is_of = |line: &Value| {
        let spans = line["spans"].as_array().into_iter().flatten();
        let mut ids = spans.filter_map(|span| span["id"].as_str());
        ids.any(|of| of.replace('-', "") == id)
    };
    lines
        .filter(is_of)
        .map(|line: Value| {
            let message = line["message"].as_str().unwrap_or_default().to_owned();
            (message, line["status"].clone())
        })
        .collect()
}

//! What an endpoint would be sent of a notification, printed by the command; over the REST API that
//! is tried with formats of services (`tests/formats`).

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, send};
use crate::redelivery::refused;
use crate::setup::{World, cases};

cases![the_command_renders_what_is_dead_what_was_delivered_and_what_is_given];

fn the_command_renders_what_is_dead_what_was_delivered_and_what_is_given(
    world: &World,
) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 1)?;
    let trial = ["--set", "template=it is {{ message }}", "--set"];
    let trial = [&trial[..], &["content_type=text/plain", "--json"]].concat();
    let render = |notification: &str, more: &[&str]| {
        let what = ["endpoints", "render", &id, notification];
        world.server.run([&what[..], more].concat())
    };
    let tried = |notification: &str, expected: &str| {
        let found: Value = serde_json::from_str(&render(notification, &trial)?)?;
        let expected = json!({"content_type": "text/plain", "body": expected});
        ensure!(found == expected, "{notification}: {found}");
        anyhow::Ok(())
    };
    tried(&letters[0], "it is 1")?;
    send(&world.server, &number, &["--message", "2"])?;
    let hooks = sink.wait_for(1, ARRIVAL)?;
    let delivered = hooks[0].header("webhook-id").context("no id")?;
    tried(delivered, "it is 2")?;
    let given = |number: &str| {
        let given = json!({
            "application": "a", "event_type": "e", "level": null, "message": "3",
            "timestamp": "2026-11-20T10:00:00Z", "account_id": number,
        });
        given.to_string()
    };
    tried(&given(&number), "it is 3")?;
    // What was tried is not saved, and nothing was sent.
    let saved = render(delivered, &[])?;
    let (content_type, body) = saved.split_once("\n\n").context("no type")?;
    ensure!(content_type == "application/json", "{saved}");
    ensure!(body.trim_end() == hooks[0].body, "{saved}");
    ensure!(sink.count() == 1, "{:?}", sink.hooks());
    let of_others = render(&given("another"), &[]);
    let of_others = format!("{:?}", of_others.err().context("it is rendered")?);
    let expected = "the notification is for another account than the endpoint's";
    ensure!(of_others.contains(expected), "{of_others}");
    Ok(())
}

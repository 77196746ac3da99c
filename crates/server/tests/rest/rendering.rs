//! One notification that was sent, by its id: which endpoints get it, by the REST API and by the
//! command, and what an endpoint would be sent of it, by the command. Over the REST API that is
//! tried with formats of services (`tests/formats`).

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields, send};
use crate::redelivery::refused;
use crate::setup::{User, World, cases, text};

cases![
    a_notification_is_explained_by_its_id,
    the_command_renders_what_is_dead_what_was_delivered_and_what_is_given,
];

fn a_notification_is_explained_by_its_id(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let app = world.app()?;
    let (all, plain) = (HookEndpoint::start()?, HookEndpoint::start()?);
    let open = user.endpoint(&fields(&all, &json!({})))?;
    let plain = user.endpoint(&fields(&plain, &json!({"event_type_ids": [app.plain]})))?;
    let asked = |user: &User<'_>, name: &str| {
        user.post("/explain", &json!({"explain": {"notification": name}}))
    };
    let mut name = String::new();
    for event in [false, true] {
        if event {
            let event = format!(
                r#"{{"user":"{number}","mailbox":"a","event":"MessageRead","uidvalidity":1,"uid":2}}"#
            );
            world.server.run(["send", "--event", &event])?;
        } else {
            send(
                &world.server,
                &number,
                &["--application", &app.name, "--event-type", "graded"],
            )?;
        }
        let hooks = all.wait_for(1 + usize::from(event), ARRIVAL)?;
        let hook = hooks.last().context("nothing has come")?;
        name = text(&json!(hook.header("webhook-id").context("no id")?))?;
        let id = name.split('_').nth(1).context("no id")?;
        let explained = world.server.run(["explain", id])?;
        let about = |id: &str| explained.lines().find(|line| line.starts_with(id));
        let (yes, no) = (
            about(&open).context("not told")?,
            about(&plain).context("not told")?,
        );
        ensure!(yes.ends_with("yes"), "{yes}");
        let reason = "the event type is not among those of the filter";
        ensure!(no.ends_with(&format!("no: {reason}")), "{no}");
        let shown = asked(&user, id)?.with(200)?.json;
        let shown = shown["data"].as_array().context("a list")?;
        let of = |id: &str| shown.iter().find(|one| one["id"] == id);
        let reasons =
            [&open, &plain].map(|id| &of(id).unwrap_or(&Value::Null)["attributes"]["reason"]);
        ensure!(reasons == [&Value::Null, &json!(reason)], "{shown:?}");
    }
    // By the name of a delivery it is about that one only, and what is another account's is not
    // there.
    let shown = asked(&user, &name)?.with(200)?.json;
    ensure!(
        shown["data"].as_array().is_some_and(|list| list.len() == 1),
        "{shown}"
    );
    ensure!(shown["data"][0]["id"] == *open, "{shown}");
    asked(&world.account(), &name)?.not_found("Could not find a notification in the log")?;
    asked(&user, "7")?.refused(422, "is neither the id", "/explain/notification")?;
    let json = world.server.run(["explain", "--json", &name])?;
    let lines: Vec<Value> = serde_json::from_str(&json)?;
    ensure!(lines.len() == 1 && lines[0]["endpoint"] == *open, "{json}");
    ensure!(lines[0]["matches"] == true);
    let id = name.split('_').nth(1).context("no id")?;
    let nowhere = world.server.run(["explain", id, "--from", "end"]);
    let nowhere = format!("{:?}", nowhere.err().context("it is found")?);
    ensure!(
        nowhere.contains("from `end` on, of which 0 records were searched"),
        "{nowhere}"
    );
    Ok(())
}

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

//! What is delivered again: dead letters, by the REST API and by the command, and what still stands
//! in the log.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields, messages, send, shows};
use crate::setup::{User, World, cases, text, unique};

cases![
    a_dead_letter_is_delivered_again_under_its_webhook_id,
    the_dead_letters_since_a_time_are_delivered_again,
    the_command_delivers_again_what_is_dead_and_what_was_delivered,
    what_the_filter_does_not_match_is_not_delivered_again,
    nothing_is_delivered_again_to_an_endpoint_that_is_not_active,
    a_request_that_names_nothing_is_refused,
    what_fails_again_is_a_dead_letter_again,
];

/// An endpoint that has refused so many notifications: its id, and theirs, the first first.
pub(crate) fn refused(
    world: &World,
    (user, number): (&User<'_>, &str),
    sink: &HookEndpoint,
    count: usize,
) -> Result<(String, Vec<String>)> {
    sink.answer(404);
    let id = user.endpoint(&fields(sink, &json!({})))?;
    for message in 1..=count {
        send(&world.server, number, &["--message", &message.to_string()])?;
        dead_letters(world, &id, message)?;
    }
    let mut letters = dead_letters(world, &id, count)?;
    letters.reverse();
    let ids = letters.iter().map(|letter| text(&letter["notification"]));
    let ids = ids.collect::<Result<_>>()?;
    sink.answer(204);
    Ok((id, ids))
}

/// Waits until an endpoint has so many dead letters; the newest first.
pub(crate) fn dead_letters(world: &World, endpoint: &str, count: usize) -> Result<Vec<Value>> {
    let mut last = Vec::new();
    let found = poll_until(ARRIVAL, || {
        let all = ["dead-letters", "--json", "--limit", "10000"];
        let all: Vec<Value> = serde_json::from_str(&world.server.run(all).ok()?).ok()?;
        last = all;
        last.retain(|letter| letter["endpoint"] == endpoint);
        (last.len() == count).then(|| last.clone())
    });
    found.with_context(|| format!("{} and not {count} dead letters: {last:#?}", last.len()))
}

pub(crate) fn webhook_id(notification: &str, endpoint: &str) -> String {
    let simple = |id: &str| id.replace('-', "");
    format!("msg_{}_{}", simple(notification), simple(endpoint))
}

fn check(hooks: &[Hook], expected: &[(&str, String)]) -> Result<()> {
    let mut found = Vec::new();
    for (message, hook) in messages(hooks)?.into_iter().zip(hooks) {
        let id = hook.header("webhook-id").context("no id")?;
        found.push((message, id.to_owned()));
    }
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(message, id)| ((*message).to_owned(), id.clone()))
        .collect();
    found.sort();
    expected.sort();
    ensure!(found == expected, "{found:#?} have come, not {expected:#?}");
    Ok(())
}

fn a_dead_letter_is_delivered_again_under_its_webhook_id(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 3)?;
    let path = format!("/endpoints/{id}/redeliver");
    let redeliver = |user: &User<'_>, name: &str| {
        user.post(&path, &json!({"redeliver": {"notification": name}}))
    };
    let (first, second) = (&letters[0], webhook_id(&letters[1], &id));
    redeliver(&world.account(), first)?.not_found("Could not find Endpoint")?;
    for name in [first, &second] {
        let said = redeliver(&user, name)?.with(202)?;
        ensure!(said.json == json!({"meta": {"redelivered": 1}}), "{said:?}");
    }
    let hooks = sink.wait_for(2, ARRIVAL)?;
    check(
        &hooks,
        &[("1", webhook_id(first, &id)), ("2", second.clone())],
    )?;
    let left = dead_letters(world, &id, 1)?;
    ensure!(left[0]["notification"] == *letters[2], "{left:?}");
    // What was delivered is not dead any more, and what is another endpoint's never was.
    shows(&user, &id, "last_delivery_status", &json!("success"))?;
    let other = webhook_id(&letters[2], "00000000-0000-0000-0000-000000000007");
    // What was delivered stands in the log, and comes once more.
    is_owed_nothing(world, &id)?;
    let said = poll_until(ARRIVAL, || redeliver(&user, first).ok()?.with(202).ok());
    said.context("it is not delivered again")?;
    let again = &sink.wait_for(3, ARRIVAL)?[2];
    let id_of_it = again.header("webhook-id");
    ensure!(id_of_it == Some(&webhook_id(first, &id)), "{id_of_it:?}");
    let nowhere = "019aa3b1-6e58-7d0c-8f00-000000000001";
    redeliver(&user, nowhere)?.not_found("Could not find a dead letter with 'id'=")?;
    let pause = |is_paused: bool| {
        let fields = json!({"endpoint": {"paused": is_paused}});
        user.put(&format!("/endpoints/{id}"), &fields)?.with(200)
    };
    is_owed_nothing(world, &id)?;
    pause(true)?;
    let refused = poll_until(ARRIVAL, || {
        let said = redeliver(&user, first).ok()?;
        (said.answer.status == 409).then_some(said)
    });
    let refused = refused.context("it is owed to an endpoint that is paused")?;
    refused.refused(409, "the endpoint is paused", "")?;
    pause(false)?;
    redeliver(&user, &other)?.not_found("Could not find a dead letter with 'id'=msg_")?;
    Ok(())
}

/// Waits until an endpoint owes nothing: what it has taken it owes for a moment still.
fn is_owed_nothing(world: &World, endpoint: &str) -> Result<()> {
    let none = poll_until(ARRIVAL, || {
        let printed = world.server.run(["endpoints", "--json"]).ok()?;
        let lines: Vec<Value> = serde_json::from_str(&printed).ok()?;
        let line = lines.iter().find(|line| line["id"] == endpoint)?;
        (line["owed_deliveries"] == 0).then_some(())
    });
    none.context("it is owed for ever")
}

fn the_dead_letters_since_a_time_are_delivered_again(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 3)?;
    let kept = dead_letters(world, &id, 3)?;
    // The newest stands first.
    let second_ms = kept[1]["time_ms"].as_i64().context("no time")?;
    let since = |time_ms: i64| -> Result<Value> {
        let time = jiff::Timestamp::from_millisecond(time_ms)?;
        Ok(json!({"redeliver": {"since": time.to_string()}}))
    };
    let path = format!("/endpoints/{id}/redeliver");
    let newest_ms = kept[0]["time_ms"].as_i64().context("no time")?;
    let said = user.post(&path, &since(newest_ms + 1)?)?.with(202)?;
    ensure!(said.json["meta"]["redelivered"] == 0, "{said:?}");
    let expected = kept
        .iter()
        .filter(|letter| letter["time_ms"].as_i64() >= Some(second_ms));
    let expected = expected.count();
    let said = user.post(&path, &since(second_ms)?)?.with(202)?;
    ensure!(said.json["meta"]["redelivered"] == expected, "{said:?}");
    sink.wait_for(expected, ARRIVAL)?;
    let id_and_time = [&id, "--since", "2026-01-01T00:00:00Z"];
    let done = world
        .server
        .run([&["redeliver"][..], &id_and_time].concat())?;
    ensure!(
        done == format!("{} due now\n", deliveries(3 - expected)),
        "{done}"
    );
    let hooks = sink.wait_for(3, ARRIVAL)?;
    let of = |place: usize| webhook_id(&letters[place], &id);
    check(&hooks, &[("1", of(0)), ("2", of(1)), ("3", of(2))])?;
    dead_letters(world, &id, 0)?;
    Ok(())
}

fn deliveries(count: usize) -> String {
    match count {
        1 => "1 delivery is".to_owned(),
        count => format!("{count} deliveries are"),
    }
}

fn the_command_delivers_again_what_is_dead_and_what_was_delivered(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 1)?;
    let of = |name: &str| ["redeliver", &id, name].map(str::to_owned);
    let done = world.server.run(of(&letters[0]))?;
    ensure!(done == "1 delivery is due now\n", "{done}");
    let hooks = sink.wait_for(1, ARRIVAL)?;
    let first = webhook_id(&letters[0], &id);
    check(&hooks, &[("1", first.clone())])?;
    shows(&user, &id, "last_delivery_status", &json!("success"))?;
    dead_letters(world, &id, 0)?;
    // It is nowhere but in the log now, unless it is still owed for a moment; either way it comes
    // once more.
    let again = poll_until(ARRIVAL, || {
        let json = ["redeliver", &id, &first, "--json"];
        let done = world.server.run(json).ok()?;
        assert_eq!(done, "{\"redelivered\":1}\n");
        let hooks = sink.hooks();
        (hooks.len() > 1).then_some(hooks)
    });
    let again = again.context("it does not come again")?;
    let ids: Vec<_> = again
        .iter()
        .filter_map(|hook| hook.header("webhook-id"))
        .collect();
    ensure!(ids.iter().all(|found| *found == first), "{ids:?}");
    ensure!(messages(&again)?.iter().all(|message| message == "1"));
    // An event, too.
    let event = format!(
        r#"{{"user":"{number}","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":2}}"#
    );
    let place = sink.hooks().len();
    world.server.run(["send", "--event", &event])?;
    let is_event = |hook: &&Hook| hook.body.contains("MessageNew");
    let come = |count: usize| {
        let found = poll_until(ARRIVAL, || {
            let hooks = sink.hooks();
            let events: Vec<Hook> = hooks.iter().skip(place).filter(is_event).cloned().collect();
            (events.len() >= count).then_some(events)
        });
        found.with_context(|| format!("{count} have not come"))
    };
    let name = come(1)?[0]
        .header("webhook-id")
        .context("no id")?
        .to_owned();
    world.server.run(of(&name))?;
    let both = come(2)?;
    ensure!(both[0].body == both[1].body && both[1].header("webhook-id") == Some(&name));
    Ok(())
}

fn what_the_filter_does_not_match_is_not_delivered_again(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let (stranger, _) = account(world)?;
    let app = world.app()?;
    let (all, plain, theirs) = (
        HookEndpoint::start()?,
        HookEndpoint::start()?,
        HookEndpoint::start()?,
    );
    user.endpoint(&fields(&all, &json!({})))?;
    let plain = user.endpoint(&fields(&plain, &json!({"event_type_ids": [app.plain]})))?;
    let theirs = stranger.endpoint(&fields(&theirs, &json!({})))?;
    send(&world.server, &number, &[])?;
    let hooks = all.wait_for(1, ARRIVAL)?;
    let name = hooks[0].header("webhook-id").context("no id")?;
    let id = name.split('_').nth(1).context("no id")?;
    for (endpoint, name, expected) in [
        (
            &plain,
            id,
            "the event type is not among those of the filter",
        ),
        (&theirs, id, "the notification is another account's"),
        (&plain, name, "is the delivery to another endpoint"),
        (&id.to_owned(), id, "there is no endpoint"),
        (
            &plain,
            "019aa3b1-6e58-7d0c-8f00-000000000001",
            "the notification `019aa3b1-6e58-7d0c-8f00-000000000001` is not in ",
        ),
    ] {
        let error = world.server.run(["redeliver", endpoint, name]);
        let error = format!("{:?}", error.err().context("it is delivered")?);
        ensure!(error.contains(expected), "{error}");
    }
    Ok(())
}

fn nothing_is_delivered_again_to_an_endpoint_that_is_not_active(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 1)?;
    let path = format!("/endpoints/{id}");
    user.put(&path, &json!({"endpoint": {"active": false}}))?
        .with(200)?;
    let body = json!({"redeliver": {"notification": letters[0]}});
    let detail = "is false: the endpoint receives nothing";
    user.post(&format!("{path}/redeliver"), &body)?.refused(
        422,
        detail,
        "/data/attributes/active",
    )?;
    let error = world
        .server
        .run(["redeliver", &id, "--since", "2026-01-01T00:00:00Z"]);
    let error = format!("{:?}", error.err().context("it is delivered")?);
    ensure!(error.contains("the endpoint is not active"), "{error}");
    // It is there still, for when it is.
    dead_letters(world, &id, 1)?;
    user.put(&path, &json!({"endpoint": {"active": true}}))?
        .with(200)?;
    user.post(&format!("{path}/redeliver"), &body)?.with(202)?;
    check(
        &sink.wait_for(1, ARRIVAL)?,
        &[("1", webhook_id(&letters[0], &id))],
    )
}

fn a_request_that_names_nothing_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": unique("x"), "url": "https://example.org/"}))?;
    let path = format!("/endpoints/{id}/redeliver");
    for (fields, place, detail) in [
        (
            json!({}),
            "/redeliver/notification",
            "is missing: one of `notification`, `since` and `all` is required",
        ),
        (
            json!({"notification": "7"}),
            "/redeliver/notification",
            "`7` is neither the id",
        ),
        (
            json!({"notification": "msg_7_8"}),
            "/redeliver/notification",
            "`msg_7_8` is neither",
        ),
        (
            json!({"since": "today"}),
            "/redeliver/since",
            "`today` is not an RFC 3339 time",
        ),
        (
            json!({"notification": id, "since": "2026-01-01T00:00:00Z"}),
            "/redeliver/since",
            "cannot be given together with `notification`",
        ),
    ] {
        user.post(&path, &json!({"redeliver": fields}))?
            .refused(422, detail, place)?;
    }
    user.post(&path, &json!({}))?
        .refused(400, "`redeliver` is missing", "")?;
    user.post(&path, &json!({"redeliver": {"notification": id}}))?
        .not_found(&format!("Could not find a dead letter with 'id'={id}"))
}

fn what_fails_again_is_a_dead_letter_again(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 1)?;
    let before = dead_letters(world, &id, 1)?;
    sink.answer(404);
    world.server.run(["redeliver", &id, &letters[0]])?;
    let again = poll_until(ARRIVAL, || {
        let letters = dead_letters(world, &id, 1).ok()?;
        (letters[0]["id"] != before[0]["id"]).then(|| letters[0].clone())
    });
    let again = again.context("it is no dead letter again")?;
    ensure!(again["notification"] == *letters[0] && again["body"] == before[0]["body"]);
    ensure!(
        again["reason"] == "the endpoint answers 404 Not Found",
        "{again}"
    );
    ensure!(sink.hooks().is_empty());
    Ok(())
}

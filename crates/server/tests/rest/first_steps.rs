//! What somebody tries first: filters by names, conditions that mean nothing, why nothing comes.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields, messages, send};
use crate::setup::{World, cases, text};

cases![
    a_filter_is_made_with_the_names_of_notifications,
    a_name_that_is_not_registered_is_refused_with_what_is,
    a_condition_that_is_never_true_or_false_is_refused,
    an_explanation_says_what_keeps_a_delivery_back,
    the_json_of_an_event_is_explained,
    what_is_sent_is_explained_by_the_id_that_is_printed,
];

fn a_filter_is_made_with_the_names_of_notifications(world: &World) -> Result<()> {
    let app = world.app()?;
    let name = &app.name;
    for (number, (filter, expected)) in [
        (json!({"applications": [name]}), json!([[app.id], [], []])),
        (json!({"applications": [{"application": name}]}), json!([[app.id], [], []])),
        (
            json!({"event_types": [{"application": name, "event_type": "plain"}, format!("{name}/graded")]}),
            json!([[], [app.plain, app.graded], []]),
        ),
        (
            json!({"levels": [{"application": name, "event_type": "graded", "level": "low"}]}),
            json!([[], [], [app.low]]),
        ),
        (
            json!({"levels": [format!("{name}/graded/high")], "level_ids": [app.low, app.high]}),
            json!([[], [], [app.low, app.high]]),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let user = world.account();
        let endpoint = json!({"name": format!("e{number}"), "url": "http://127.0.0.1:1024/", "filter": filter});
        let id = user.endpoint(&endpoint)?;
        let shown = user.get(&format!("/endpoints/{id}/filter"))?.with(200)?;
        for (place, set) in ["apps", "event_types", "levels"].into_iter().enumerate() {
            let members = shown.json["data"]["relationships"][set]["data"].as_array();
            let ids = members.context("no set")?.iter().map(|member| text(&member["id"]));
            let mut ids = ids.collect::<Result<Vec<String>>>()?;
            let mut expected: Vec<String> = serde_json::from_value(expected[place].clone())?;
            ids.sort();
            expected.sort();
            ensure!(ids == expected, "{filter}: {:#}", shown.json);
        }
    }
    Ok(())
}

fn a_name_that_is_not_registered_is_refused_with_what_is(world: &World) -> Result<()> {
    let app = world.app()?;
    let user = world.account();
    for (filter, set) in [
        (json!({"applications": ["nobody's"]}), "apps"),
        (json!({"applications": [7]}), "apps"),
        (
            json!({"event_types": [format!("{}/none", app.name)]}),
            "event_types",
        ),
        (
            json!({"event_types": [{"application": app.name}]}),
            "event_types",
        ),
        (
            json!({"levels": [format!("{}/graded", app.name)]}),
            "levels",
        ),
    ] {
        let endpoint = json!({"name": "a", "url": "http://127.0.0.1:1024/", "filter": filter});
        let said = user.post("/endpoints", &json!({"endpoint": endpoint}))?;
        let place = format!("/data/relationships/filter/{set}");
        said.refused(422, "is not registered; a name is APPLICATION", &place)?;
    }
    Ok(())
}

fn a_condition_that_is_never_true_or_false_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    let ask = |name: &str, condition: &str| {
        let filter = json!({"condition": condition});
        let endpoint = json!({"name": name, "url": "http://127.0.0.1:1024/", "filter": filter});
        user.post("/endpoints", &json!({"endpoint": endpoint}))
    };
    for condition in [
        "1",
        "'yes'",
        "message.amount + 1",
        "size(message)",
        "application",
        "[true]",
        "application == 'a' && level",
        "message.a ? 'yes' : 'no'",
        "!account_id",
        "null",
    ] {
        let place = "/data/attributes/filter/condition";
        ask("a", condition)?.refused(422, "never true or false", place)?;
    }
    for (number, condition) in [
        "true",
        "message.urgent",
        "message",
        "has(message.a) && message.a > 1",
        "message.a ? message.b : level == 'Info'",
        "message.list.exists(item, item == 1)",
    ]
    .into_iter()
    .enumerate()
    {
        ask(&format!("e{number}"), condition)?.with(201)?;
    }
    Ok(())
}

fn an_explanation_says_what_keeps_a_delivery_back(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    for (name, more) in [
        ("a", json!({})),
        ("b", json!({"paused": true})),
        ("c", json!({"active": false})),
        ("d", json!({"url": "http://10.0.0.1/"})),
        ("e", json!({"filter": {"condition": "level == 'x'"}})),
    ] {
        let mut endpoint = json!({"name": name, "url": "http://127.0.0.1:1024/", "filter": {}});
        let said = more.as_object().context("an object")?.clone();
        endpoint.as_object_mut().context("an object")?.extend(said);
        user.endpoint(&endpoint)?;
    }
    let expected = [
        ("a", true, ""),
        ("b", true, "the endpoint is paused"),
        ("c", false, "the endpoint is not active"),
        ("d", true, "`allowed_networks` of [dispatch]"),
        ("e", false, "condition"),
    ];
    let asked = json!({"explain": {"application": "a", "event_type": "e", "level": null}});
    let said = user.post("/explain", &asked)?.with(200)?;
    let lines = world
        .server
        .run(["explain", "--json", "-u", &number, "-a", "a", "-e", "e"])?;
    let lines: Vec<Value> = serde_json::from_str(&lines)?;
    for (place, (name, matches, reason)) in expected.into_iter().enumerate() {
        for shown in [&said.json["data"][place]["attributes"], &lines[place]] {
            ensure!(
                shown["name"] == name && shown["matches"] == matches,
                "{shown}"
            );
            let why = shown["reason"].as_str().unwrap_or_default();
            ensure!(
                why.contains(reason) && why.is_empty() == reason.is_empty(),
                "{shown}"
            );
        }
    }
    let table = world
        .server
        .run(["explain", "-u", &number, "-a", "a", "-e", "e"])?;
    ensure!(table.contains("not now: the endpoint is paused"), "{table}");
    Ok(())
}

fn the_json_of_an_event_is_explained(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    user.endpoint(
        &json!({"name": "a", "url": "http://127.0.0.1:1024/", "filter": {
        "condition": "event_type == 'MessageNew' && application == 'dovecot'"}}),
    )?;
    for (kind, matches) in [("MessageNew", true), ("MessageTrash", false)] {
        let event =
            json!({"user": number, "mailbox": "INBOX", "event": kind, "uidvalidity": 1, "uid": 7});
        let lines = world
            .server
            .run(["explain", "--json", &event.to_string()])?;
        let lines: Vec<Value> = serde_json::from_str(&lines)?;
        ensure!(
            lines.len() == 1 && lines[0]["matches"] == matches,
            "{kind}: {lines:?}"
        );
    }
    Ok(())
}

fn what_is_sent_is_explained_by_the_id_that_is_printed(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    user.endpoint(&fields(&sink, &json!({})))?;
    let said = world.server.run(["send", "-u", &number, "-m", "first"])?;
    let (_, id) = said.trim().rsplit_once(" id ").context("no id")?;
    let hooks = sink.wait_for(1, ARRIVAL)?;
    let webhook_id = hooks[0].header("webhook-id").context("no webhook-id")?;
    ensure!(
        webhook_id.contains(&id.replace('-', "")),
        "{webhook_id} and {id}"
    );
    let lines = world.server.run(["explain", "--json", id])?;
    let lines: Vec<Value> = serde_json::from_str(&lines)?;
    ensure!(lines.len() == 1 && lines[0]["matches"] == true, "{lines:?}");
    send(&world.server, &number, &["--message", "second"])?;
    let arrived = messages(&sink.wait_for(2, ARRIVAL)?)?;
    ensure!(arrived == ["first", "second"], "{arrived:?}");
    Ok(())
}

//! What one door can, the other can: each act through the REST API and through the commands gives
//! the same, and what belongs to another account is not there.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use crate::deliveries::account;
use crate::redelivery::{dead_letters, refused, webhook_id};
use crate::setup::{User, World, cases, text, unique};

cases![
    attempts_are_the_same_through_both_doors,
    dead_letters_are_the_same_through_both_doors_and_listed_in_parts,
    dead_letters_are_dropped_through_both_doors,
    an_explanation_is_the_same_through_both_doors,
    filters_in_words_are_the_same_through_both_doors,
    what_another_account_has_is_unknown_to_every_new_call,
    a_request_that_makes_no_sense_names_its_place,
    the_command_sets_and_removes_filters,
];

/// What a command prints with `--json`.
pub(crate) fn printed(world: &World, arguments: &[&str]) -> Result<Value> {
    let text = world.server.run([arguments, &["--json"]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
}

pub(crate) fn list(value: &Value) -> Result<&Vec<Value>> {
    value
        .as_array()
        .with_context(|| format!("no list: {value}"))
}

/// What the API lists.
pub(crate) fn data(user: &User<'_>, path: &str) -> Result<Vec<Value>> {
    let said = user.get(path)?.with(200)?;
    Ok(list(&said.json["data"])?.clone())
}

pub(crate) fn an_endpoint(user: &User<'_>, filter: &Value) -> Result<String> {
    user.endpoint(&json!({
        "name": unique("endpoint"), "url": "https://example.org/", "filter": filter}))
}

fn time_ms(attributes: &Value) -> Result<i64> {
    let time: jiff::Timestamp = text(&attributes["time"])?.parse()?;
    Ok(time.as_millisecond())
}

fn attempts_are_the_same_through_both_doors(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 2)?;
    let shown = data(&user, &format!("/endpoints/{id}/attempts"))?;
    let lines = printed(world, &["attempts", &id])?;
    let lines = list(&lines)?;
    ensure!(
        (shown.len(), lines.len()) == (2, 2),
        "{shown:#?} {lines:#?}"
    );
    for (shown, line) in shown.iter().zip(lines) {
        let attributes = &shown["attributes"];
        ensure!(shown["type"] == "attempt", "{shown:#}");
        for key in ["notification", "number", "delivered", "status", "said"] {
            ensure!(attributes[key] == line[key], "{key}: {shown:#} {line:#}");
        }
        ensure!(json!(time_ms(attributes)?) == line["time_ms"], "{shown:#}");
        ensure!(attributes["status"] == 404 && attributes["delivered"] == false);
        let notification = text(&attributes["notification"])?;
        ensure!(attributes["webhook_id"] == webhook_id(&notification, &id));
    }
    // The newest is the first.
    ensure!(shown[0]["attributes"]["notification"] == *letters[1]);
    let one = data(&user, &format!("/endpoints/{id}/attempts?limit=1"))?;
    ensure!(one == shown[..1], "{one:#?}");
    Ok(())
}

fn dead_letters_are_the_same_through_both_doors_and_listed_in_parts(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 3)?;
    let lines = printed(world, &["dead-letters", "--endpoint", &id])?;
    let lines = list(&lines)?;
    let path = format!("/endpoints/{id}/dead_letters");
    let shown = data(&user, &path)?;
    ensure!(
        (shown.len(), lines.len()) == (3, 3),
        "{shown:#?} {lines:#?}"
    );
    for ((shown, line), letter) in shown.iter().zip(lines).zip(letters.iter().rev()) {
        let attributes = &shown["attributes"];
        ensure!(shown["id"] == line["id"] && shown["type"] == "dead_letter");
        for key in ["notification", "attempts", "reason", "body"] {
            ensure!(attributes[key] == line[key], "{key}: {shown:#} {line:#}");
        }
        ensure!(json!(time_ms(attributes)?) == line["time_ms"], "{shown:#}");
        ensure!(
            attributes["webhook_id"] == webhook_id(letter, &id),
            "{shown:#}"
        );
        let body: Value = serde_json::from_str(&text(&attributes["body"])?)?;
        ensure!(
            body["application"] == "a" && body["message"].is_string(),
            "{body}"
        );
    }
    // By the links, one after the other, until there is no more.
    let (mut next, mut found) = (Some(format!("{path}?limit=2")), Vec::new());
    while let Some(path) = next {
        let said = user.get(&path)?.with(200)?;
        found.extend(list(&said.json["data"])?.clone());
        let link = said.json["links"]["next"].as_str();
        let place = link.and_then(|link| link.find("/endpoints/").map(|at| link[at..].to_owned()));
        next = place;
    }
    ensure!(found == shown, "{found:#?}");
    Ok(())
}

fn dead_letters_are_dropped_through_both_doors(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 5)?;
    let path = format!("/endpoints/{id}/dead_letters");
    let dropped = |query: &str| user.delete(&format!("{path}?{query}"));
    let said = dropped(&format!("notification={}", letters[0]))?.with(200)?;
    ensure!(said.json == json!({"meta": {"dropped": 1}}), "{said:?}");
    let gone = dropped(&format!("notification={}", letters[0]))?;
    gone.not_found("Could not find a dead letter with 'id'=")?;
    let by_name = webhook_id(&letters[1], &id);
    let said = world.server.run(["dead-letters", "drop", &id, &by_name])?;
    ensure!(said == "1 dead letter was dropped\n", "{said}");
    let again = world.server.run(["dead-letters", "drop", &id, &by_name]);
    let again = format!("{:?}", again.err().context("it is there again")?);
    ensure!(again.contains(&letters[1]), "{again}");
    let left = dead_letters(world, &id, 3)?;
    let newest_ms = left[0]["time_ms"].as_i64().context("no time")?;
    let since =
        |ms: i64| -> Result<String> { Ok(jiff::Timestamp::from_millisecond(ms)?.to_string()) };
    let said = dropped(&format!("since={}", since(newest_ms + 1)?))?.with(200)?;
    ensure!(said.json["meta"]["dropped"] == 0, "{said:?}");
    let of_newest = left
        .iter()
        .filter(|letter| letter["time_ms"] == newest_ms)
        .count();
    let said = dropped(&format!("since={}", since(newest_ms)?))?.with(200)?;
    ensure!(said.json["meta"]["dropped"] == of_newest, "{said:?}");
    let all = [
        "dead-letters",
        "drop",
        &id,
        "--since",
        "2026-01-01T00:00:00Z",
    ];
    let said = printed(world, &all)?;
    ensure!(said == json!({"dropped": 3 - of_newest}), "{said}");
    dead_letters(world, &id, 0)?;
    // What is dropped is not delivered any more.
    let redeliver = json!({"redeliver": {"since": "2026-01-01T00:00:00Z"}});
    let said = user.post(&format!("/endpoints/{id}/redeliver"), &redeliver)?;
    ensure!(said.with(202)?.json["meta"]["redelivered"] == 0);
    Ok(())
}

fn an_explanation_is_the_same_through_both_doors(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let app = world.app()?;
    let filters = [
        json!({"event_type_ids": [app.plain]}),
        json!({"event_type_ids": [app.graded]}),
        json!({"condition": "message.a == 1"}),
        json!({"condition": "message.a == 2"}),
        json!({"enabled": false}),
    ];
    for filter in &filters {
        an_endpoint(&user, filter)?;
    }
    user.endpoint(&json!({"name": unique("endpoint"), "url": "https://example.org/"}))?;
    let notification = json!({
        "application": app.name, "event_type": "plain", "level": null, "message": {"a": 1}});
    let said = user.post("/explain", &json!({"explain": notification}))?;
    let said = said.with(200)?;
    let shown = list(&said.json["data"])?;
    let lines = printed(
        world,
        &[
            "explain",
            "-u",
            &number,
            "-a",
            &app.name,
            "-e",
            "plain",
            "--message-json",
            r#"{"a":1}"#,
        ],
    )?;
    let lines = list(&lines)?;
    ensure!(
        (shown.len(), lines.len()) == (6, 6),
        "{shown:#?} {lines:#?}"
    );
    let mut matches = Vec::new();
    for (shown, line) in shown.iter().zip(lines) {
        let attributes = &shown["attributes"];
        ensure!(shown["id"] == line["endpoint"], "{shown:#} {line:#}");
        for key in ["name", "matches", "reason"] {
            ensure!(attributes[key] == line[key], "{key}: {shown:#} {line:#}");
        }
        matches.push(attributes["matches"] == true);
    }
    ensure!(
        matches == [true, false, true, false, false, false],
        "{shown:#?}"
    );
    let reason = &shown[5]["attributes"]["reason"];
    ensure!(*reason == "the endpoint has no filter", "{reason}");
    // Endpoints of others are not told of, whatever the filter says.
    let other = world.account();
    an_endpoint(&other, &json!({}))?;
    let said = other.post("/explain", &json!({"explain": notification}))?;
    let said = said.with(200)?;
    ensure!(list(&said.json["data"])?.len() == 1, "{said:?}");
    ensure!(said.json["data"][0]["attributes"]["matches"] == true);
    Ok(())
}

fn filters_in_words_are_the_same_through_both_doors(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let app = world.app()?;
    an_endpoint(&user, &json!({"app_ids": [app.id], "level_ids": [app.low]}))?;
    an_endpoint(&user, &json!({"condition": "message.a == 1"}))?;
    user.endpoint(&json!({"name": unique("endpoint"), "url": "https://example.org/"}))?;
    let shown = data(&user, "/filters")?;
    let lines = printed(world, &["filters", "--account-id", &number])?;
    let lines = list(&lines)?;
    ensure!(
        (shown.len(), lines.len()) == (3, 3),
        "{shown:#?} {lines:#?}"
    );
    for (shown, line) in shown.iter().zip(lines) {
        ensure!(shown["id"] == line["endpoint"], "{shown:#} {line:#}");
        for key in ["name", "active", "gets", "filter"] {
            let attribute = &shown["attributes"][key];
            ensure!(*attribute == line[key], "{key}: {shown:#} {line:#}");
        }
    }
    let name = &app.name;
    let gets: Vec<_> = shown.iter().map(|one| &one["attributes"]["gets"]).collect();
    ensure!(
        gets == [
            &json!(format!("application {name}, level {name}/graded/low")),
            &json!("condition message.a == 1"),
            &json!("nothing: the endpoint has no filter"),
        ],
        "{gets:#?}"
    );
    ensure!(data(&world.account(), "/filters")?.is_empty());
    Ok(())
}

fn what_another_account_has_is_unknown_to_every_new_call(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, letters) = refused(world, (&user, &number), &sink, 1)?;
    let other = world.account();
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let since = "since=2026-01-01T00:00:00Z";
    for (method, path) in [
        ("GET", "/attempts".to_owned()),
        ("GET", "/dead_letters".to_owned()),
        ("DELETE", format!("/dead_letters?{since}")),
        (
            "DELETE",
            format!("/dead_letters?notification={}", letters[0]),
        ),
    ] {
        let ask = |id: &str| other.ask(method, &format!("/endpoints/{id}{path}"), None);
        let (theirs, none) = (ask(&id)?, ask(unknown)?);
        ensure!(theirs.answer.status == 404, "{method} {path}: {theirs:?}");
        // Not one byte tells that there is something.
        let expected = none.answer.body.replace(unknown, &id);
        ensure!(theirs.answer.body == expected, "{theirs:?} {none:?}");
        theirs.not_found(&format!("Could not find Endpoint with 'id'={id}"))?;
    }
    ensure!(dead_letters(world, &id, 1)?[0]["notification"] == *letters[0]);
    // Whoever has no account has no endpoints.
    for path in [
        format!("/endpoints/{id}/attempts"),
        format!("/endpoints/{id}/dead_letters"),
        "/filters".to_owned(),
    ] {
        let said = world.admin().get(&path)?;
        said.refused(403, "This token belongs to no account", "")?;
        let nobody = world.nobody().get(&path)?;
        nobody.unauthenticated("`Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided")?;
    }
    Ok(())
}

fn a_request_that_makes_no_sense_names_its_place(world: &World) -> Result<()> {
    let user = world.account();
    let id = an_endpoint(&user, &json!({}))?;
    for (query, detail, place) in [
        ("limit=0", "`0` is not a number of at least 1", "limit"),
        ("before=x", "`x` is not the id of a dead letter", "before"),
    ] {
        let said = user.get(&format!("/endpoints/{id}/dead_letters?{query}"))?;
        said.refused(422, detail, place)?;
    }
    for (query, detail, place) in [
        (
            "",
            "either `notification` or `since` is required",
            "notification",
        ),
        ("since=today", "`today` is not an RFC 3339 time", "since"),
        (
            "notification=7",
            "`7` is neither the id of a notification nor",
            "notification",
        ),
        (
            "notification=7&since=x",
            "cannot be given together with",
            "since",
        ),
    ] {
        let said = user.delete(&format!("/endpoints/{id}/dead_letters?{query}"))?;
        said.refused(422, detail, place)?;
    }
    let explained = |notification: Value| user.post("/explain", &json!({"explain": notification}));
    for (name, value, detail) in [
        ("application", " ", "can't be blank"),
        ("event_type", "", "can't be blank"),
        ("timestamp", "noon", "is not an RFC 3339 time"),
    ] {
        let mut notification = json!({"application": "a", "event_type": "e", "level": null});
        notification[name] = value.into();
        explained(notification)?.refused(422, detail, &format!("/explain/{name}"))?;
    }
    explained(json!({"application": "a"}))?.refused(400, "missing field `event_type`", "")?;
    let more = json!({"application": "a", "event_type": "e", "levle": "x"});
    explained(more)?.refused(400, "unknown field `levle`", "")?;
    Ok(())
}

fn the_command_sets_and_removes_filters(world: &World) -> Result<()> {
    let user = world.account();
    let app = world.app()?;
    let name = &app.name;
    let id = user.endpoint(&json!({"name": unique("endpoint"), "url": "https://example.org/"}))?;
    let (graded, high) = (format!("{name}/graded"), format!("{name}/graded/high"));
    for (arguments, gets) in [
        (vec!["set", &id], "everything of the account".to_owned()),
        (
            vec!["change", &id, "--event-type", &graded, "--level", &high],
            format!("event type {graded}, level {high}"),
        ),
        (
            vec!["set", &id, "--condition", "message.a == 1"],
            format!("event type {graded}, level {high}, condition message.a == 1"),
        ),
        (
            vec!["set", &id, "--app", name, "--condition", ""],
            format!("application {name}"),
        ),
        (
            vec!["set", &id, "--enabled", "false"],
            "nothing: the filter is not enabled".to_owned(),
        ),
        (
            vec!["set", &id, "--anything", "--enabled", "true"],
            "everything of the account".to_owned(),
        ),
        (
            vec!["remove", &id],
            "nothing: the endpoint has no filter".to_owned(),
        ),
    ] {
        let said = printed(world, &[&["filters"][..], &arguments].concat())?;
        ensure!(said[0]["gets"] == *gets, "{arguments:?}: {said:#}");
        let shown = data(&user, "/filters")?;
        ensure!(shown[0]["attributes"]["gets"] == *gets, "{shown:#?}");
    }
    Ok(())
}

//! The commands that list applications and filters.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::deliveries::account;
use crate::setup::{World, cases, registration, unique};

cases![
    applications_are_listed_with_what_they_send,
    filters_are_told_in_words,
    a_topic_that_an_endpoint_owes_is_not_removed,
];

/// Places of the log that are owed, in order or as a range.
const OWED: &str = "(SELECT log, endpoint_id FROM owed WHERE log IS NOT NULL UNION SELECT log, endpoint_id FROM owed_range) AS all_owed";

fn applications_are_listed_with_what_they_send(world: &World) -> Result<()> {
    let app = world.app()?;
    let mut strange = registration(&unique("app"));
    strange["application"]["title"] = json!("A \u{1b}[31m title\nof lines");
    world.admin().post("/apps/register", &strange)?.with(200)?;
    let strange = &strange["application"]["name"];
    let table = world.server.run(["apps"])?;
    let of = |name: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines = table.lines().map(words);
        lines
            .filter(|line| line.starts_with(&format!("{name} ")))
            .collect()
    };
    let name = &app.name;
    ensure!(
        of(name)
            == [
                format!("{name} - - Title of {name}"),
                format!("{name} plain - Plain"),
                format!("{name} graded low high Graded"),
            ],
        "{table}"
    );
    let strange = strange.as_str().context("no text")?;
    let expected = format!("{strange} - - A \u{fffd}[31m title of lines");
    ensure!(of(strange)[0] == expected, "{table}");
    ensure!(
        of("dovecot")
            .iter()
            .any(|line| line == "dovecot MessageNew - MessageNew")
    );
    let json: Vec<Value> = serde_json::from_str(&world.server.run(["apps", "--json"])?)?;
    let found = json.iter().find(|found| found["name"] == **name);
    let found = found.context("it is not listed")?;
    let expected = json!({
        "id": app.id, "name": name, "title": format!("Title of {name}"),
        "event_types": [
            {"id": app.plain, "name": "plain", "title": "Plain", "levels": []},
            {"id": app.graded, "name": "graded", "title": "Graded", "levels": [
                {"id": app.low, "name": "low", "title": "Low"},
                {"id": app.high, "name": "high", "title": "High"}]}]});
    ensure!(*found == expected, "{found:#}");
    Ok(())
}

fn filters_are_told_in_words(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let app = world.app()?;
    let name = &app.name;
    let everything = "everything of the account".to_owned();
    let gone = "nothing: no event type of the filter is registered any more".to_owned();
    let plain = json!({"event_type_ids": [app.plain]});
    let all = json!({
        "app_ids": [app.id], "event_type_ids": [app.graded], "level_ids": [app.low, app.high],
        "condition": "message.a == 1 ||\n message.b"});
    let of_all = format!(
        "application {name}, event type {name}/graded, level {name}/graded/high or {name}/graded/low, \
         condition message.a == 1 || message.b"
    );
    let mut ids = Vec::new();
    for (change, expected) in [
        (json!({"filter": {}}), everything),
        (json!({"filter": plain}), gone),
        (json!({"filter": all}), of_all),
        (
            json!({"filter": {"enabled": false}}),
            "nothing: the filter is not enabled".to_owned(),
        ),
        (json!({}), "nothing: the endpoint has no filter".to_owned()),
        (
            json!({"active": false, "filter": {}}),
            "nothing: the endpoint is not active".to_owned(),
        ),
    ] {
        let mut made = json!({"name": unique("endpoint"), "url": "https://example.org/"});
        for (key, value) in change.as_object().context("no object")? {
            made[key] = value.clone();
        }
        ids.push((user.endpoint(&made)?, expected));
    }
    let mut removal = registration(name);
    removal["event_types"]
        .as_array_mut()
        .context("no list")?
        .remove(0);
    world.admin().post("/apps/register", &removal)?.with(200)?;
    let table = world.server.run(["filters", "--account-id", &number])?;
    ensure!(table.lines().count() == 1 + ids.len(), "{table}");
    for (id, expected) in &ids {
        let line = table.lines().find(|line| line.starts_with(id));
        let line = line.context("it is not listed")?;
        let words: Vec<_> = line.split_whitespace().collect();
        let gets = words.get(3..).unwrap_or_default().join(" ");
        ensure!(gets == *expected, "{gets}, not {expected}");
    }
    let (of_all, expected) = &ids[2];
    let one = world
        .server
        .run(["filters", "--json", "--endpoint", of_all])?;
    let one: Vec<Value> = serde_json::from_str(&one)?;
    let filter = &one[0]["filter"];
    ensure!(
        one.len() == 1 && filter["applications"] == json!([name]),
        "{one:#?}"
    );
    let event_type = json!([{"application": name, "event_type": "graded"}]);
    ensure!(filter["event_types"] == event_type, "{filter:#}");
    let levels = filter["levels"].as_array().context("no list")?;
    let low = json!({"application": name, "event_type": "graded", "level": "low"});
    ensure!(levels.len() == 2 && levels.contains(&low), "{filter:#}");
    let gets = one[0]["gets"].as_str().context("no text")?;
    ensure!(gets.replace('\n', "") == *expected, "{gets}");
    let open = &ids[0].0;
    let open = world
        .server
        .run(["filters", "--json", "--endpoint", open])?;
    let open: Vec<Value> = serde_json::from_str(&open)?;
    ensure!(open[0]["filter"]["levels"] == Value::Null, "{open:#?}");
    Ok(())
}

/// As after a topic has left `event_topics` while an endpoint still owed a part of it.
fn a_topic_that_an_endpoint_owes_is_not_removed(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let server = builder.start()?;
    let add = |name: &str| {
        let fields = ["endpoints", "add", "--account-id", "7", "--name", name];
        let more = ["--url", "http://example.org/", "--set", "paused=true"];
        let order = ["--set", "ordering=key", "--set", "filter={}"];
        server.run(fields.into_iter().chain(more).chain(order))
    };
    add("a")?;
    add("b")?;
    server.run(["send", "-u", "7"])?;
    let count = format!("SELECT COUNT(DISTINCT endpoint_id) FROM {OWED}");
    let owed = poll_until(PATIENCE, || {
        let owed = database.count(&server, &count).ok()?;
        (owed == 2).then_some(())
    });
    owed.context("nothing is owed")?;
    server.run(["send", "--topic", "old", "value"])?;
    let owe = format!(
        "INSERT INTO owed_range (log, endpoint_id, topic, part, start_offset, from_offset, to_offset) \
            SELECT DISTINCT log, endpoint_id, 'old', 3, 0, 0, 1 FROM {OWED}"
    );
    database.execute(&server, &owe)?;
    let remove = || server.run(["topics", "--remove", "old"]);
    let error = remove().err().context("it is removed")?.to_string();
    ensure!(
        error.contains("still to be delivered to 2 endpoint(s)"),
        "{error}"
    );
    database.execute(&server, "DELETE FROM owed_range WHERE topic = 'old'")?;
    remove()?;
    Ok(())
}

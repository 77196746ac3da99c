//! Filters: made, shown, replaced and taken away with their endpoint.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::setup::{App, User, World, cases, registration, text, unique};

cases![
    a_filter_is_made_and_shown_with_its_endpoint,
    a_change_of_a_filter_replaces_its_sets,
    what_says_nothing_about_the_sets_leaves_them,
    a_filter_that_is_destroyed_is_gone,
    an_endpoint_without_a_filter_has_none_to_show,
    a_filter_is_switched_on_and_off,
    a_condition_is_text_that_is_checked,
    an_unknown_member_is_refused_when_made_and_when_changed,
    a_set_has_a_thousand_members_at_most_each_once,
    a_misspelled_set_is_refused_and_opens_nothing,
    a_removal_never_widens_a_filter,
];

/// A new endpoint with a filter; its path.
fn made(user: &User<'_>, filter: &Value) -> Result<String> {
    let fields = json!({"name": "a", "url": "http://example.org/", "filter": filter});
    Ok(format!("/endpoints/{}", user.endpoint(&fields)?))
}

fn filter(user: &User<'_>, path: &str) -> Result<Value> {
    let said = user.get(&format!("{path}/filter"))?.with(200)?;
    Ok(said.json["data"].clone())
}

fn change(user: &User<'_>, path: &str, filter: &Value) -> Result<()> {
    let body = json!({"endpoint": {"filter": filter}});
    user.put(path, &body)?.with(200)?;
    Ok(())
}

/// How many members each set has: applications, event types, levels.
fn sizes(filter: &Value) -> [usize; 3] {
    ["apps", "event_types", "levels"].map(|set| {
        let data = &filter["relationships"][set]["data"];
        data.as_array().map_or(99, Vec::len)
    })
}

fn all(app: &App) -> Value {
    json!({"app_ids": [app.id], "event_type_ids": [app.plain, app.graded], "level_ids": [app.high]})
}

fn a_filter_is_made_and_shown_with_its_endpoint(world: &World) -> Result<()> {
    let (user, app) = (world.account(), world.app()?);
    let path = made(&user, &all(&app))?;
    let shown = filter(&user, &path)?;
    let id = text(&shown["id"])?;
    let endpoint = path.rsplit('/').next().context("no id")?;
    let expected = json!({
        "id": id, "type": "filter",
        "attributes": {"enabled": true, "condition": null, "stale": []},
        "relationships": {
            "apps": {"data": [{"id": app.id, "type": "app"}]},
            "event_types": {"data": [
                {"id": app.plain, "type": "event_type"}, {"id": app.graded, "type": "event_type"}]},
            "levels": {"data": [{"id": app.high, "type": "level"}]},
            "endpoint": {"data": {"id": endpoint, "type": "endpoint"}}}});
    ensure!(shown == expected, "{shown:#}");
    Ok(())
}

fn a_change_of_a_filter_replaces_its_sets(world: &World) -> Result<()> {
    let (user, app) = (world.account(), world.app()?);
    let path = made(&user, &all(&app))?;
    let before = filter(&user, &path)?;
    for (put, expected) in [
        (
            json!({"app_ids": [], "event_type_ids": [app.plain], "level_ids": [app.low, app.high]}),
            [0, 1, 2],
        ),
        (json!({"event_type_ids": [app.graded]}), [0, 1, 0]),
        (json!({"app_ids": [app.id, app.id]}), [1, 0, 0]),
        (json!({"level_ids": []}), [0, 0, 0]),
    ] {
        change(&user, &path, &put)?;
        let after = filter(&user, &path)?;
        ensure!(sizes(&after) == expected, "{put}: {after:#}");
        // There is one, and it stays the same one.
        ensure!(after["id"] == before["id"] && after["attributes"]["stale"] == json!([]));
    }
    Ok(())
}

fn what_says_nothing_about_the_sets_leaves_them(world: &World) -> Result<()> {
    let (user, app) = (world.account(), world.app()?);
    let path = made(&user, &all(&app))?;
    for put in [
        json!({}),
        json!({"enabled": false}),
        json!({"condition": null}),
    ] {
        change(&user, &path, &put)?;
        ensure!(sizes(&filter(&user, &path)?) == [1, 2, 1], "{put}");
    }
    user.put(&path, &json!({"endpoint": {"name": "b"}}))?
        .with(200)?;
    ensure!(sizes(&filter(&user, &path)?) == [1, 2, 1]);
    Ok(())
}

fn a_filter_that_is_destroyed_is_gone(world: &World) -> Result<()> {
    let (user, app) = (world.account(), world.app()?);
    let path = made(&user, &all(&app))?;
    change(&user, &path, &json!({"_destroy": false}))?;
    ensure!(sizes(&filter(&user, &path)?) == [1, 2, 1]);
    for _ in 0..2 {
        change(&user, &path, &json!({"_destroy": true}))?;
        user.get(&format!("{path}/filter"))?
            .not_found("Could not find Filter")?;
    }
    user.get(&path)?.with(200)?;
    change(&user, &path, &all(&app))?;
    ensure!(sizes(&filter(&user, &path)?) == [1, 2, 1]);
    Ok(())
}

fn an_endpoint_without_a_filter_has_none_to_show(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "http://example.org/"}))?;
    for id in [&*id, "00000000-0000-0000-0000-000000000000", "7"] {
        user.get(&format!("/endpoints/{id}/filter"))?
            .not_found("Could not find Filter")?;
    }
    Ok(())
}

fn a_filter_is_switched_on_and_off(world: &World) -> Result<()> {
    let user = world.account();
    let path = made(&user, &json!({"enabled": false}))?;
    for enabled in [false, true, false] {
        change(&user, &path, &json!({"enabled": enabled}))?;
        ensure!(filter(&user, &path)?["attributes"]["enabled"] == enabled);
    }
    Ok(())
}

fn a_condition_is_text_that_is_checked(world: &World) -> Result<()> {
    let user = world.account();
    let text = "message.mailbox == \"INBOX\"";
    let path = made(&user, &json!({"condition": text}))?;
    ensure!(filter(&user, &path)?["attributes"]["condition"] == text);
    for (condition, detail) in [
        (String::new(), "is not a condition: "),
        (" \n".to_owned(), "is not a condition: "),
        (
            "a".repeat(100_000),
            "100000 characters are more than 2000 (line 1, column 2001)",
        ),
        (
            "true &&\n mesage.uid == 1".to_owned(),
            "unknown name `mesage`",
        ),
        ("message.uid ==".to_owned(), "(line 1, column 15)"),
    ] {
        let body = json!({"endpoint": {"filter": {"condition": condition}}});
        let place = "/data/attributes/filter/condition";
        user.put(&path, &body)?.refused(422, detail, place)?;
    }
    ensure!(filter(&user, &path)?["attributes"]["condition"] == text);
    change(&user, &path, &json!({"condition": null}))?;
    ensure!(filter(&user, &path)?["attributes"]["condition"] == Value::Null);
    Ok(())
}

fn a_misspelled_set_is_refused_and_opens_nothing(world: &World) -> Result<()> {
    let user = world.account();
    let filter = json!({"event_type": ["x"], "id": "as it was shown"});
    let made = json!({"name": "a", "url": "https://example.org/", "filter": filter});
    let place = "/data/attributes/filter/event_type";
    let detail = "is not an attribute of a filter";
    user.post("/endpoints", &json!({"endpoint": made}))?
        .refused(422, detail, place)?;
    let id = user.endpoint(&json!({"name": "a", "url": "https://example.org/"}))?;
    user.put(
        &format!("/endpoints/{id}"),
        &json!({"endpoint": {"filter": filter}}),
    )?
    .refused(422, detail, place)?;
    user.get(&format!("/endpoints/{id}/filter"))?.with(404)?;
    Ok(())
}

fn an_unknown_member_is_refused_when_made_and_when_changed(world: &World) -> Result<()> {
    let (user, app) = (world.account(), world.app()?);
    let path = made(&user, &all(&app))?;
    let nothing = "00000000-0000-0000-0000-000000000000";
    for (set, wrong, what, relation) in [
        ("app_ids", json!(nothing), "App", "apps"),
        ("app_ids", json!("not an id"), "App", "apps"),
        ("app_ids", json!(app.plain), "App", "apps"),
        ("event_type_ids", json!(app.id), "EventType", "event_types"),
        ("event_type_ids", json!(7), "EventType", "event_types"),
        ("level_ids", json!(nothing), "Level", "levels"),
    ] {
        let put = json!({(set): [wrong]});
        let fields = json!({"name": "b", "url": "http://example.org/", "filter": put});
        let detail = format!("Could not find {what} with 'id'=");
        let place = format!("/data/relationships/filter/{relation}");
        user.post("/endpoints", &json!({"endpoint": fields}))?
            .refused(422, &detail, &place)?;
        user.put(&path, &json!({"endpoint": {"name": "c", "filter": put}}))?
            .refused(422, &detail, &place)?;
    }
    // Nothing of a refused request is done.
    ensure!(user.names("")? == ["a"]);
    ensure!(sizes(&filter(&user, &path)?) == [1, 2, 1]);
    Ok(())
}

fn a_set_has_a_thousand_members_at_most_each_once(world: &World) -> Result<()> {
    let (user, name) = (world.account(), unique("wide"));
    let mut body = registration(&name);
    body["event_types"] = (0..1001)
        .map(|number| json!({"id": format!("type-{number}"), "title": "One"}))
        .collect();
    let said = world.admin().post("/apps/register", &body)?.with(200)?;
    let included = said.json["included"].as_array().context("no list")?;
    let ids: Vec<&Value> = included.iter().map(|one| &one["id"]).collect();
    ensure!(ids.len() == 1001);
    let path = made(&user, &json!({"event_type_ids": ids[..1000]}))?;
    let put = |ids: &[&Value]| {
        let body = json!({"endpoint": {"filter": {"event_type_ids": ids}}});
        user.put(&path, &body)
    };
    let place = "/data/relationships/filter/event_types";
    put(&ids)?.refused(422, "are too many (maximum is 1000)", place)?;
    // One that does not exist is found among those that do, wherever it stands.
    let nothing = json!("00000000-0000-0000-0000-000000000000");
    for place_of_it in [0, 499, 500, 999] {
        let mut wrong = ids[..1000].to_vec();
        wrong[place_of_it] = &nothing;
        let detail = "Could not find EventType with 'id'=00000000-0000-0000-0000-000000000000";
        put(&wrong)?.refused(422, detail, place)?;
    }
    // Nothing of what was refused is done.
    let shown = filter(&user, &path)?;
    ensure!(sizes(&shown) == [0, 1000, 0], "{shown}");
    let data = shown["relationships"]["event_types"]["data"].as_array();
    let members = data.context("no list")?.iter().map(|one| &one["id"]);
    ensure!(members.eq(ids[..1000].iter().copied()), "{shown}");
    // What is there twice is one.
    put(&vec![ids[1000]; 20_000])?.with(200)?;
    ensure!(sizes(&filter(&user, &path)?) == [0, 1, 0]);
    Ok(())
}

fn a_removal_never_widens_a_filter(world: &World) -> Result<()> {
    let (user, app) = (world.account(), world.app()?);
    let sets = json!({"event_type_ids": [app.plain], "level_ids": [app.low, app.high]});
    let path = made(&user, &sets)?;
    let register = |event_types: Value| -> Result<()> {
        let mut body = registration(&app.name);
        body["event_types"] = event_types;
        world.admin().post("/apps/register", &body)?.with(200)?;
        Ok(())
    };
    let graded = |levels: Value| json!({"id": "graded", "title": "Graded", "levels": levels});
    register(json!([graded(json!([{"id": "low", "title": "Low"}]))]))?;
    let shown = filter(&user, &path)?;
    ensure!(sizes(&shown) == [0, 0, 1], "{shown:#}");
    ensure!(
        shown["attributes"]["stale"] == json!(["event_types"]),
        "{shown:#}"
    );
    register(json!([graded(json!([]))]))?;
    let stale = json!(["event_types", "levels"]);
    ensure!(filter(&user, &path)?["attributes"]["stale"] == stale);
    change(&user, &path, &json!({"enabled": true}))?;
    ensure!(filter(&user, &path)?["attributes"]["stale"] == stale);
    // Other names are nothing that was chosen; the same ones are, though they are new.
    register(json!([{"id": "other", "title": "Other"}]))?;
    ensure!(filter(&user, &path)?["attributes"]["stale"] == stale);
    let again = world
        .admin()
        .post("/apps/register", &registration(&app.name))?;
    ensure!(App::of(&again.with(200)?)?.plain != app.plain);
    let shown = filter(&user, &path)?;
    ensure!(shown["attributes"]["stale"] == json!([]), "{shown:#}");
    ensure!(sizes(&shown) == [0, 1, 2], "{shown:#}");
    // What a person has set since stays so.
    register(json!([graded(json!([]))]))?;
    change(&user, &path, &json!({"event_type_ids": []}))?;
    ensure!(filter(&user, &path)?["attributes"]["stale"] == json!([]));
    register(registration(&app.name)["event_types"].clone())?;
    ensure!(sizes(&filter(&user, &path)?) == [0, 0, 0]);
    Ok(())
}

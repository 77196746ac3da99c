//! `POST /apps/register`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::setup::{App, Said, World, bearer, cases, identity, registration, text, unique};

cases![
    an_application_is_registered_in_json,
    an_application_is_registered_in_yaml,
    a_request_with_an_identity_is_forbidden,
    only_an_admin_or_registration_token_registers,
    an_application_is_found_by_name_and_its_title_updated,
    known_things_keep_their_ids_and_unlisted_ones_go,
    the_order_of_the_list_is_kept_and_shown,
    levels_may_be_a_list_or_an_empty_object_or_absent_every_time,
    what_is_wrong_is_named_and_nothing_is_done,
    a_dry_run_tells_what_would_change_and_does_nothing,
    ids_that_are_numbers_are_texts,
    aliases_that_multiply_are_refused,
    registrations_at_once_are_one_after_the_other,
];

fn register(world: &World, body: &Value) -> Result<Said> {
    world.admin().post("/apps/register", body)
}

/// `plain[] graded[low high]`
pub(crate) fn shape(said: &Said) -> String {
    let all = said.json["included"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let name = |id: &Value| {
        let found = all.iter().find(|one| one["id"] == *id);
        found.map_or(Value::Null, |one| one["attributes"]["name"].clone())
    };
    let names = |data: &Value, levels: bool| -> String {
        let list = data["data"].as_array().cloned().unwrap_or_default();
        let shown = list.iter().map(|link| {
            let own = name(&link["id"]).as_str().unwrap_or("?").to_owned();
            if levels {
                return own;
            }
            let found = all.iter().find(|one| one["id"] == link["id"]);
            let levels = found.map(|one| &one["relationships"]["levels"]["data"]);
            let levels = levels
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            let levels: Vec<_> = levels
                .iter()
                .map(|level| name(&level["id"]).as_str().unwrap_or("?").to_owned())
                .collect();
            format!("{own}[{}]", levels.join(" "))
        });
        shown.collect::<Vec<_>>().join(" ")
    };
    names(&said.json["data"]["relationships"]["event_types"], false)
}

fn an_application_is_registered_in_json(world: &World) -> Result<()> {
    let name = unique("app");
    for media_type in [
        "application/json",
        "application/vnd.api+json; charset=utf-8",
    ] {
        let user = world.admin().header("Content-Type", media_type);
        let said = user
            .post("/apps/register", &registration(&name))?
            .with(200)?;
        ensure!(said.json["data"]["type"] == "app");
        ensure!(said.json["data"]["attributes"]["name"] == *name);
        ensure!(
            shape(&said) == "plain[] graded[low high]",
            "{}",
            shape(&said)
        );
    }
    Ok(())
}

fn an_application_is_registered_in_yaml(world: &World) -> Result<()> {
    let name = unique("app");
    let yaml = format!(
        "---\napplication:\n  name: {name}\n  title: The title\nevent_types:\n  - id: first\n    title: First\n    \
         levels: {{}} # This event type has no levels\n  - id: second\n    title: Second\n    levels:\n      \
         - id: low\n        title: Low\n      - id: high\n        title: High\n"
    );
    for media_type in [
        "application/yaml",
        "application/x-yaml",
        "text/yaml; charset=utf-8",
        "text/x-yaml",
    ] {
        let user = world.admin().header("Content-Type", media_type);
        let said = user.ask("POST", "/apps/register", Some(&yaml))?.with(200)?;
        ensure!(
            shape(&said) == "first[] second[low high]",
            "{}",
            shape(&said)
        );
    }
    let user = world.admin().header("Content-Type", "application/yaml");
    user.ask("POST", "/apps/register", Some("a: [b"))?
        .refused(400, "the body is not YAML", "")?;
    let user = world.admin().header("Content-Type", "text/plain");
    user.ask("POST", "/apps/register", Some(&yaml))?
        .refused(415, "text/plain", "")
}

fn a_request_with_an_identity_is_forbidden(world: &World) -> Result<()> {
    let body = registration(&unique("app"));
    let text = "Requests with X-RH-IDENTITY are not allowed to register apps.";
    for user in [
        world.account(),
        world.admin().header("X-RH-IDENTITY", &identity("1")),
        world.strict_admin().header("X-RH-IDENTITY", &identity("1")),
    ] {
        user.post("/apps/register", &body)?.refused(403, text, "")?;
    }
    Ok(())
}

fn only_an_admin_or_registration_token_registers(world: &World) -> Result<()> {
    let body = registration(&unique("app"));
    world
        .nobody()
        .post("/apps/register", &body)?
        .unauthenticated("`Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided")?;
    let token = |fields: Value| -> Result<String> {
        let said = world.admin().post("/tokens", &json!({"token": fields}))?;
        text(&said.with(201)?.json["meta"]["token"])
    };
    let account = token(json!({"name": "x", "account_number": unique("account")}))?;
    bearer(&world.server, &account)
        .post("/apps/register", &body)?
        .refused(403, "admin token or a registration token", "")?;
    let registrar = token(json!({"name": "x", "scope": "registration"}))?;
    bearer(&world.server, &registrar)
        .post("/apps/register", &body)?
        .with(200)?;
    register(world, &body)?.with(200)?;
    Ok(())
}

fn an_application_is_found_by_name_and_its_title_updated(world: &World) -> Result<()> {
    let app = world.app()?;
    let mut body = registration(&app.name);
    body["application"]["title"] = json!("Another title");
    let said = register(world, &body)?.with(200)?;
    ensure!(said.json["data"]["id"] == *app.id);
    ensure!(said.json["data"]["attributes"] == json!({"name": app.name, "title": "Another title"}));
    ensure!(App::of(&said)?.high == app.high);
    Ok(())
}

fn known_things_keep_their_ids_and_unlisted_ones_go(world: &World) -> Result<()> {
    let app = world.app()?;
    let mut body = registration(&app.name);
    body["event_types"] = json!([
        {"id": "graded", "title": "New title", "levels": [
            {"id": "high", "title": "Highest"}, {"id": "middle", "title": "Middle"}]},
        {"id": "new", "title": "New"}]);
    let said = register(world, &body)?.with(200)?;
    ensure!(
        shape(&said) == "graded[high middle] new[]",
        "{}",
        shape(&said)
    );
    let included = said.json["included"].as_array().context("no list")?;
    let title = |id: &str| {
        let found = included.iter().find(|one| one["id"] == id);
        found.map(|one| one["attributes"]["title"].clone())
    };
    ensure!(title(&app.graded) == Some(json!("New title")));
    ensure!(title(&app.high) == Some(json!("Highest")));
    ensure!(title(&app.low).is_none() && title(&app.plain).is_none());
    let shown = world
        .account()
        .get(&format!("/apps/{}", app.id))?
        .with(200)?;
    ensure!(shown.json["included"] == said.json["included"]);
    Ok(())
}

fn the_order_of_the_list_is_kept_and_shown(world: &World) -> Result<()> {
    let name = unique("app");
    for order in [["z", "a", "m"], ["m", "z", "a"], ["a", "m", "z"]] {
        let levels = json!(order.map(|id| json!({"id": id, "title": id})));
        let mut body = registration(&name);
        body["event_types"] =
            json!(order.map(|id| json!({"id": id, "title": id, "levels": levels})));
        let said = register(world, &body)?.with(200)?;
        let inner = order.join(" ");
        let expected = order.map(|id| format!("{id}[{inner}]")).join(" ");
        ensure!(shape(&said) == expected, "{}", shape(&said));
    }
    Ok(())
}

fn levels_may_be_a_list_or_an_empty_object_or_absent_every_time(world: &World) -> Result<()> {
    let name = unique("app");
    for levels in [json!({}), json!({}), json!([]), Value::Null, json!({})] {
        let mut body = registration(&name);
        body["event_types"] = json!([{"id": "one", "title": "One", "levels": levels}]);
        let said = register(world, &body)?.with(200)?;
        ensure!(shape(&said) == "one[]", "{}", shape(&said));
        body["event_types"] = json!([{"id": "one", "title": "One"}]);
        register(world, &body)?.with(200)?;
    }
    Ok(())
}

fn what_is_wrong_is_named_and_nothing_is_done(world: &World) -> Result<()> {
    let app = world.app()?;
    let one = |fields: Value| json!([fields]);
    let twice = json!({"id": "x", "title": "X"});
    for (key, value, place, detail) in [
        ("event_types", Value::Null, "/event_types", "can't be blank"),
        (
            "event_types",
            json!({"id": "x"}),
            "/event_types",
            "is not an array",
        ),
        (
            "event_types",
            json!([twice, twice]),
            "/event_types/1/id",
            "`x` is there more than once",
        ),
        (
            "event_types",
            json!(["x"]),
            "/event_types/0",
            "is not an object",
        ),
        (
            "event_types",
            one(json!({"id": "x", "title": " "})),
            "/event_types/0/title",
            "can't be blank",
        ),
        (
            "event_types",
            one(json!({"title": "X"})),
            "/event_types/0/id",
            "can't be blank",
        ),
        (
            "event_types",
            one(json!({"id": ["x"], "title": "X"})),
            "/event_types/0/id",
            "is not a string",
        ),
        (
            "event_types",
            one(json!({"id": "x", "title": "X", "levels": [twice, twice]})),
            "/event_types/0/levels/1/id",
            "`x` is there more than once",
        ),
        (
            "event_types",
            one(json!({"id": "x", "title": "X", "levels": [{"id": "l"}]})),
            "/event_types/0/levels/0/title",
            "can't be blank",
        ),
        (
            "event_types",
            one(json!({"id": "x", "title": "X", "levels": {"id": "l"}})),
            "/event_types/0/levels",
            "is not an array",
        ),
        (
            "application",
            json!({"name": app.name, "title": ""}),
            "/application/title",
            "can't be blank",
        ),
        (
            "application",
            json!({"title": "T"}),
            "/application/name",
            "can't be blank",
        ),
    ] {
        let mut body = registration(&app.name);
        body[key] = value;
        register(world, &body)?.refused(422, detail, place)?;
    }
    let mut body = registration(&app.name);
    body.as_object_mut()
        .context("no object")?
        .remove("event_types");
    register(world, &body)?.refused(422, "can't be blank", "/event_types")?;
    for body in [
        json!({}),
        json!([]),
        json!({"application": "x", "event_types": []}),
    ] {
        register(world, &body)?.refused(400, "Server cannot accept given parameters", "")?;
    }
    let shown = world
        .account()
        .get(&format!("/apps/{}", app.id))?
        .with(200)?;
    ensure!(shape(&shown) == "plain[] graded[low high]");
    Ok(())
}

fn a_dry_run_tells_what_would_change_and_does_nothing(world: &World) -> Result<()> {
    let (app, user) = (world.app()?, world.account());
    let filter = json!({"event_type_ids": [app.plain], "level_ids": [app.low, app.high]});
    let fields = json!({"name": "a", "url": "http://example.org/", "filter": filter});
    let endpoint = user.endpoint(&fields)?;
    let mut body = registration(&app.name);
    body["event_types"] = json!([
        {"id": "graded", "title": "Graded!", "levels": [{"id": "high", "title": "High"}]},
        {"id": "new", "title": "New", "levels": [{"id": "x", "title": "X"}]}]);
    let dry = world
        .admin()
        .post("/apps/register?dry_run=true", &body)?
        .with(200)?;
    let expected = json!([
        {"change": "removed", "type": "event_type", "event_type": "plain"},
        {"change": "removed", "type": "level", "event_type": "graded", "level": "low"},
        {"change": "retitled", "type": "event_type", "event_type": "graded"},
        {"change": "added", "type": "event_type", "event_type": "new"},
        {"change": "added", "type": "level", "event_type": "new", "level": "x"}]);
    ensure!(dry.json["meta"]["dry_run"] == true);
    ensure!(
        dry.json["meta"]["changes"] == expected,
        "{:#}",
        dry.json["meta"]
    );
    let filters = dry.json["meta"]["filters"].as_array().context("no list")?;
    ensure!(filters.len() == 1 && filters[0]["endpoint_id"] == *endpoint);
    ensure!(
        filters[0]["becomes_stale"] == json!(["event_types"]),
        "{filters:?}"
    );
    let shown = user.get(&format!("/apps/{}", app.id))?.with(200)?;
    ensure!(
        shape(&shown) == "plain[] graded[low high]",
        "{}",
        shape(&shown)
    );
    let done = register(world, &body)?.with(200)?;
    ensure!(done.json["meta"]["dry_run"] == false);
    ensure!(done.json["meta"]["changes"] == expected && shape(&done) == "graded[high] new[x]");
    let said = world
        .admin()
        .post("/apps/register?dry_run=perhaps", &body)?;
    said.refused(422, "`perhaps` is neither", "dry_run")
}

fn ids_that_are_numbers_are_texts(world: &World) -> Result<()> {
    let name = unique("app");
    let yaml = format!(
        "application: {{name: {name}, title: T}}\nevent_types:\n  - {{id: 7, title: 7, levels: [{{id: 1, title: 1}}]}}\n"
    );
    let user = world.admin().header("Content-Type", "application/yaml");
    let said = user.ask("POST", "/apps/register", Some(&yaml))?.with(200)?;
    ensure!(shape(&said) == "7[1]", "{}", shape(&said));
    Ok(())
}

fn aliases_that_multiply_are_refused(world: &World) -> Result<()> {
    let mut yaml = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, of) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        let list = [format!("*{of}"); 1].concat();
        yaml.push_str(&format_args!("{name}: &{name} [{}]\n", [&*list; 10].join(",")).to_string());
    }
    let user = world.admin().header("Content-Type", "application/yaml");
    user.ask("POST", "/apps/register", Some(&yaml))?
        .refused(400, "the body is not YAML", "")
}

fn registrations_at_once_are_one_after_the_other(world: &World) -> Result<()> {
    let name = unique("app");
    let shapes: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6)
            .map(|number| {
                let mut body = registration(&name);
                let levels = json!([{"id": format!("l{number}"), "title": "L"}]);
                body["event_types"] = json!([{"id": "one", "title": "One", "levels": levels}]);
                scope.spawn(move || register(world, &body)?.with(200))
            })
            .collect();
        asking
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut ids = Vec::new();
    for (number, said) in shapes.into_iter().enumerate() {
        let said = said.map_err(|_| anyhow::anyhow!("it panicked"))??;
        // Each sees what it has registered itself, and nothing of the others.
        ensure!(
            shape(&said) == format!("one[l{number}]"),
            "{}",
            shape(&said)
        );
        ids.push(said.json["data"]["id"].clone());
    }
    ids.dedup();
    ensure!(ids.len() == 1, "{ids:?}");
    Ok(())
}

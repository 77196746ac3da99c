//! Forms of requests and answers beside those of hooks-backend: `PATCH`, JSON:API's own bodies, and
//! what the description of the API says of them.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::setup::{World, cases, registration, text, unique};

cases![
    a_patch_changes_what_a_put_changes,
    bodies_may_have_the_form_of_json_api,
    a_body_of_json_api_of_another_type_is_refused,
    a_misspelled_key_of_data_is_refused_and_another_one_is_dropped,
    every_door_passes_over_a_byte_order_mark,
    each_included_resource_is_of_one_described_kind,
    every_call_describes_what_any_request_may_get,
];

fn a_patch_changes_what_a_put_changes(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "http://127.0.0.1:1024/", "filter": {}}))?;
    let path = format!("/endpoints/{id}");
    let change = json!({"endpoint": {"name": "b", "paused": true}}).to_string();
    let changed = user.ask("PATCH", &path, Some(&change))?.with(200)?;
    let attributes = &changed.json["data"]["attributes"];
    ensure!(
        attributes["name"] == "b" && attributes["paused"] == true,
        "{changed:?}"
    );
    ensure!(user.get(&path)?.with(200)?.json == changed.json);
    world
        .nobody()
        .ask("PATCH", &path, Some(&change))?
        .with(401)?;
    let other = world.account();
    other
        .ask("PATCH", &path, Some(&change))?
        .not_found("Could not find Endpoint")?;

    let body = json!({"token": {"name": "t", "scope": "admin"}});
    let made = world.admin().post("/tokens", &body)?.with(201)?;
    let path = format!("/tokens/{}", text(&made.json["data"]["id"])?);
    let change = json!({"token": {"name": "u"}}).to_string();
    let changed = world
        .admin()
        .ask("PATCH", &path, Some(&change))?
        .with(200)?;
    ensure!(
        changed.json["data"]["attributes"]["name"] == "u",
        "{changed:?}"
    );
    user.ask("PATCH", &path, Some(&change))?.with(403)?;
    // What can be changed by the one can be changed by the other.
    let described = world.nobody().get("/v1/openapi.json")?;
    let paths = described.json["paths"].as_object().context("no paths")?;
    for (path, calls) in paths {
        ensure!(
            calls.get("put").is_some() == calls.get("patch").is_some(),
            "{path}"
        );
    }
    Ok(())
}

fn bodies_may_have_the_form_of_json_api(world: &World) -> Result<()> {
    let user = world.account();
    let attributes = json!({"name": "a", "url": "http://127.0.0.1:1024/", "filter": {}});
    let body = json!({"data": {"type": "endpoint", "attributes": attributes}});
    let made = user.post("/endpoints", &body)?.with(201)?;
    let id = text(&made.json["data"]["id"])?;
    let body = json!({"data": {"type": "endpoint", "id": id, "attributes": {"name": "b"}}});
    let changed = user.put(&format!("/endpoints/{id}"), &body)?.with(200)?;
    ensure!(
        changed.json["data"]["attributes"]["name"] == "b",
        "{changed:?}"
    );
    let body = json!({"data": {"type": "token", "attributes": {"name": "t", "scope": "admin"}}});
    world.admin().post("/tokens", &body)?.with(201)?;
    Ok(())
}

fn a_body_of_json_api_of_another_type_is_refused(world: &World) -> Result<()> {
    let user = world.account();
    for (data, expected) in [
        (
            json!({"type": "app", "attributes": {}}),
            "`data.type` is not `endpoint`",
        ),
        (json!({"attributes": {}}), "`data.type` is not `endpoint`"),
        (json!({"type": "endpoint"}), "`data.attributes` is missing"),
        (json!([]), "`endpoint` is missing"),
    ] {
        let said = user.post("/endpoints", &json!({"data": data}))?;
        said.refused(400, expected, "")?;
    }
    Ok(())
}

fn a_misspelled_key_of_data_is_refused_and_another_one_is_dropped(world: &World) -> Result<()> {
    let user = world.account();
    let id = user.endpoint(&json!({"name": "a", "url": "http://127.0.0.1:1024/"}))?;
    let path = format!("/endpoints/{id}");
    let change = |key: &str| {
        let mut data = json!({"headers": {"x-a": "1"}});
        data[key] = json!("geheim");
        user.put(&path, &json!({"endpoint": {"data": data}}))
    };
    for (key, meant) in [
        ("authorisation", "authorization"),
        ("Authorization", "authorization"),
        ("header", "headers"),
        ("serverCaCertificate", "server_ca_certificate"),
        ("parametres", "parameters"),
    ] {
        let said = change(key)?;
        ensure!(!said.answer.body.contains("geheim"), "{said:?}");
        let detail = format!("is not known; did you mean `{meant}`? Known are `authorization`, ");
        let place = format!("/data/attributes/data/{key}");
        said.refused(422, &detail, &place)?;
    }
    // Clients of hooks-backend may have others.
    for key in ["anything", "client_certificate", "description"] {
        change(key)?.with(200)?;
    }
    Ok(())
}

/// Editors of Windows write the mark; each request with a body is here.
fn every_door_passes_over_a_byte_order_mark(world: &World) -> Result<()> {
    let user = world.account();
    let endpoint = json!({"name": "a", "url": "http://127.0.0.1:1024/", "filter": {}});
    let id = user.endpoint(&endpoint)?;
    let said = world.admin().post(
        "/tokens",
        &json!({"token": {"name": "t", "scope": "registration"}}),
    )?;
    let token = text(&said.with(201)?.json["data"]["id"])?;
    let notification = json!({
        "application": "a", "event_type": "e", "level": null, "message": 1});
    let mut message = notification.clone();
    message["account_id"] = json!(unique("account"));
    let app = registration(&unique("app"));
    let since = json!({"redeliver": {"since": "2026-01-01T00:00:00Z"}});
    let other = json!({"endpoint": {
        "name": "b", "url": "http://127.0.0.1:1024/", "filter": {}}});
    let change = json!({"endpoint": {"name": "a"}});
    let (path, admin) = (format!("/endpoints/{id}"), world.admin());
    for (who, method, path, body) in [
        (&user, "POST", "/endpoints", &other),
        (&user, "PUT", &path, &change),
        (&user, "PATCH", &path, &change),
        (&user, "POST", &format!("{path}/redeliver"), &since),
        (
            &user,
            "POST",
            &format!("{path}/render"),
            &json!({"render": {"notification": notification}}),
        ),
        (&user, "POST", "/explain", &json!({"explain": notification})),
        (&admin, "POST", "/messages", &message),
        (&admin, "POST", "/messages", &json!([message])),
        (&admin, "POST", "/apps/register", &app),
        (
            &admin,
            "POST",
            "/tokens",
            &json!({"token": {"name": "t", "scope": "admin"}}),
        ),
        (
            &admin,
            "PUT",
            &format!("/tokens/{token}"),
            &json!({"token": {"name": "u"}}),
        ),
    ] {
        let said = who.ask(method, path, Some(&format!("\u{feff}{body}")))?;
        let is_taken = (200..300).contains(&said.answer.status);
        ensure!(is_taken, "{method} {path} {body}: {said:?}");
        // One is passed over, and no other.
        let said = who.ask(method, path, Some(&format!("\u{feff}\u{feff}{body}")))?;
        ensure!(said.answer.status == 400, "{method} {path}: {said:?}");
    }
    let registering = world.admin().header("Content-Type", "application/yaml");
    let app = format!("\u{feff}{}", registration(&unique("app")));
    registering
        .ask("POST", "/apps/register", Some(&app))?
        .with(200)?;
    Ok(())
}

/// The description, with each reference replaced by what it names, one level deep.
fn described(world: &World) -> Result<Value> {
    Ok(world.nobody().get("/v1/openapi.json")?.json)
}

fn each_included_resource_is_of_one_described_kind(world: &World) -> Result<()> {
    world.app()?;
    let description = described(world)?;
    let schemas = &description["components"]["schemas"];
    let kinds = schemas["Included"]["oneOf"]
        .as_array()
        .context("no kinds")?;
    let mut named = Vec::new();
    for kind in kinds {
        let schema = kind["$ref"].as_str().context("no reference")?;
        let schema = &schemas[schema.rsplit('/').next().unwrap_or_default()];
        let of = schema["properties"]["type"]["$ref"]
            .as_str()
            .context("any text")?;
        let of = &schemas[of.rsplit('/').next().unwrap_or_default()]["enum"];
        ensure!(of.as_array().is_some_and(|names| names.len() == 1), "{of}");
        named.push(text(&of[0])?);
    }
    let apps = world.admin().get("/apps")?.with(200)?;
    for included in apps.json["included"]
        .as_array()
        .context("nothing is included")?
    {
        let kind = text(&included["type"])?;
        ensure!(
            named.iter().filter(|name| **name == kind).count() == 1,
            "{included}"
        );
    }
    Ok(())
}

fn every_call_describes_what_any_request_may_get(world: &World) -> Result<()> {
    let description = described(world)?;
    for (path, calls) in description["paths"].as_object().context("no paths")? {
        for (method, call) in calls.as_object().context("no calls")? {
            let answers = call["responses"].as_object().context("no answers")?;
            let parameters = call["parameters"].as_array().cloned().unwrap_or_default();
            let in_query = |parameter: &Value| parameter["in"] == "query";
            let mut expected = vec!["401", "403", "408", "429", "500", "503"];
            if call.get("requestBody").is_some() {
                expected.extend(["400", "413", "415"]);
            }
            if parameters.iter().any(in_query) {
                expected.push("400");
            }
            for status in expected {
                ensure!(
                    answers.contains_key(status),
                    "{method} {path} has no {status}"
                );
            }
            for parameter in parameters {
                let of = &parameter["schema"]["type"];
                ensure!(of.is_string(), "{method} {path}: {parameter}");
                let least = &parameter["schema"]["minimum"];
                ensure!(
                    parameter["name"] != "limit" || *least == 1,
                    "{method} {path}: {parameter}"
                );
            }
        }
    }
    Ok(())
}

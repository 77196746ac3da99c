//! What is taken as it stands: ids of a registration, messages, account numbers.

use anyhow::{Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::json;

use crate::setup::{User, World, bearer, cases, unique};
use crate::sources::{endpoint, token};

cases![
    an_id_is_the_text_as_it_stands_or_refused,
    a_message_arrives_byte_for_byte_through_every_door,
    a_packed_body_is_refused,
];

fn an_id_is_the_text_as_it_stands_or_refused(world: &World) -> Result<()> {
    let name = unique("app");
    let ids = ["007", "1e3", "yes", "off", "0x1F", "1.10", "true"];
    let items = ids
        .map(|id| format!("  - id: {id}\n    title: {id}\n"))
        .concat();
    let yaml = format!("application: {{name: {name}, title: 1e3}}\nevent_types:\n{items}");
    let user = world.admin().header("Content-Type", "application/yaml");
    user.ask("POST", "/apps/register", Some(&yaml))?.with(200)?;
    let quoted = ids.map(|id| json!({"id": id, "title": id}));
    let same = json!({"application": {"name": name, "title": "1e3"}, "event_types": quoted});
    let said = world
        .admin()
        .post("/apps/register?dry_run=true", &same)?
        .with(200)?;
    ensure!(said.json["meta"]["changes"] == json!([]), "{}", said.json);
    for id in ["1.0", "1e3", "true", "12345678901234567890123"] {
        let json = format!(
            r#"{{"application":{{"name":"{name}","title":"t"}},"event_types":[{{"id":{id},"title":"t"}}]}}"#
        );
        let user = world.admin().header("Content-Type", "application/json");
        user.ask("POST", "/apps/register", Some(&json))?.refused(
            422,
            "is not a string: write it in quotes",
            "/event_types/0/id",
        )?;
    }
    for id in ["null", "~", ""] {
        let yaml = format!(
            "application: {{name: {name}, title: t}}\nevent_types:\n  - title: t\n    id: {id}\n"
        );
        let user = world.admin().header("Content-Type", "application/yaml");
        user.ask("POST", "/apps/register", Some(&yaml))?.refused(
            422,
            "can't be blank: null is no text, unless it is in quotes",
            "/event_types/0/id",
        )?;
    }
    Ok(())
}

fn a_message_arrives_byte_for_byte_through_every_door(world: &World) -> Result<()> {
    let (token, number) = token(world, "account")?;
    let user = bearer(&world.server, &token);
    let sink = endpoint(&user)?;
    // A condition that asks nothing of the message holds whatever that is.
    let chosen = HookEndpoint::start()?;
    let condition = r#"application != "other" || message.x == 1"#;
    let id = user.endpoint(
        &json!({"name": unique("chosen"), "url": chosen.url(), "filter": {"condition": condition}}),
    )?;
    let deep = "[".repeat(200) + &"]".repeat(200);
    let mut expected = Vec::new();
    for json in [
        r#""\u0000""#,
        r#"{"\u0000":1}"#,
        r#""\ud83d""#,
        "1e400",
        r#"{"n":123456789012345678901234567890}"#,
        r#"{"n":0.1000000000000000055511151231257827}"#,
        r#"{ "b":1, "a":-0, "a":1E5 }"#,
        deep.as_str(),
    ] {
        let body = format!(
            r#"{{"application":"a","event_type":"e","level":null,"timestamp":"2026-01-01T00:00:00Z","message":{json},"account_id":"{number}"}}"#
        );
        user.ask("POST", "/messages", Some(&body))?.with(201)?;
        user.ask("POST", "/messages", Some(&format!("[{body}]")))?
            .with(201)?;
        world.server.run(["send", "--topic=hooks.outbox", &body])?;
        world
            .server
            .run(["send", "-u", &number, "--message-json", json])?;
        expected.extend([json; 4]);
        let fields = format!(r#"{{"application":"a","event_type":"e","message":{json}}}"#);
        let explain = format!(r#"{{"explain":{fields}}}"#);
        let explained = user.ask("POST", "/explain", Some(&explain))?.with(200)?;
        ensure!(are_all_told(&explained.json), "{json}: it is not explained");
        let render =
            format!(r#"{{"data":{{"type":"render","attributes":{{"notification":{fields}}}}}}}"#);
        let path = format!("/endpoints/{id}/render");
        let rendered = user.ask("POST", &path, Some(&render))?.with(200)?;
        let body = rendered.json["data"]["attributes"]["body"].as_str();
        let body = body.unwrap_or_default();
        let message = format!(r#""message":{json}}}"#);
        ensure!(body.ends_with(&message), "{json}: {body}");
    }
    expected.sort_unstable();
    for sink in [sink, chosen] {
        let hooks = sink.wait_for(expected.len(), dovecast_testkit::PATIENCE)?;
        let mut came = Vec::new();
        for hook in &hooks {
            let (_, message) = hook.body.split_once(r#""message":"#).unwrap_or_default();
            came.push(message.strip_suffix('}').unwrap_or_default());
        }
        came.sort_unstable();
        ensure!(came == expected, "{came:#?}");
    }
    let explain =
        json!({"explain": {"application": "a", "event_type": "e", "message": {"\0": ["\0"]}}});
    let explained = user.post("/explain", &explain)?.with(200)?;
    ensure!(are_all_told(&explained.json), "it is not explained");
    let explain = json!({"explain": {"application": "a\0", "event_type": "e"}});
    user.post("/explain", &explain)?
        .refused(400, "contains a NUL character", "")?;
    Ok(())
}

/// Whether each endpoint gets what was explained.
fn are_all_told(explained: &serde_json::Value) -> bool {
    let matches = |one: &serde_json::Value| one["attributes"]["matches"] == true;
    let all = explained["data"].as_array();
    all.is_some_and(|all| all.len() == 2 && all.iter().all(matches))
}

fn a_packed_body_is_refused(world: &World) -> Result<()> {
    let packed = |user: User<'_>, path| {
        let user = user.header("Content-Encoding", "gzip");
        let said = user.ask("POST", path, Some("{}"))?;
        said.refused(415, "The Content-Encoding is gzip", "")
    };
    for path in ["/messages", "/tokens", "/apps/register"] {
        packed(world.admin(), path)?;
    }
    packed(world.account(), "/endpoints")
}

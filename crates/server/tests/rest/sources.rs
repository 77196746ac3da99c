//! Notifications of applications, which come over HTTP into the log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::setup::{User, World, bearer, cases, identity, text, unique};

cases![
    a_message_is_delivered_as_it_was_sent,
    a_message_is_delivered_byte_by_byte,
    a_time_with_more_digits_than_are_kept_is_taken,
    a_delivery_is_no_request,
    an_account_sends_for_itself_only,
    only_an_admin_or_account_token_sends,
    a_wrong_message_is_refused_with_its_fields,
];

const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

/// A token of a new account, and the account's number.
pub(crate) fn token(world: &World, scope: &str) -> Result<(String, String)> {
    let number = unique("number");
    let mut fields = json!({"name": "t", "scope": scope});
    if scope == "account" {
        fields["account_number"] = json!(number);
    }
    let made = world.admin().post("/tokens", &json!({"token": fields}))?;
    Ok((text(&made.with(201)?.json["meta"]["token"])?, number))
}

pub(crate) fn endpoint(user: &User<'_>) -> Result<HookEndpoint> {
    let sink = HookEndpoint::start()?;
    let name = unique("endpoint");
    user.endpoint(&json!({"name": name, "url": sink.url(), "active": true, "filter": {}}))?;
    Ok(sink)
}

pub(crate) fn message(account: &str) -> Value {
    json!({"application": "a", "event_type": "e", "level": null, "timestamp": "2026-11-20T10:00:00+01:00",
        "message": {"a": [1, null]}, "account_id": account})
}

fn a_message_is_delivered_as_it_was_sent(world: &World) -> Result<()> {
    let (token, number) = token(world, "account")?;
    let sink = endpoint(&bearer(&world.server, &token))?;
    let said = world.admin().post("/messages", &message(&number))?;
    let said = said.with(201)?;
    let id = text(&said.json["data"]["id"])?;
    ensure!(
        said.json == json!({"data": {"type": "message", "id": id}}),
        "{said:?}"
    );
    let hook = sink.wait_for(1, ARRIVAL)?.remove(0);
    ensure!(
        hook.body
            == r#"{"timestamp":"2026-11-20T09:00:00.000Z","application":"a","event_type":"e","level":null,"message":{"a":[1,null]}}"#,
        "{}",
        hook.body
    );
    let records = world.server.records("hooks.outbox")?;
    ensure!(records.iter().any(|record| record.contains(&id)));
    Ok(())
}

fn a_message_is_delivered_byte_by_byte(world: &World) -> Result<()> {
    let (token, _) = token(world, "account")?;
    let sink = endpoint(&bearer(&world.server, &token))?;
    let message = r#"{"b": 12345678901234567890123, "a":[1e2, -0.0],  "a":"\u00e4\/"}"#;
    let body = format!(
        r#"{{"application":"a","event_type":"e","level":null,"message":"first","message":{message}}}"#
    );
    let request = Request::new("POST", "/api/hooks/messages")
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(body);
    let answer = world.server.ask(&request)?;
    ensure!(answer.status == 201, "{answer:?}");
    let hook = sink.wait_for(1, ARRIVAL)?.remove(0);
    ensure!(hook.body.contains(message), "{}", hook.body);
    Ok(())
}

fn a_time_with_more_digits_than_are_kept_is_taken(world: &World) -> Result<()> {
    let (token, number) = token(world, "account")?;
    let user = bearer(&world.server, &token);
    let sink = endpoint(&user)?;
    let mut precise = message(&number);
    precise["timestamp"] = json!("2026-11-20T10:00:00.1234567890123+01:00");
    user.post("/messages", &precise)?.with(201)?;
    let hook = sink.wait_for(1, ARRIVAL)?.remove(0);
    let expected = r#""timestamp":"2026-11-20T09:00:00.123Z""#;
    ensure!(hook.body.contains(expected), "{}", hook.body);
    Ok(())
}

/// An endpoint whose URL is this API, with a token: its deliveries would go round for ever.
fn a_delivery_is_no_request(world: &World) -> Result<()> {
    let (token, number) = token(world, "account")?;
    let user = bearer(&world.server, &token);
    let url = format!("http://{}/api/hooks/messages", world.server.address()?);
    let authorization = json!({"type": "bearer", "token": token});
    let id = user.endpoint(&json!({
        "name": "round", "url": url, "filter": {}, "data": {"authorization": authorization},
    }))?;
    world.server.run(["send", "-u", &number, "-m", "round"])?;
    let letters = poll_until(ARRIVAL, || {
        let letters = world.server.run(["dead-letters", "--json"]).ok()?;
        letters.contains(&id).then_some(letters)
    });
    let letters = letters.context("no dead letter")?;
    ensure!(letters.contains("the endpoint answers 403"), "{letters}");
    let records = world.server.values("hooks.outbox")?;
    let round = records.iter().filter(|value| value.contains(&number));
    ensure!(round.count() == 1, "{records:?}");
    Ok(())
}

fn an_account_sends_for_itself_only(world: &World) -> Result<()> {
    let (token, number) = token(world, "account")?;
    let user = bearer(&world.server, &token);
    let sink = endpoint(&user)?;
    let mut own = message(&number);
    user.post("/messages", &own)?.with(201)?;
    let fields = own.as_object_mut().context("no object")?;
    fields.remove("account_id");
    fields.remove("timestamp");
    fields.insert("level".to_owned(), json!("high"));
    user.post("/messages", &own)?.with(201)?;
    let hooks = sink.wait_for(2, ARRIVAL)?;
    let bodies: Vec<Value> = hooks
        .iter()
        .map(|hook| serde_json::from_str(&hook.body))
        .collect::<Result<_, _>>()?;
    let graded = bodies.iter().find(|body| body["level"] == "high");
    let time = text(&graded.context("not there")?["timestamp"])?;
    ensure!(time.ends_with('Z') && time.len() == 24, "{time}");
    user.post("/messages", &message("another"))?
        .refused(403, "its own account only", "")
}

fn only_an_admin_or_account_token_sends(world: &World) -> Result<()> {
    let body = message("1");
    world
        .nobody()
        .post("/messages", &body)?
        .unauthenticated("`Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided")?;
    bearer(&world.server, "dct_wrong")
        .post("/messages", &body)?
        .unauthenticated("The API token is not valid")?;
    let (registrar, _) = token(world, "registration")?;
    bearer(&world.server, &registrar)
        .post("/messages", &body)?
        .refused(
            403,
            "Only a token of the scope `send`, a token of the account or an admin token",
            "",
        )?;
    let text = "Requests with X-RH-IDENTITY are not allowed to send notifications.";
    for user in [
        world.account(),
        world.admin().header("X-RH-IDENTITY", &identity("1")),
    ] {
        user.post("/messages", &body)?.refused(403, text, "")?;
    }
    Ok(())
}

fn a_wrong_message_is_refused_with_its_fields(world: &World) -> Result<()> {
    let admin = world.admin();
    let with = |field: &str, value: Option<Value>| -> Value {
        let mut body = message("1");
        if let Some(fields) = body.as_object_mut() {
            match value {
                Some(value) => fields.insert(field.to_owned(), value),
                None => fields.remove(field),
            };
        }
        body
    };
    for (field, value, detail) in [
        ("application", None, "can't be blank"),
        ("application", Some(json!(" ")), "can't be blank"),
        ("application", Some(json!(1)), "is not a string"),
        ("event_type", None, "can't be blank"),
        ("level", None, "is missing"),
        ("level", Some(json!([])), "is not a string"),
        ("timestamp", Some(json!("today")), "is not an RFC 3339 time"),
        ("timestamp", Some(json!(1)), "is not an RFC 3339 time"),
        ("message", None, "is missing"),
        ("account_id", None, "can't be blank"),
        ("account_id", Some(json!({})), "is not a string"),
        ("severity", Some(json!(1)), "is not a field"),
    ] {
        let said = admin.post("/messages", &with(field, value))?;
        said.refused(422, detail, &format!("/{field}"))?;
    }
    let said = admin.post("/messages", &with("a/b~", Some(json!(1))))?;
    said.refused(422, "is not a field", "/a~1b~0")?;
    let said = admin.post("/messages", &json!({}))?.with(422)?;
    let errors = said.json["errors"].as_array().context("no errors")?;
    ensure!(errors.len() == 5, "{errors:?}");
    let number = with("account_id", Some(json!(7)));
    admin.post("/messages", &number)?.with(201)?;
    admin
        .ask("POST", "/messages", Some("[]"))?
        .refused(400, "the array is empty", "")?;
    admin
        .ask("POST", "/messages", Some("7"))?
        .refused(400, "the body is not an object", "")?;
    admin
        .ask("POST", "/messages", Some("{"))?
        .refused(400, "the body is not JSON", "")?;
    let plain = world.admin().header("Content-Type", "text/plain");
    plain
        .post("/messages", &message("1"))?
        .refused(415, "text/plain", "")?;
    let long = with("message", Some(json!("x".repeat(1024 * 1024))));
    admin
        .post("/messages", &long)?
        .refused(413, "1048576 bytes", "")
}

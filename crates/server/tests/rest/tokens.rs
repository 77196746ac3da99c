//! Tokens that end, that show their last use, that are a person's, and what is refused of them.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::setup::{World, bearer, cases, text, unique};
use crate::who::token;

cases![
    a_token_is_refused_when_its_time_is_over,
    a_token_that_makes_no_sense_is_refused,
    an_account_that_has_a_thousand_tokens_gets_no_more,
    a_token_shows_when_it_was_last_used,
    a_token_of_a_person_has_the_login_that_was_given,
    the_command_makes_and_changes_tokens_of_applications,
];

fn a_token_is_refused_when_its_time_is_over(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let server = builder.start()?;
    let admin = server.admin_token()?;
    let admin = bearer(&server, &admin);
    let end = "2999-12-31T23:59:59Z";
    let fields = json!({"scope": "admin", "expires_at": end});
    let (secret, id) = token(&admin, fields)?;
    let user = bearer(&server, &secret);
    let shown = user.get("/tokens")?.with(200)?;
    let tokens = shown.json["data"].as_array().context("no list")?;
    let own = tokens.iter().find(|token| token["id"] == *id);
    let attributes = &own.context("it is not listed")?["attributes"];
    ensure!(attributes["expires_at"] == "2999-12-31T23:59:59.000Z");
    database.execute(
        &server,
        &format!("UPDATE api_token SET expires_ms = 1 WHERE id = '{id}'"),
    )?;
    let refused = || {
        user.get("/tokens")
            .ok()
            .filter(|said| said.answer.status != 200)
    };
    let refused = poll_until(PATIENCE, refused).context("it is good")?;
    refused.unauthenticated("The API token has expired")?;
    let path = format!("/tokens/{id}");
    let longer = json!({"token": {"expires_at": null}});
    let said = admin.put(&path, &longer)?.with(200)?;
    ensure!(said.json["data"]["attributes"]["expires_at"].is_null());
    user.get("/tokens")?.with(200)?;
    Ok(())
}

fn a_token_that_makes_no_sense_is_refused(world: &World) -> Result<()> {
    let long = "x".repeat(256);
    let many: Vec<_> = (0..1001).map(|number| number.to_string()).collect();
    for (fields, attribute, detail) in [
        (json!({"scope": "send"}), "applications", "can't be empty"),
        (
            json!({"scope": "send", "applications": ["a"], "account_number": "1"}),
            "account_number",
            "must be blank",
        ),
        (
            json!({"scope": "admin", "applications": ["a"]}),
            "applications",
            "must be empty with this scope",
        ),
        (
            json!({"account_number": "1", "applications": ["a"]}),
            "applications",
            "must be empty with this scope",
        ),
        (
            json!({"scope": "registration", "applications": [" "]}),
            "applications",
            "has a blank name",
        ),
        (
            json!({"scope": "registration", "applications": [long]}),
            "applications",
            "has a name of more than 255 characters",
        ),
        (
            json!({"scope": "registration", "applications": many}),
            "applications",
            "maximum is 1000 applications",
        ),
        (
            json!({"scope": "admin", "expires_at": "tomorrow"}),
            "expires_at",
            "is not an RFC 3339 time",
        ),
        (
            json!({"scope": "admin", "expires_at": "2001-01-01T00:00:00Z"}),
            "expires_at",
            "is not in the future",
        ),
    ] {
        let mut fields = fields;
        fields["name"] = json!("x");
        let said = world.admin().post("/tokens", &json!({"token": fields}))?;
        said.refused(422, detail, &format!("/data/attributes/{attribute}"))?;
    }
    // What is misspelled must not make a token that lasts for ever.
    let body =
        json!({"token": {"name": "x", "scope": "admin", "expire_at": "2999-12-31T23:59:59Z"}});
    let said = world.admin().post("/tokens", &body)?;
    said.refused(400, "unknown field `expire_at`", "")
}

fn an_account_that_has_a_thousand_tokens_gets_no_more(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let server = builder.start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let make = |number: &str| {
        let fields = json!({"name": "t", "scope": "account", "account_number": number});
        admin.post("/tokens", &json!({"token": fields}))
    };
    make("7")?.with(201)?;
    database.execute(
        &server,
        "INSERT INTO api_token (id, hash, scope, account_id, name, last_four, created_ms) \
         WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 999) \
         SELECT 'of-' || CAST(value AS VARCHAR(9)), 'of-' || CAST(value AS VARCHAR(9)), 'account', \
         (SELECT id FROM account WHERE number = '7'), 't', 'last', value FROM n",
    )?;
    let detail = "has 1000 tokens, and may have no more: delete one first";
    make("7")?.refused(422, detail, "/data/attributes/account_number")?;
    make("8")?.with(201)?;
    Ok(())
}

fn a_token_shows_when_it_was_last_used(world: &World) -> Result<()> {
    let fields = json!({"account_number": unique("account")});
    let (secret, id) = token(&world.admin(), fields)?;
    let shown = || -> Result<Value> {
        let shown = world.admin().get("/tokens")?.with(200)?;
        let tokens = shown.json["data"].as_array().context("no list")?;
        let own = tokens.iter().find(|token| token["id"] == *id);
        Ok(own.context("it is not listed")?["attributes"]["last_used_at"].clone())
    };
    ensure!(shown()?.is_null());
    let user = bearer(&world.server, &secret);
    user.get("/endpoints")?.with(200)?;
    let last = poll_until(PATIENCE, || shown().ok().filter(Value::is_string));
    let last = last.context("it is not written")?;
    user.get("/endpoints")?.with(200)?;
    ensure!(shown()? == last, "it is written each time");
    Ok(())
}

fn a_token_of_a_person_has_the_login_that_was_given(world: &World) -> Result<()> {
    for login in [None, Some("joe@mail.example")] {
        let user = unique("joe");
        let mut fields = json!({"scope": "person", "context": user, "user": user});
        if login.is_some() {
            fields["login"] = json!(login);
        }
        let (secret, _) = token(&world.admin(), fields)?;
        let ask = |path: &str, body: &Value| -> Result<Value> {
            let request = Request::new("POST", &format!("/api/push/v1/subscriptions{path}"))
                .header("Authorization", &format!("Bearer {secret}"))
                .header("Content-Type", "application/json")
                .body(body.to_string());
            Ok(serde_json::from_str(&world.server.ask(&request)?.body)?)
        };
        let device = HookEndpoint::start()?;
        let made = ask(
            "",
            &json!({"client": "desk", "transport": "webhook", "topics": ["mail:new"],
                "webhook": {"url": device.url()}}),
        )?;
        let id = text(&made["subscription"]["id"])?;
        ask(&format!("/{id}/test"), &json!({}))?;
        let event = json!({"user": user, "mailbox": "INBOX", "event": "MessageNew",
            "uidvalidity": 7, "uid": 1});
        world.server.run(["send", "--event", &event.to_string()])?;
        // A webhook is told a login that is an address: that of the token, then that of the
        // subscription.
        for hook in device.wait_for(2, PATIENCE)? {
            let told: Value = serde_json::from_str(&hook.body)?;
            let payload = &told["payload"];
            ensure!(payload["user"] == *user, "{told}");
            ensure!(payload["email1"] == json!(login), "{told}");
        }
    }
    Ok(())
}

fn the_command_makes_and_changes_tokens_of_applications(world: &World) -> Result<()> {
    let app = world.app()?;
    let name = unique("token");
    let end = "2999-12-31T23:59:59Z";
    let add = ["tokens", "add", &name, "--scope", "send"];
    let more = ["--application", &app.name, "--expires", end, "--json"];
    let made = world.server.run(add.into_iter().chain(more))?;
    let made: Value = serde_json::from_str(&made)?;
    ensure!(made["applications"] == json!([app.name]), "{made}");
    let id = text(&made["id"])?;
    let sender = bearer(&world.server, &text(&made["token"])?);
    let message = json!({"application": app.name, "event_type": "plain", "level": null,
        "account_id": "7", "message": 1});
    sender.post("/messages", &message)?.with(201)?;
    let change = ["tokens", "change", &id, "--application", "other"];
    world
        .server
        .run(change.into_iter().chain(["--no-expiry"]))?;
    sender
        .post("/messages", &message)?
        .refused(403, "notifications of `other` only", "")?;
    let table = world.server.run(["tokens"])?;
    let line = table.lines().find(|line| line.starts_with(&id));
    let words: Vec<_> = line.context("no line")?.split_whitespace().collect();
    ensure!(words[2..4] == ["send", "other"], "{words:?}");
    for (arguments, expected) in [
        (vec![], "nothing is to change"),
        (vec!["--no-applications"], "`applications` can't be empty"),
        (
            vec!["--expires", "2001-01-01T00:00:00Z"],
            "`expires_at` is not in the future",
        ),
    ] {
        let change = ["tokens", "change", &id].into_iter().chain(arguments);
        let error = world.server.run(change).err().context("it is changed")?;
        let error = format!("{error:?}");
        ensure!(error.contains(expected), "{error}");
    }
    Ok(())
}

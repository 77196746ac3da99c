//! Who a request is from: proxies, tokens, and who is refused.

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::http::Request;
use serde_json::{Value, json};

use crate::setup::{PREFIX, World, bearer, cases, identity, text, unique};

cases![
    a_request_that_says_nothing_is_unauthenticated,
    an_identity_that_cannot_be_read_is_unauthenticated,
    an_identity_is_believed_from_a_trusted_proxy_only,
    an_account_is_made_when_it_is_first_seen,
    long_numbers_of_two_accounts_are_two_and_blanks_make_none,
    a_user_is_made_when_it_is_first_seen,
    a_token_of_an_account_sees_that_account,
    a_token_without_an_account_sees_no_endpoints,
    tokens_are_made_listed_and_deleted_by_an_admin_only,
    a_token_request_that_makes_no_sense_is_refused,
    a_token_that_is_none_is_unauthenticated,
    the_first_start_prints_an_admin_token_once,
];

const ROUTES: [(&str, &str); 10] = [
    ("GET", "/apps"),
    ("GET", "/apps/1"),
    ("GET", "/endpoints"),
    ("POST", "/endpoints"),
    ("PUT", "/endpoints/1"),
    ("DELETE", "/endpoints/1"),
    ("POST", "/endpoints/1/test"),
    ("POST", "/endpoints/1/secret"),
    ("GET", "/endpoints/1/filter"),
    ("GET", "/tokens"),
];

fn a_request_that_says_nothing_is_unauthenticated(world: &World) -> Result<()> {
    for (method, path) in ROUTES {
        let said = world.nobody().ask(method, path, None)?;
        ensure!(said.answer.header("www-authenticate") == Some("Bearer"));
        said.unauthenticated("`Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided")?;
    }
    Ok(())
}

fn an_identity_that_cannot_be_read_is_unauthenticated(world: &World) -> Result<()> {
    let encode = |json: Value| STANDARD.encode(json.to_string());
    for header in [
        "nonsense!".to_owned(),
        STANDARD.encode("{"),
        encode(json!({})),
        encode(json!({"identity": {"account_number": "1"}})),
        encode(json!({"identity": {"user": {"username": "joe"}}})),
    ] {
        let user = world.nobody().header("X-RH-IDENTITY", &header);
        user.get("/apps")?
            .unauthenticated("Error parsing the X-RH-IDENTITY header")?;
    }
    // One of the two may be the client's own.
    let twice = world.account().header("X-RH-IDENTITY", &identity("1"));
    twice
        .get("/apps")?
        .unauthenticated("Error parsing the X-RH-IDENTITY header")
}

fn an_identity_is_believed_from_a_trusted_proxy_only(world: &World) -> Result<()> {
    let header = identity(&unique("account"));
    let request = Request::get(&format!("{PREFIX}/endpoints")).header("X-RH-IDENTITY", &header);
    ensure!(world.server.ask(&request)?.status == 200);
    let refused = world.strict.ask(&request)?;
    ensure!(refused.status == 401, "{refused:?}");
    let expected = json!({"error": "Authentication error: `Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided"});
    ensure!(
        serde_json::from_str::<Value>(&refused.body)? == expected,
        "{refused:?}"
    );
    // There it says nothing, and a token goes on saying who it is.
    let user = world.strict_admin().header("X-RH-IDENTITY", &header);
    user.get("/tokens")?.with(200)?;
    Ok(())
}

fn an_account_is_made_when_it_is_first_seen(world: &World) -> Result<()> {
    let number = unique("account");
    let user = || world.nobody().header("X-RH-IDENTITY", &identity(&number));
    ensure!(user().names("")?.is_empty());
    user().endpoint(&json!({"name": "a", "url": "http://example.org/"}))?;
    // Another user of the account, and the account's number as a number, see the same.
    ensure!(user().names("")? == ["a"]);
    ensure!(world.account().names("")?.is_empty());
    Ok(())
}

/// A reader of JSON would make one number of the first two.
fn long_numbers_of_two_accounts_are_two_and_blanks_make_none(world: &World) -> Result<()> {
    let by = |number: &str| {
        let json =
            format!(r#"{{"identity":{{"account_number":{number},"user":{{"username":"joe"}}}}}}"#);
        world
            .nobody()
            .header("X-RH-IDENTITY", &STANDARD.encode(json))
    };
    for (number, name) in [
        ("123456789012345678901", "a"),
        ("123456789012345678902", "b"),
        ("\"81001\"", "c"),
    ] {
        by(number).endpoint(&json!({"name": name, "url": "http://example.org/"}))?;
    }
    for (number, name) in [
        ("123456789012345678901", "a"),
        ("\"123456789012345678901\"", "a"),
        ("123456789012345678902", "b"),
        ("81001", "c"),
        ("\" 81001\\t\"", "c"),
    ] {
        let names = by(number).names("")?;
        ensure!(names == [name], "{number}: {names:?}");
    }
    let token = json!({"token": {"name": "t", "scope": "account", "account_number": "81001 "}});
    let made = world.admin().post("/tokens", &token)?.with(201)?;
    let token = bearer(&world.server, &text(&made.json["meta"]["token"])?);
    ensure!(token.names("")? == ["c"]);
    for number in ["1.2345678901234568e20", "-1", "\"8\\n1001\"", "[81001]"] {
        by(number)
            .get("/endpoints")?
            .unauthenticated("Error parsing the X-RH-IDENTITY header")?;
    }
    Ok(())
}

fn a_user_is_made_when_it_is_first_seen(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let server = builder.http("trusted_proxies = ['127.0.0.1/32']").start()?;
    let users = |condition: &str| {
        let select = "SELECT COUNT(*) FROM account_user JOIN account ON account.id = account_id";
        database.count(&server, &format!("{select} WHERE {condition}"))
    };
    ensure!(users("TRUE")? == 0);
    // The same user of two accounts is two; who comes again is known.
    for number in ["one", "one", "two"] {
        let asked = Request::get(&format!("{PREFIX}/apps"));
        let answer = server.ask(&asked.header("X-RH-IDENTITY", &identity(number)))?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    ensure!(users("TRUE")? == 2);
    for number in ["one", "two"] {
        let joe = "username = 'joe' AND email = 'joe@example.org' AND locale = 'en_US' AND org_id = '3340851'";
        let flags = "is_active = 1 AND is_org_admin = 1 AND is_internal = 0";
        ensure!(users(&format!("number = '{number}' AND {joe} AND {flags}"))? == 1);
    }
    Ok(())
}

fn a_token_of_an_account_sees_that_account(world: &World) -> Result<()> {
    let number = unique("account");
    let body = json!({"token": {"name": "ci", "scope": "account", "account_number": number}});
    let said = world.admin().post("/tokens", &body)?.with(201)?;
    let token = bearer(&world.server, &text(&said.json["meta"]["token"])?);
    token.endpoint(&json!({"name": "a", "url": "http://example.org/"}))?;
    let user = world.nobody().header("X-RH-IDENTITY", &identity(&number));
    ensure!(user.names("")? == ["a"] && token.names("")? == ["a"]);
    Ok(())
}

fn a_token_without_an_account_sees_no_endpoints(world: &World) -> Result<()> {
    for (method, path) in &ROUTES[2..9] {
        let said = world.admin().ask(method, path, None)?;
        // What it says is what has to be done.
        let how = "This token belongs to no account, and endpoints belong to one: make a token of the account \
                   (`POST /tokens` with the scope `account` and its `account_number`, or `dovecast tokens add`)";
        said.refused(403, how, "")?;
    }
    Ok(())
}

fn tokens_are_made_listed_and_deleted_by_an_admin_only(world: &World) -> Result<()> {
    let admin = world.admin();
    let number = unique("account");
    let body = json!({"token": {"name": "ci", "account_number": number}});
    let made = admin.post("/tokens", &body)?.with(201)?;
    let token = text(&made.json["meta"]["token"])?;
    let id = text(&made.json["data"]["id"])?;
    let attributes = &made.json["data"]["attributes"];
    ensure!(attributes["scope"] == "account" && attributes["account_number"] == *number);
    ensure!(attributes["name"] == "ci" && made.json["data"]["type"] == "token");
    ensure!(token.ends_with(attributes["last_four"].as_str().unwrap_or("?")));
    let listed = admin.get("/tokens")?.with(200)?;
    let list = listed.json["data"].as_array().cloned().unwrap_or_default();
    ensure!(list.contains(&made.json["data"]));
    ensure!(!listed.answer.body.contains(&token));
    let user = bearer(&world.server, &token);
    for said in [
        user.get("/tokens")?,
        user.post("/tokens", &body)?,
        user.delete(&format!("/tokens/{id}"))?,
        world.account().get("/tokens")?,
    ] {
        said.refused(403, "Only an admin token may", "")?;
    }
    user.get("/endpoints")?.with(200)?;
    admin.delete(&format!("/tokens/{id}"))?.with(204)?;
    user.get("/endpoints")?
        .unauthenticated("The API token is not valid")?;
    for id in [&*id, "7"] {
        admin
            .delete(&format!("/tokens/{id}"))?
            .not_found("Could not find Token")?;
    }
    Ok(())
}

fn a_token_request_that_makes_no_sense_is_refused(world: &World) -> Result<()> {
    for (fields, attribute, detail) in [
        (json!({"account_number": "1"}), "name", "can't be blank"),
        (json!({"name": "x"}), "account_number", "can't be blank"),
        (
            json!({"name": "x", "scope": "root"}),
            "scope",
            "`root` is none of",
        ),
        (
            json!({"name": "x", "scope": "admin", "account_number": "1"}),
            "account_number",
            "must be blank",
        ),
        (
            json!({"name": "x".repeat(256), "account_number": "1"}),
            "name",
            "is too long (maximum is 255 characters)",
        ),
        (
            json!({"name": "x", "account_number": "1".repeat(256)}),
            "account_number",
            "is too long (maximum is 255 characters)",
        ),
    ] {
        let said = world.admin().post("/tokens", &json!({"token": fields}))?;
        said.refused(422, detail, &format!("/data/attributes/{attribute}"))?;
    }
    let longest = json!({"name": "x".repeat(255), "account_number": "1".repeat(255)});
    world
        .admin()
        .post("/tokens", &json!({"token": longest}))?
        .with(201)?;
    world
        .admin()
        .post("/tokens", &json!({}))?
        .refused(400, "`token` is missing", "")
}

fn a_token_that_is_none_is_unauthenticated(world: &World) -> Result<()> {
    for value in [
        "Bearer dct_nonsense",
        "Bearer",
        "Bearer ",
        "Basic am9lOnNlY3JldA==",
        "dct_nonsense",
    ] {
        let user = world.nobody().header("Authorization", value);
        user.get("/apps")?
            .unauthenticated("The API token is not valid")?;
    }
    Ok(())
}

fn the_first_start_prints_an_admin_token_once(world: &World) -> Result<()> {
    let mut server = world.fresh()?.0.start()?;
    let token = server.admin_token()?;
    ensure!(!server.server_log().contains(&token));
    bearer(&server, &token).get("/tokens")?.with(200)?;
    server.stop()?;
    server.start_again()?;
    ensure!(server.printed().matches("admin token").count() == 1);
    let listed = bearer(&server, &token).get("/tokens")?.with(200)?;
    ensure!(listed.json["data"].as_array().map(Vec::len) == Some(1));
    // What was acknowledged is there after a kill.
    let said = bearer(&server, &token)
        .post(
            "/tokens",
            &json!({"token": {"name": "x", "account_number": "1"}}),
        )?
        .with(201)?;
    let account = text(&said.json["meta"]["token"])?;
    bearer(&server, &account).endpoint(&json!({"name": "a", "url": "http://example.org/"}))?;
    server.kill()?;
    server.start_again()?;
    ensure!(bearer(&server, &account).names("")? == ["a"]);
    Ok(())
}

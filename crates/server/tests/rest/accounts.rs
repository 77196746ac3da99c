//! Accounts, seen and closed by whoever runs the server, over both doors.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::PATIENCE;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::setup::{Said, User, World, bearer, cases, identity, text, unique};
use crate::who::token;

cases![
    accounts_are_listed_and_shown_with_what_they_have,
    a_closed_account_gets_nothing_and_nobody_acts_for_it,
    a_closed_account_is_opened_again_without_what_it_had,
    nobody_of_a_closed_account_has_mail_pushed,
    what_nobody_can_type_is_no_account,
    only_an_admin_sees_and_closes_accounts,
    a_user_who_is_not_active_is_refused,
];

fn of<'a>(world: &'a World, number: &str) -> User<'a> {
    world.nobody().header("X-RH-IDENTITY", &identity(number))
}

/// An account with an endpoint and a token; the token, and the ids of both.
fn filled(world: &World, number: &str) -> Result<(String, String, String)> {
    let fields = json!({"name": "a", "url": "http://example.org/", "filter": {}});
    let endpoint = of(world, number).endpoint(&fields)?;
    let (secret, id) = token(&world.admin(), json!({"account_number": number}))?;
    Ok((secret, id, endpoint))
}

fn shown(world: &World, number: &str) -> Result<Said> {
    world.admin().get(&format!("/accounts/{number}"))?.with(200)
}

fn accounts_are_listed_and_shown_with_what_they_have(world: &World) -> Result<()> {
    // With what has to be escaped in a path.
    let number = format!("{}@Example org/%", unique("account"));
    let path = number
        .replace('%', "%25")
        .replace('/', "%2F")
        .replace(' ', "%20");
    let (_, token, endpoint) = filled(world, &number)?;
    let said = shown(world, &path)?;
    let attributes = &said.json["data"]["attributes"];
    ensure!(attributes["number"] == *number && attributes["closed_at"].is_null());
    let counts = ["endpoints", "tokens", "users"].map(|count| attributes[count].as_i64());
    ensure!(counts == [Some(1); 3], "{attributes}");
    let included = said.json["included"].as_array().context("no list")?;
    let named = |one: &Value| (one["type"].clone(), one["id"].clone());
    let named: Vec<_> = included.iter().map(named).collect();
    let expected = [
        (json!("endpoint"), json!(endpoint)),
        (json!("token"), json!(token)),
    ];
    ensure!(named == expected, "{included:?}");
    let first = world.admin().get("/accounts?limit=1")?.with(200)?;
    let total = first.json["meta"]["total"].as_u64().context("no number")?;
    ensure!(first.json["data"].as_array().map(Vec::len) == Some(1));
    ensure!(total > 0 && first.json["links"]["last"].is_string());
    let all = world.admin().get("/accounts")?.with(200)?;
    let all = all.json["data"].as_array().context("no list")?;
    ensure!(all.iter().any(|one| *one == said.json["data"]), "{all:?}");
    let printed = world.server.run(["accounts", "show", &number])?;
    for id in [&endpoint, &token] {
        ensure!(printed.contains(&**id), "{printed}");
    }
    let lines = world.server.run(["accounts", "--json"])?;
    let lines: Vec<Value> = serde_json::from_str(&lines)?;
    let line = lines.iter().find(|line| line["number"] == *number);
    ensure!(line.context("it is not listed")?["endpoints"] == 1);
    let table = world.server.run(["accounts"])?;
    ensure!(table.contains(&number), "{table}");
    Ok(())
}

fn a_closed_account_gets_nothing_and_nobody_acts_for_it(world: &World) -> Result<()> {
    for by_command in [false, true] {
        let number = unique("account");
        let (secret, _, endpoint) = filled(world, &number)?;
        if by_command {
            let said = world.server.run(["accounts", "close", &number])?;
            let expected = "endpoints deleted: 1, tokens deleted: 1";
            ensure!(said.contains(expected), "{said}");
        } else {
            let path = format!("/accounts/{number}");
            world.admin().delete(&path)?.with(204)?;
            world.admin().delete(&path)?.with(204)?;
        }
        let said = shown(world, &number)?;
        let attributes = &said.json["data"]["attributes"];
        ensure!(attributes["closed_at"].is_string(), "{attributes}");
        ensure!(said.json["included"] == json!([]), "{said:?}");
        for path in ["/apps", "/endpoints"] {
            of(world, &number)
                .get(path)?
                .refused(403, "The account is closed", "")?;
        }
        let user = bearer(&world.server, &secret);
        user.get("/endpoints")?
            .unauthenticated("The API token is not valid")?;
        let listed = world.server.run(["endpoints"])?;
        ensure!(!listed.contains(&endpoint), "{listed}");
        let body = json!({"token": {"name": "t", "account_number": number}});
        world
            .admin()
            .post("/tokens", &body)?
            .refused(403, "The account is closed", "")?;
        let add = ["endpoints", "add", "--account-id", &number, "--name", "b"];
        let more = ["--url", "http://example.org/"];
        let error = world.server.run(add.into_iter().chain(more));
        let error = format!("{:?}", error.err().context("it is made")?);
        ensure!(error.contains("The account is closed"), "{error}");
        // Other nodes learn of it.
        let there = || {
            let explained = world.strict.run(["endpoints", "--json"]).ok()?;
            (!explained.contains(&endpoint)).then_some(())
        };
        poll_until(PATIENCE, there).context("another node has it still")?;
        let told = ["an account was closed", &number, "by="];
        world.server.log_with(&told)?;
    }
    Ok(())
}

fn a_closed_account_is_opened_again_without_what_it_had(world: &World) -> Result<()> {
    let number = unique("account");
    filled(world, &number)?;
    let path = format!("/accounts/{number}");
    world.admin().delete(&path)?.with(204)?;
    let reopen = format!("{path}/reopen");
    let said = world.admin().post(&reopen, &json!({}))?.with(200)?;
    ensure!(said.json["data"]["attributes"]["closed_at"].is_null());
    ensure!(of(world, &number).names("")?.is_empty());
    world.server.run(["accounts", "close", &number])?;
    of(world, &number)
        .get("/apps")?
        .refused(403, "The account is closed", "")?;
    world.server.run(["accounts", "reopen", &number])?;
    of(world, &number).get("/apps")?.with(200)?;
    for act in ["show", "close", "reopen"] {
        let error = world.server.run(["accounts", act, "nobody"]);
        let error = format!("{:?}", error.err().context("it is there")?);
        ensure!(error.contains("there is no account `nobody`"), "{error}");
    }
    Ok(())
}

/// What mail push answers: who shows this header, asked for his devices.
fn devices(world: &World, (name, value): (&str, &str)) -> Result<u16> {
    let path = "/api/push/v1/subscriptions";
    let asked = Request::get(path).header(name, value);
    Ok(asked.send(world.server.address()?)?.status)
}

fn nobody_of_a_closed_account_has_mail_pushed(world: &World) -> Result<()> {
    let number = unique("account");
    filled(world, &number)?;
    let person = json!({"scope": "person", "context": number, "user": "joe"});
    let (secret, _) = token(&world.admin(), person)?;
    let authorization = format!("Bearer {secret}");
    let by_token = ("Authorization", &*authorization);
    let identity = identity(&number);
    let by_identity = ("X-RH-IDENTITY", &*identity);
    ensure!(devices(world, by_token)? == 200 && devices(world, by_identity)? == 200);
    let path = format!("/accounts/{number}");
    world.admin().delete(&path)?.with(204)?;
    ensure!(devices(world, by_token)? == 401 && devices(world, by_identity)? == 403);
    let reopen = format!("{path}/reopen");
    world.admin().post(&reopen, &json!({}))?.with(200)?;
    ensure!(devices(world, by_token)? == 401 && devices(world, by_identity)? == 200);
    Ok(())
}

/// Drivers of the configuration have an account of such a number: nobody closes that.
fn what_nobody_can_type_is_no_account(world: &World) -> Result<()> {
    let path = "/accounts/%01every%20account";
    world.admin().delete(path)?.with(404)?;
    world.admin().get(path)?.with(404)?;
    let reopen = format!("{path}/reopen");
    world.admin().post(&reopen, &json!({}))?.with(404)?;
    Ok(())
}

fn only_an_admin_sees_and_closes_accounts(world: &World) -> Result<()> {
    let number = unique("account");
    let (secret, ..) = filled(world, &number)?;
    let (registrar, _) = token(&world.admin(), json!({"scope": "registration"}))?;
    let fields = json!({"scope": "send", "applications": ["a"]});
    let (sender, _) = token(&world.admin(), fields)?;
    let path = format!("/accounts/{number}");
    for user in [
        bearer(&world.server, &secret),
        bearer(&world.server, &registrar),
        bearer(&world.server, &sender),
        of(world, &number),
    ] {
        for said in [
            user.get("/accounts")?,
            user.get(&path)?,
            user.delete(&path)?,
            user.post(&format!("{path}/reopen"), &json!({}))?,
        ] {
            said.refused(403, "Only an admin token may", "")?;
        }
    }
    for said in [
        world.admin().get("/accounts/nobody")?,
        world.admin().delete("/accounts/nobody")?,
        world.admin().post("/accounts/nobody/reopen", &json!({}))?,
    ] {
        said.not_found("Could not find Account")?;
    }
    Ok(())
}

fn a_user_who_is_not_active_is_refused(world: &World) -> Result<()> {
    let number = unique("account");
    for (is_active, status) in [
        (json!(false), 403),
        (json!(true), 200),
        (Value::Null, 200),
        (json!(false), 403),
    ] {
        let user = json!({"username": "joe", "is_active": is_active});
        let header = json!({"identity": {"account_number": number, "user": user}});
        let header = STANDARD.encode(header.to_string());
        let user = world.nobody().header("X-RH-IDENTITY", &header);
        let said = user.get("/endpoints")?;
        ensure!(said.answer.status == status, "{is_active}: {said:?}");
        if status == 403 {
            said.refused(403, "The user of X-RH-IDENTITY is not active", "")?;
            continue;
        }
        let made = shown(world, &number)?;
        ensure!(text(&made.json["data"]["attributes"]["number"])? == number);
    }
    Ok(())
}

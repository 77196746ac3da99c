//! Arrays of notifications, each with its own answer, and requests that are sent again.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::setup::{MEDIA_TYPE, PREFIX, Said, User, World, bearer, cases, text, unique};
use crate::sources::{endpoint, message, token};

cases![
    each_of_an_array_has_its_own_answer,
    an_account_sends_an_array_for_itself_only,
    an_array_is_in_the_log_in_its_order,
    an_array_that_is_none_or_too_large_is_refused_as_a_whole,
    an_answer_with_many_errors_is_bounded,
    what_is_sent_again_with_its_key_is_there_once,
    a_key_that_is_none_is_refused,
];

const ARRIVAL: std::time::Duration = dovecast_testkit::PATIENCE;

/// Sends an array of any bytes.
fn post(server: &Server, token: &str, body: Vec<u8>) -> Result<Said> {
    let request = Request::new("POST", &format!("{PREFIX}/messages"))
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", MEDIA_TYPE)
        .body(body);
    let answer = server.ask(&request)?;
    let json = serde_json::from_str(&answer.body).unwrap_or_default();
    Ok(Said { answer, json })
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [b"[", &*items.join(&b","[..]), b"]"].concat()
}

fn numbered(account: &str, number: usize) -> Value {
    let mut sent = message(account);
    sent["message"] = json!(number);
    sent
}

/// Numbers of an account's notifications in the log, in its order.
fn in_the_log(server: &Server, account: &str) -> Result<Vec<u64>> {
    let values = server.values("hooks.outbox")?;
    let values = values
        .iter()
        .filter_map(|value| serde_json::from_str::<Value>(value).ok());
    let ours = values.filter(|value| value["account_id"] == account);
    ours.map(|value| value["message"].as_u64().context("no number"))
        .collect()
}

fn results(said: &Said) -> Result<&Vec<Value>> {
    said.json["results"].as_array().context("no results")
}

fn has_status(object: &Value, status: u16) -> bool {
    object["status"].as_str() == Some(&*status.to_string())
}

fn ids(said: &Said) -> Result<Vec<String>> {
    results(said)?
        .iter()
        .map(|one| text(&one["data"]["id"]))
        .collect()
}

fn each_of_an_array_has_its_own_answer(world: &World) -> Result<()> {
    let (token, account) = token(world, "account")?;
    let sink = endpoint(&bearer(&world.server, &token))?;
    let good = |number| numbered(&account, number).to_string().into_bytes();
    let mut without = message(&account);
    without.as_object_mut().context("fields")?.remove("level");
    let mut long = message(&account);
    long["message"] = json!("x".repeat(1024 * 1024));
    let mut not_utf8 = good(9);
    let place = not_utf8.len() - 3;
    // Within the text of the time, which is the last field.
    not_utf8[place] = 0xff;
    let nul = good(9);
    let nul = String::from_utf8(nul)?.replace("\"a\"", "\"\\u0000\"");
    let items = [
        (good(0), 201, "", ""),
        (
            without.to_string().into_bytes(),
            422,
            "is missing",
            "/1/level",
        ),
        (good(2), 201, "", ""),
        (
            long.to_string().into_bytes(),
            413,
            "longer than 1048576 bytes",
            "/3",
        ),
        (array(&[good(9), good(9)]), 400, "is not an object", "/4"),
        (not_utf8, 400, "is not JSON", "/5"),
        (nul.into_bytes(), 400, "NUL character", "/6"),
        (b"null".to_vec(), 400, "is not an object", "/7"),
        (
            message("another").to_string().into_bytes(),
            403,
            "its own account only",
            "/8",
        ),
        (good(9 + 1), 201, "", ""),
    ];
    let bodies: Vec<Vec<u8>> = items.iter().map(|(body, ..)| body.clone()).collect();
    let said = post(&world.server, &token, array(&bodies))?.with(207)?;
    ensure!(
        said.json["meta"] == json!({"accepted": 3, "refused": 7}),
        "{said:?}"
    );
    let results = results(&said)?;
    ensure!(results.len() == items.len(), "{said:?}");
    let mut accepted = Vec::new();
    for (result, (_, status, detail, pointer)) in results.iter().zip(&items) {
        ensure!(has_status(result, *status), "{result}");
        if *status == 201 {
            accepted.push(text(&result["data"]["id"])?.replace('-', ""));
            let expected =
                json!({"status": "201", "data": {"type": "message", "id": result["data"]["id"]}});
            ensure!(*result == expected, "{result}");
            continue;
        }
        let error = &result["errors"][0];
        let told = error["detail"].as_str().unwrap_or_default();
        ensure!(
            told.contains(detail)
                && error["source"]["pointer"] == *pointer
                && has_status(error, *status),
            "{result}"
        );
    }
    ensure!(in_the_log(&world.server, &account)? == [0, 2, 10]);
    let hooks = sink.wait_for(3, ARRIVAL)?;
    for id in accepted {
        let is_it = |webhook: Option<&str>| webhook.is_some_and(|webhook| webhook.contains(&id));
        let found = hooks.iter().any(|hook| is_it(hook.header("webhook-id")));
        ensure!(found, "{id} was not delivered: {hooks:?}");
    }
    Ok(())
}

fn an_account_sends_an_array_for_itself_only(world: &World) -> Result<()> {
    let (token, account) = token(world, "account")?;
    let user = bearer(&world.server, &token);
    let mut own = numbered(&account, 1);
    own.as_object_mut().context("fields")?.remove("account_id");
    let said = user.post("/messages", &json!([own, own]))?.with(201)?;
    ensure!(
        said.json["meta"] == json!({"accepted": 2, "refused": 0}),
        "{said:?}"
    );
    let said = user.post("/messages", &json!([message("another")]))?;
    let said = said.with(207)?;
    ensure!(results(&said)?[0]["status"] == "403", "{said:?}");
    ensure!(in_the_log(&world.server, &account)? == [1, 1]);
    world
        .nobody()
        .post("/messages", &json!([own]))?
        .unauthenticated("`Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided")
}

fn an_array_is_in_the_log_in_its_order(world: &World) -> Result<()> {
    const COUNT: usize = 10_000;
    let account = unique("number");
    let small = |number| json!({"application": "a", "event_type": "e", "level": null, "message": number, "account_id": account});
    let items: Vec<Value> = (0..COUNT).map(small).collect();
    let said = world.admin().post("/messages", &json!(items))?.with(201)?;
    let mut ids = ids(&said)?;
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == COUNT, "{} ids", ids.len());
    let found = in_the_log(&world.server, &account)?;
    let expected: Vec<u64> = (0..COUNT as u64).collect();
    ensure!(found == expected, "{found:?}");
    Ok(())
}

fn an_array_that_is_none_or_too_large_is_refused_as_a_whole(world: &World) -> Result<()> {
    let builder = world.fresh()?.0;
    let server = builder
        .http("max_messages = 3\nmax_messages_bytes = 1_500_000")
        .start()?;
    let token = server.admin_token()?;
    let one = message("1").to_string();
    let padded = |bytes: usize| {
        let mut long = message("1");
        long["message"] = json!("x".repeat(bytes));
        long.to_string()
    };
    for (body, status, detail) in [
        ("[]".to_owned(), 400, "the array is empty"),
        (format!("[{one}"), 400, "not JSON"),
        (format!("[{one},]"), 400, "not JSON"),
        (format!("[{one}]{one}"), 400, "not JSON"),
        (format!("[{one},{{\"a\":}}]"), 400, "its notification 1"),
        (
            format!("[{one},{one},{one},{one}]"),
            413,
            "more than 3 notifications",
        ),
        (
            format!("[{},{}]", padded(1_000_000), padded(600_000)),
            413,
            "longer than 1500000 bytes",
        ),
        // Only an array may be longer than others.
        (padded(1_100_000), 413, "longer than 1048576 bytes"),
    ] {
        let said = post(&server, &token, body.into_bytes())?;
        said.refused(status, detail, "")?;
    }
    let records = server.values("hooks.outbox").unwrap_or_default();
    ensure!(records.is_empty(), "{records:?}");
    let body = format!("[{},{},{one}]", padded(1_000_000), padded(400_000));
    post(&server, &token, body.into_bytes())?.with(201)?;
    Ok(())
}

fn an_answer_with_many_errors_is_bounded(world: &World) -> Result<()> {
    let fields: Vec<String> = (0..1000).map(|number| format!("\"{number}\":0")).collect();
    let wrong = format!("{{{}}}", fields.join(","));
    let body = format!("[{}]", vec![wrong; 100].join(","));
    let said = world.admin().ask("POST", "/messages", Some(&body))?;
    let said = said.with(207)?;
    for result in results(&said)? {
        let errors = result["errors"].as_array().map_or(0, Vec::len);
        ensure!((1..=10).contains(&errors), "{result}");
    }
    Ok(())
}

fn with_key<'a>(world: &'a World, key: &str) -> User<'a> {
    world.admin().header("Idempotency-Key", key)
}

fn what_is_sent_again_with_its_key_is_there_once(world: &World) -> Result<()> {
    let (key, account) = (unique("key"), unique("number"));
    let one = numbered(&account, 1);
    let id = |said: Said| text(&said.with(201)?.json["data"]["id"]);
    let first = id(with_key(world, &key).post("/messages", &one)?)?;
    let again = id(with_key(world, &key).post("/messages", &one)?)?;
    ensure!(first == again, "{first} {again}");
    // Neither another key nor another notification is the same request.
    let another = id(with_key(world, &unique("key")).post("/messages", &one)?)?;
    let changed = id(with_key(world, &key).post("/messages", &numbered(&account, 2))?)?;
    ensure!(another != first && changed != first && changed != another);
    ensure!(in_the_log(&world.server, &account)? == [1, 1, 2]);

    let account = unique("number");
    // The same notification twice in an array is two.
    let items = json!([
        numbered(&account, 7),
        numbered(&account, 7),
        {},
        numbered(&account, 8)
    ]);
    let first = with_key(world, &key).post("/messages", &items)?.with(207)?;
    let again = with_key(world, &key).post("/messages", &items)?.with(207)?;
    ensure!(first.json == again.json, "{first:?} {again:?}");
    // What was refused is sent again alone.
    let mended = json!([numbered(&account, 9)]);
    with_key(world, &key)
        .post("/messages", &mended)?
        .with(201)?;
    ensure!(in_the_log(&world.server, &account)? == [7, 7, 8, 9]);
    Ok(())
}

fn a_key_that_is_none_is_refused(world: &World) -> Result<()> {
    let long = "k".repeat(256);
    for key in ["", "\u{e4}", &long] {
        let said = with_key(world, key).post("/messages", &message("1"))?;
        said.refused(400, "Idempotency-Key", "")?;
    }
    let twice = with_key(world, "a").header("Idempotency-Key", "b");
    let said = twice.post("/messages", &message("1"))?;
    said.refused(400, "Idempotency-Key", "")
}

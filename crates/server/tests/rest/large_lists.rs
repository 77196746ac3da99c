//! Lists whose parts are large: an answer has so many bytes, whatever `limit` says.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields};
use crate::doors::{an_endpoint, list, printed};
use crate::setup::{PREFIX, User, World, bearer, cases, delivering, text, unique};

cases![
    a_page_of_dead_letters_ends_with_four_mebibytes,
    a_page_of_filters_in_words_ends_with_four_mebibytes,
    an_account_that_reads_no_answer_has_four_lists_and_another_has_its_own,
];

/// Message of which four are in a page.
const MESSAGE_BYTES: usize = 1_000_000;

/// Ids of each part of a list, by its links.
fn parts(user: &User<'_>, path: &str) -> Result<Vec<Vec<Value>>> {
    let (mut next, mut found) = (Some(path.to_owned()), Vec::new());
    while let Some(path) = next {
        let said = user.get(&path)?.with(200)?;
        let data = list(&said.json["data"])?;
        found.push(data.iter().map(|one| one["id"].clone()).collect());
        let link = said.json["links"]["next"].as_str();
        next = link.and_then(|link| Some(link.split_once(PREFIX)?.1.to_owned()));
    }
    Ok(found)
}

fn a_page_of_dead_letters_ends_with_four_mebibytes(world: &World) -> Result<()> {
    let (user, _) = account(world)?;
    let sink = HookEndpoint::start()?;
    sink.answer(404);
    let id = user.endpoint(&fields(&sink, &json!({})))?;
    let message = "x".repeat(MESSAGE_BYTES);
    let notification =
        json!({"application": "a", "event_type": "e", "level": null, "message": message});
    for _ in 0..5 {
        user.post("/messages", &notification)?.with(201)?;
    }
    let path = format!("/endpoints/{id}/dead_letters?limit=1000");
    let found = poll_until(ARRIVAL, || {
        let found = parts(&user, &path).ok()?;
        (found.iter().flatten().count() == 5).then_some(found)
    });
    let found = found.context("not all are dead letters")?;
    let lengths: Vec<_> = found.iter().map(Vec::len).collect();
    ensure!(lengths == [4, 1], "{found:?}");
    // The command asks until it has what was asked for.
    for (limit, expected) in [("5", 5), ("1000", 5), ("3", 3)] {
        let of = ["dead-letters", "--endpoint", &id, "--limit", limit];
        let lines = printed(world, &of)?;
        let lines = list(&lines)?;
        ensure!(lines.len() == expected, "{} lines", lines.len());
        let is_whole = |line: &Value| line["body"].to_string().len() > MESSAGE_BYTES;
        ensure!(lines.iter().all(is_whole));
    }
    Ok(())
}

/// Event types of which a filter in words has about half a mebibyte.
const EVENT_TYPES: usize = 1_000;
const ENDPOINTS: usize = 20;

fn a_page_of_filters_in_words_ends_with_four_mebibytes(world: &World) -> Result<()> {
    let (user, _) = account(world)?;
    let long = "x".repeat(250);
    let event_types = (0..EVENT_TYPES).map(|n| json!({"id": format!("{n}{long}"), "title": "t"}));
    let event_types: Vec<_> = event_types.collect();
    let application = json!({"name": unique("app"), "title": "t"});
    let registration = json!({"application": application, "event_types": event_types});
    let registered = world.admin().post("/apps/register", &registration)?;
    let registered = registered.with(200)?;
    let included = list(&registered.json["included"])?;
    let of_type = included.iter().filter(|one| one["type"] == "event_type");
    let ids: Vec<_> = of_type.map(|one| one["id"].clone()).collect();
    ensure!(ids.len() == EVENT_TYPES, "{}", ids.len());
    let mut made = Vec::new();
    for _ in 0..ENDPOINTS {
        let filter = json!({"event_type_ids": ids});
        made.push(json!(an_endpoint(&user, &filter)?));
    }
    let found = parts(&user, "/filters")?;
    ensure!(found.concat() == made, "{found:?}");
    let lengths: Vec<_> = found.iter().map(Vec::len).collect();
    ensure!(lengths.len() > 1 && lengths[0] > 1, "{lengths:?}");
    let first = user.get("/filters")?.with(200)?.answer.body.len();
    ensure!(first < 5 * 1024 * 1024, "{first} bytes");
    let bad = user.get("/filters?after=7")?;
    bad.refused(422, "`7` is not the id of an endpoint", "after")
}

/// Token of an account of a server.
fn token(server: &Server, number: &str) -> Result<String> {
    let admin = bearer(server, &server.admin_token()?);
    let fields = json!({"name": "t", "scope": "account", "account_number": number});
    let made = admin.post("/tokens", &json!({"token": fields}))?;
    text(&made.with(201)?.json["meta"]["token"])
}

/// A request of which the answer is begun, and is not read any further.
fn unread(server: &Server, token: &str, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address()?)?;
    let request =
        format!("GET {PREFIX}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    ensure!(&status == b"HTTP/1.1 200", "{status:?}");
    Ok(stream)
}

fn an_account_that_reads_no_answer_has_four_lists_and_another_has_its_own(
    world: &World,
) -> Result<()> {
    let server = delivering(world.fresh()?.0).start()?;
    let (token, other) = (token(&server, "7")?, token(&server, "8")?);
    let (owner, other) = (bearer(&server, &token), bearer(&server, &other));
    let sink = HookEndpoint::start()?;
    sink.answer(404);
    let id = owner.endpoint(&fields(&sink, &json!({})))?;
    // Twice as long in a body, and again in an answer: more than the connection holds.
    let message = "\\".repeat(500_000);
    let notification =
        json!({"application": "a", "event_type": "e", "level": null, "message": message});
    for _ in 0..4 {
        owner.post("/messages", &notification)?.with(201)?;
    }
    let path = format!("/endpoints/{id}/dead_letters?limit=4");
    let are_dead = || {
        let letters = owner.get(&path).ok()?;
        (letters.json["data"].as_array()?.len() == 4).then_some(())
    };
    poll_until(ARRIVAL, are_dead).context("not all are dead letters")?;
    let held = (0..4).map(|_| unread(&server, &token, &path));
    let held = held.collect::<Result<Vec<_>>>()?;
    for path in ["/endpoints", "/filters", &path] {
        let said = owner.get(path)?.with(429)?;
        ensure!(said.answer.header("retry-after") == Some("1"), "{said:?}");
        let detail = "4 lists or explanations of this account are under way";
        said.refused(429, detail, "")?;
    }
    let explain = json!({"application": "a", "event_type": "e", "level": null});
    let said = owner.post("/explain", &json!({"explain": explain}))?;
    said.refused(429, "4 lists or explanations of this account", "")?;
    let refused = server.metric("dovecast_quota_refused_total{of=\"read\"}")?;
    ensure!((refused - 4.0).abs() < f64::EPSILON, "{refused}");
    other.get("/endpoints")?.with(200)?;
    drop(held);
    let is_let_in = || (owner.get("/endpoints").ok()?.answer.status == 200).then_some(());
    poll_until(ARRIVAL, is_let_in).context("no place is free again")
}

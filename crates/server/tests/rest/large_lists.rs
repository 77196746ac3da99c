//! Lists whose parts are large: an answer has so many bytes, whatever `limit` says.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, fields};
use crate::doors::{list, printed};
use crate::setup::{User, World, cases};

cases![a_page_of_dead_letters_ends_with_four_mebibytes];

/// Message of which four are in a page.
const MESSAGE_BYTES: usize = 1_000_000;

/// Numbers of letters of each part of a list, by its links.
fn parts(user: &User<'_>, path: &str) -> Result<Vec<usize>> {
    let (mut next, mut found) = (Some(path.to_owned()), Vec::new());
    while let Some(path) = next {
        let said = user.get(&path)?.with(200)?;
        found.push(list(&said.json["data"])?.len());
        let link = said.json["links"]["next"].as_str();
        next = link.and_then(|link| link.find("/endpoints/").map(|at| link[at..].to_owned()));
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
        (found.iter().sum::<usize>() == 5).then_some(found)
    });
    let found = found.context("not all are dead letters")?;
    ensure!(found == [4, 1], "{found:?}");
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

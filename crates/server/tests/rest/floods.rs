//! What one account may leave in the store, and how many users a proxy may name: what is more goes,
//! or comes later, and other accounts notice nothing.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::setup::{Database, Said, User, World, bearer, cases, delivering, identity, named, text};
use crate::sources::message;

cases![
    a_body_is_stored_once_for_all_endpoints_that_refuse_it,
    an_account_with_too_many_dead_letters_loses_its_oldest_and_others_keep_theirs,
    an_account_with_too_large_dead_letters_loses_its_oldest_and_others_keep_theirs,
    of_a_record_that_is_no_notification_the_beginning_is_kept,
    very_many_users_that_a_proxy_names_are_refused_and_those_who_are_known_are_not,
    what_a_clock_that_was_ahead_put_off_is_delivered_after_a_restart,
];

const ENDPOINTS: usize = 20;
/// Few: who refuses is asked less and less often.
const MESSAGES: usize = 3;
/// Bytes of a message, of which nothing repeats.
const LARGE_BYTES: usize = 900_000;
/// How much the store may grow, in bytes: a quarter of what is refused.
const GROWS_AT_MOST: i64 = 13_500_000;
/// Most bytes that are kept of a record that is no notification.
const BEGINNING_BYTES: usize = 4096;
/// Users that are new at once; an account may make fifty.
const USERS: usize = 1_000;
const TWO_HOURS_MS: i64 = 2 * 60 * 60 * 1_000;

fn account<'a>(server: &'a Server, number: &str) -> Result<User<'a>> {
    let admin = bearer(server, &server.admin_token()?);
    let fields = json!({"name": "t", "scope": "account", "account_number": number});
    let made = admin
        .post("/tokens", &json!({"token": fields}))?
        .with(201)?;
    Ok(bearer(server, &text(&made.json["meta"]["token"])?))
}

/// Bytes that the store takes, on its disk.
fn stored(server: &Server, database: &Database) -> Result<i64> {
    match database {
        Database::Sqlite => {
            let (mut bytes, dir) = (0, server.data_dir());
            for name in ["state.db", "state.db-wal"] {
                bytes += std::fs::metadata(dir.join(name)).map_or(0, |file| file.len());
            }
            Ok(i64::try_from(bytes)?)
        }
        Database::Postgres(..) => {
            database.count(server, "SELECT pg_database_size(current_database())")
        }
    }
}

fn letters(server: &Server, database: &Database, count: i64) -> Result<()> {
    let all = "SELECT COUNT(*) FROM dead_letter";
    let there = poll_until(PATIENCE, || {
        (database.count(server, all).ok()? == count).then_some(())
    });
    there.with_context(|| {
        let letters = database.count(server, all);
        format!(
            "{letters:?} dead letters, not {count}: {}",
            server.server_log()
        )
    })
}

fn a_body_is_stored_once_for_all_endpoints_that_refuse_it(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let mut server = delivering(builder).start()?;
    let before = stored(&server, &database)?;
    // It answers until all is refused: to whom nothing answers little is sent.
    let sink = HookEndpoint::start()?;
    sink.answer(404);
    {
        let owner = account(&server, "7")?;
        for number in 0..ENDPOINTS {
            let name = format!("e{number}");
            owner.endpoint(
                &json!({"name": name, "url": sink.url(), "filter": {}, "retry_delays": []}),
            )?;
        }
        for _ in 0..MESSAGES {
            let mut large = message("7");
            let parts = (0..LARGE_BYTES / 32).map(|_| Uuid::now_v7().simple().to_string());
            large["message"] = json!(parts.collect::<String>());
            owner.post("/messages", &large)?.with(201)?;
        }
    }
    letters(&server, &database, i64::try_from(ENDPOINTS * MESSAGES)?)?;
    // What has been written ahead is in the file then.
    ensure!(server.stop()?.success());
    let grown = stored(&server, &database)? - before;
    ensure!(grown < GROWS_AT_MOST, "the store has grown by {grown}");
    Ok(())
}

fn an_account_with_too_many_dead_letters_loses_its_oldest_and_others_keep_theirs(
    world: &World,
) -> Result<()> {
    const MOST: u32 = 5;
    let (builder, database) = world.fresh()?;
    let config =
        format!("[dispatch]\nallowed_networks = ['127.0.0.0/8']\naccount_dead_letters = {MOST}");
    let server = builder.config(&config).start()?;
    let sink = HookEndpoint::start()?;
    sink.answer(404);
    let mut of_other = None;
    for (number, count) in [("8", MOST), ("7", 2 * MOST)] {
        let owner = account(&server, number)?;
        let fields = json!({"name": "e", "url": sink.url(), "filter": {}, "retry_delays": []});
        let id = owner.endpoint(&fields)?;
        for _ in 0..count {
            owner.post("/messages", &message(number))?.with(201)?;
        }
        of_other.get_or_insert((owner, id));
    }
    // Once a minute.
    server.metric_is("dovecast_quota_removed_total{of=\"dead_letter\"}", |gone| {
        gone >= f64::from(MOST)
    })?;
    letters(&server, &database, i64::from(2 * MOST))?;
    let (other, id) = of_other.context("no account")?;
    let kept = other
        .get(&format!("/endpoints/{id}/dead_letters"))?
        .with(200)?;
    let kept = kept.json["data"].as_array().map(Vec::len);
    ensure!(kept == Some(usize::try_from(MOST)?), "{kept:?}");
    server.log_with(&["dead letters of accounts were removed that have too many"])?;
    Ok(())
}

/// Notifications of the dead letters of an endpoint, the newest first.
fn dead(owner: &User<'_>, id: &str) -> Result<Vec<String>> {
    let letters = owner
        .get(&format!("/endpoints/{id}/dead_letters"))?
        .with(200)?;
    let letters = letters.json["data"].as_array().context("no list")?;
    let of = |letter: &Value| text(&letter["attributes"]["notification"]);
    letters.iter().map(of).collect()
}

fn an_account_with_too_large_dead_letters_loses_its_oldest_and_others_keep_theirs(
    world: &World,
) -> Result<()> {
    const COUNT: usize = 3;
    let (builder, database) = world.fresh()?;
    let config = "[dispatch]\nallowed_networks = ['127.0.0.0/8']\naccount_dead_letters_mb = 1";
    let server = builder.config(config).start()?;
    let sink = HookEndpoint::start()?;
    sink.answer(404);
    let mut owners = Vec::new();
    for (number, bytes) in [("8", 10), ("7", LARGE_BYTES)] {
        let owner = account(&server, number)?;
        let fields = json!({"name": "e", "url": sink.url(), "filter": {}, "retry_delays": []});
        let id = owner.endpoint(&fields)?;
        let mut sent = Vec::new();
        for place in 0..COUNT {
            let mut one = message(number);
            one["message"] = json!(format!("{place} {}", "x".repeat(bytes)));
            let said = owner.post("/messages", &one)?.with(201)?;
            sent.push(text(&said.json["data"]["id"])?);
            // One after the other, so that it is known which is the oldest.
            let attempted = poll_until(PATIENCE, || {
                let attempts = owner.get(&format!("/endpoints/{id}/attempts")).ok()?;
                (attempts.json["data"].as_array()?.len() > place).then_some(())
            });
            attempted.with_context(|| server.server_log())?;
        }
        sent.reverse();
        owners.push((owner, id, sent));
    }
    // Once a minute; there is room for one of the large ones.
    let removed = "dovecast_quota_removed_total{of=\"dead_letter\"}";
    let removed = server.metric_is(removed, |gone| gone > 1.0)?;
    letters(&server, &database, i64::try_from(COUNT + 1)?)?;
    for ((owner, id, sent), kept) in owners.iter().zip([COUNT, 1]) {
        let there = dead(owner, id)?;
        ensure!(there == sent[..kept], "{removed}: {there:?} of {sent:?}");
    }
    Ok(())
}

/// Whoever may write to the topic of notifications leaves little of nonsense in the store.
fn of_a_record_that_is_no_notification_the_beginning_is_kept(world: &World) -> Result<()> {
    let server = world.fresh()?.0.start()?;
    let nonsense = "nonsense ".repeat(LARGE_BYTES / 9);
    // Too long for an argument.
    let mut send = server
        .command(["send", "--topic=hooks.outbox"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut input = send.stdin.take().expect("standard input");
    let written = input.write_all(nonsense.as_bytes());
    drop(input);
    let ended = send.wait()?;
    ensure!(written.is_ok() && ended.success(), "{written:?}, {ended}");
    let letters = || -> Result<Vec<Value>> {
        let listed = server.run(["dead-letters", "--json"])?;
        Ok(serde_json::from_str(&listed)?)
    };
    let first = poll_until(PATIENCE, || letters().ok()?.into_iter().next());
    let letter = first.with_context(|| server.server_log())?;
    let (body, reason) = (text(&letter["body"])?, text(&letter["reason"])?);
    ensure!(
        !body.is_empty() && body.len() <= BEGINNING_BYTES && nonsense.starts_with(&body),
        "{} bytes are kept: {reason}",
        body.len()
    );
    let kept = format!("; {} of its {} bytes are kept", body.len(), nonsense.len());
    ensure!(reason.ends_with(&kept), "{reason}");
    ensure!(
        letter["endpoint"] == Value::Null && letters()?.len() == 1,
        "{letter}"
    );
    Ok(())
}

fn very_many_users_that_a_proxy_names_are_refused_and_those_who_are_known_are_not(
    world: &World,
) -> Result<()> {
    let builder = world.fresh()?.0.http("trusted_proxies = ['127.0.0.1']");
    let server = builder.start()?;
    let seen = |account: &str, name: &str| -> Result<Said> {
        let mut known: Value = serde_json::from_slice(&STANDARD.decode(identity(account))?)?;
        known["identity"]["user"]["username"] = json!(name);
        named(&server, &STANDARD.encode(known.to_string())).get("/endpoints")
    };
    seen("crowd", "first")?.with(200)?;
    let mut refused = None;
    for number in 0..USERS {
        let said = seen("crowd", &format!("user-{number}"))?;
        if said.answer.status != 200 {
            refused = Some(said);
            break;
        }
    }
    let refused = refused.context("nobody is refused")?.with(429)?;
    let after = refused
        .answer
        .header("retry-after")
        .context("no Retry-After")?;
    ensure!(after.parse::<u64>()? > 0, "{after}");
    refused.refused(
        429,
        "Too many users of the account are new at the moment",
        "",
    )?;
    seen("crowd", "first")?.with(200)?;
    seen("other", "first")?.with(200)?;
    let counted = server.metric("dovecast_quota_refused_total{of=\"identity\"}")?;
    ensure!(counted >= 1.0, "{counted}");
    Ok(())
}

/// The clock was two hours ahead when the next attempt was put off, and is right after a restart.
fn what_a_clock_that_was_ahead_put_off_is_delivered_after_a_restart(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let mut server = delivering(builder).start()?;
    let sink = HookEndpoint::start()?;
    sink.answer(503);
    {
        let owner = account(&server, "7")?;
        let delays = json!({"name": "e", "url": sink.url(), "filter": {}, "retry_delays": [3600]});
        owner.endpoint(&delays)?;
        owner.post("/messages", &message("7"))?.with(201)?;
    }
    let owed = || database.count(&server, "SELECT COUNT(*) FROM owed WHERE failures > 0");
    let is_owed = poll_until(PATIENCE, || (owed().ok()? == 1).then_some(()));
    is_owed.with_context(|| format!("{:?} deliveries are owed", owed()))?;
    ensure!(server.stop()?.success());
    let ahead = format!(
        "UPDATE owed SET due_ms = due_ms + {TWO_HOURS_MS}, made_ms = made_ms + {TWO_HOURS_MS}"
    );
    database.execute(&server, &ahead)?;
    sink.answer(204);
    server.start_again()?;
    sink.wait_for(1, PATIENCE)?;
    Ok(())
}

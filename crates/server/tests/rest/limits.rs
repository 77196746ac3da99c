//! What Kafka never takes: no door takes it, and what gets as far as Kafka all the same is a dead
//! letter.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::http::Request;
use dovecast_testkit::mock_broker::{MockBroker, ResponseError};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::setup::{World, bearer, cases, text};

cases![
    what_is_too_large_for_kafka_is_refused_with_the_limit,
    a_lower_limit_of_the_producer_counts_at_every_door,
    what_kafka_refuses_is_named_and_a_dead_letter,
];

const ARRIVAL: Duration = Duration::from_mins(1);

fn server(world: &World, brokers: &str, properties: &str) -> Result<Server> {
    let kafka = format!(
        "[log]\nkind = 'kafka'\n[kafka]\nbrokers = ['{brokers}']\n[kafka.properties]\n{properties}"
    );
    let builder = world.fresh()?.0;
    builder
        .config("[ox]\nuser = 'u'\npassword = 'p'")
        .config(&kafka)
        .start()
}

fn message(bytes: usize) -> Value {
    json!({"application": "a", "event_type": "e", "level": null, "message": "x".repeat(bytes), "account_id": "1"})
}

fn what_is_too_large_for_kafka_is_refused_with_the_limit(world: &World) -> Result<()> {
    // Nobody need be there to say what librdkafka takes.
    let server = server(world, "127.0.0.1:1", "")?;
    let admin = bearer(&server, &server.admin_token()?);
    for bytes in [10, 998_000] {
        admin.post("/messages", &message(bytes))?.with(201)?;
    }
    for bytes in [999_500, 1_000_000, 1_030_000] {
        let refused = admin.post("/messages", &message(bytes))?.with(413)?;
        let detail = text(&refused.json["errors"][0]["detail"])?;
        ensure!(
            detail.contains("takes 998976 at most") && detail.contains("message.max.bytes"),
            "{detail}"
        );
    }
    Ok(())
}

fn a_lower_limit_of_the_producer_counts_at_every_door(world: &World) -> Result<()> {
    let server = server(world, "127.0.0.1:1", "'message.max.bytes' = 20000")?;
    let admin = bearer(&server, &server.admin_token()?);
    let mail = |bytes: usize| {
        json!({"user": "u", "event": "messageNew", "folder": "INBOX", "imap-uidvalidity": 1, "imap-uid": bytes,
            "from": "a@example.org", "subject": "s", "snippet": "x".repeat(bytes), "unseen": 1})
    };
    let login = format!("Basic {}", STANDARD.encode("u:p"));
    for (bytes, status) in [(10_000, true), (30_000, false)] {
        let expected = |taken| if status { taken } else { 413 };
        admin
            .post("/messages", &message(bytes))?
            .with(expected(201))?;
        let request = Request::new("PUT", "/preliminary/http-notify/v1/notify")
            .header("Content-Type", "application/json")
            .header("Authorization", &login)
            .body(mail(bytes).to_string());
        let answer = server.ask(&request)?;
        ensure!(answer.status == expected(200), "{answer:?}");
        let records =
            json!({"records": [{"topic": "t", "value": "x".repeat(bytes), "timestamp_ms": 0}]});
        let (answered, said) = control(&server, &records)?;
        ensure!(answered == expected(200), "{said}");
        ensure!(status || said.contains("takes 18976 at most"), "{said}");
    }
    Ok(())
}

/// Status and body of an append over the control socket.
fn control(server: &Server, records: &Value) -> Result<(u16, String)> {
    use std::io::{Read, Write};
    let body = records.to_string();
    let mut stream = std::os::unix::net::UnixStream::connect(server.control_socket())?;
    write!(
        stream,
        "POST /v1/records HTTP/1.1\r\nHost: dovecast\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}

fn what_kafka_refuses_is_named_and_a_dead_letter(world: &World) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let server = server(world, &broker.bootstrap_servers(), "")?;
    let admin = bearer(&server, &server.admin_token()?);
    let shipped = |name: &str| server.metric(name).unwrap_or_default();
    admin.post("/messages", &message(1))?.with(201)?;
    let is_there = || (shipped("dovecast_ship_records_total") > 0.0).then_some(());
    poll_until(ARRIVAL, is_there).context("nothing is shipped")?;
    // Once in a batch, and once alone.
    broker.fail_next_produces(&[ResponseError::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    let said = admin.post("/messages", &message(77))?.with(201)?;
    let id = text(&said.json["data"]["id"])?;
    let is_told = || {
        let counted = ["dead_letters", "refused_records"];
        let total = |what| shipped(&format!("dovecast_ship_{what}_total"));
        counted.iter().all(|what| total(what) > 0.0).then_some(())
    };
    poll_until(ARRIVAL, is_told).with_context(|| server.server_log())?;
    let refused = shipped("dovecast_ship_refused_records_total");
    ensure!(
        (refused - 1.0).abs() < f64::EPSILON,
        "{refused} were refused"
    );
    let letters = server.run(["dead-letters", "--json"])?;
    ensure!(
        letters.contains(&id) && letters.contains("Kafka refuses this record for good"),
        "{letters}"
    );
    let log = server.server_log();
    let named = log
        .lines()
        .find(|line| line.contains("kafka refuses a record for good: it is a dead letter"));
    let named = named.with_context(|| log.clone())?;
    for part in [&id, "hooks.outbox", "key=\"1\"", "bytes="] {
        ensure!(named.contains(part), "{part} is not in {named}");
    }
    Ok(())
}

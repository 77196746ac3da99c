//! A mail process that fills the log, with keys of all partitions: the events of its topic go, and
//! notifications that others have not got yet do not.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dovecast_relay::client::{Client, News, Options};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;

use crate::{builder, post, record, send};

/// What the log may hold, in megabytes; four times as much is sent.
const RETENTION_MB: usize = 16;
const RECORD_BYTES: usize = 500_000;
const RECORDS: u32 = 128;
/// Notifications that wait.
const NOTIFICATIONS: usize = 20;

fn fill(server: &Server) -> Result<()> {
    let mut client = Client::new(Options {
        socket: server.relay_socket().to_owned(),
        spill_dir: server.spill_dir().to_owned(),
        queue_bytes: 4 << 20,
        spill_bytes: 1 << 30,
        host: "mail1".to_owned(),
        program: "lmtp".to_owned(),
    });
    let large = format!(
        r#"{{"user":"greedy","mailbox":"{}","event":"MailboxDelete"}}"#,
        "x".repeat(RECORD_BYTES)
    );
    for number in 0..RECORDS {
        client.push(&record("dovecot", &format!("key-{number}"), &large));
        client.flush();
        client.serve();
    }
    client.finish(Instant::now() + PATIENCE);
    let news = client.take_news();
    let is_loss = |news: &News| matches!(news, News::Lost { .. });
    ensure!(!news.iter().any(is_loss), "{news:?}");
    // What did not fit into the queue is in a spill file.
    let all = poll_until(PATIENCE, || {
        let taken = ["records", "spill_records"].map(|records| {
            let sample = format!("dovecast_relay_{records}_total");
            server.metric(&sample).unwrap_or_default()
        });
        (taken.iter().sum::<f64>() >= f64::from(RECORDS)).then_some(())
    });
    all.with_context(|| server.server_log())
}

#[test]
fn who_fills_the_topic_of_events_takes_no_notification() -> Result<()> {
    let server = builder()
        .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
        .config("[quota]\nrelay_kb_per_second = 0\nrelay_records_per_second = 0")
        .config(&format!("[log]\nretention_mb = {RETENTION_MB}"))
        .start()?;
    let token = server.account_token("victim")?;
    let sink = HookEndpoint::start()?;
    let url = sink.url();
    let paused =
        format!(r#"{{"endpoint":{{"name":"e","url":"{url}","paused":true,"filter":{{}}}}}}"#);
    let made = post(&server, &token, "endpoints", &paused)?;
    ensure!(made.status == 201, "{made:?}");
    let made: serde_json::Value = serde_json::from_str(&made.body)?;
    let id = made["data"]["id"].as_str().context("no id")?;
    for number in 0..NOTIFICATIONS {
        send(&server, &token, &format!("number {number}"))?;
    }
    fill(&server)?;
    // More than there is room for has come, and as much has gone.
    let is_trimmed = poll_until(PATIENCE, || {
        let left = server.values("dovecot").ok()?.len();
        (left * RECORD_BYTES <= 2 * RETENTION_MB * 1_000_000).then_some(())
    });
    is_trimmed.context("nothing of the events is removed")?;
    let request = Request::new("PUT", &format!("/api/hooks/endpoints/{id}"))
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(r#"{"endpoint":{"paused":false}}"#);
    let answer = server.ask(&request)?;
    ensure!(answer.status == 200, "{answer:?}");
    let missing = || {
        let hooks = sink.hooks();
        let is_there = |number: &usize| {
            let message = format!("\"number {number}\"");
            hooks.iter().any(|hook| hook.body.contains(&message))
        };
        (0..NOTIFICATIONS)
            .filter(|number| !is_there(number))
            .count()
    };
    let all = poll_until(PATIENCE, || (missing() == 0).then_some(()));
    all.with_context(|| format!("{} of {NOTIFICATIONS} are lost", missing()))
}

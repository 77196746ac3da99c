//! A mail process that makes as many topics as there may be, on a server that lets it: what is sent
//! and received through the topics of the configuration goes on, and nothing that is refused is
//! acknowledged.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_relay::client::{Client, News, Options};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;

use crate::{builder, event, record, send};

/// More topics than there may be.
const TOPICS: usize = 1_500;
/// Lines about refused topics that a flood may make.
const MAX_LINES: usize = 20;

/// What a mail process is told of that sends these records.
fn sent(server: &Server, topics: impl Iterator<Item = String>, value: &str) -> Vec<News> {
    let mut client = Client::new(Options {
        socket: server.relay_socket().to_owned(),
        spill_dir: server.spill_dir().to_owned(),
        queue_bytes: 1 << 20,
        spill_bytes: 1 << 20,
        host: "mail1".to_owned(),
        program: "lmtp".to_owned(),
    });
    for topic in topics {
        client.push(&record(&topic, "ann", value));
    }
    client.flush();
    client.finish(Instant::now() + PATIENCE);
    client.take_news()
}

#[test]
fn where_there_are_too_many_topics_notifications_and_mail_go_on() -> Result<()> {
    let server = builder()
        .config("topics = ['*']\n[dispatch]\nallowed_networks = ['127.0.0.0/8']")
        .config("[ox]\nuser = 'dovecot'\npassword = 'secret'")
        .start()?;
    let news = sent(&server, (0..TOPICS).map(|topic| format!("t{topic}")), "{}");
    let mut lost = 0;
    for news in &news {
        let News::Lost { records, reason } = news else {
            continue;
        };
        ensure!(reason.contains("too many topics"), "{news:?}");
        lost += records;
    }
    let listed = server.run(["topics"])?;
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let is_new = |name: &&str| {
        let number = name.strip_prefix('t').unwrap_or_default();
        number.parse::<usize>().is_ok_and(|number| number < TOPICS)
    };
    let made: BTreeSet<&str> = names.filter(is_new).collect();
    // All the others were acknowledged.
    let refused = u64::try_from(TOPICS - made.len())?;
    ensure!(refused > 0 && lost == refused, "{lost} lost: {listed}");
    let dropped = server.metric("dovecast_relay_dropped_records_total")?;
    ensure!(dropped >= 1.0, "nothing is counted");
    let log = server.server_log();
    let lines = log.lines().filter(|line| line.contains("too many topics"));
    ensure!(lines.count() <= MAX_LINES, "{log}");

    let (status, said) = server.get("/readyz")?;
    ensure!(status == 200, "{said}");
    let token = server.account_token("ann")?;
    let sink = HookEndpoint::start()?;
    server.endpoint(&token, ("e", &sink.url()), "true")?;
    send(&server, &token, "real")?;
    let topic = || std::iter::once("dovecot".to_owned());
    let news = sent(&server, topic(), &event("ann", 1));
    ensure!(news.is_empty(), "{news:?}");
    let mail =
        r#"{"user":"ann","event":"messageNew","folder":"INBOX","imap-uidvalidity":1,"imap-uid":2}"#;
    let login = format!("Basic {}", STANDARD.encode("dovecot:secret"));
    let request = Request::new("PUT", "/preliminary/http-notify/v1/notify")
        .header("Authorization", &login)
        .header("Content-Type", "application/json")
        .body(mail);
    let answer = server.ask(&request)?;
    ensure!(answer.status == 200, "{answer:?}");
    let hooks = sink.wait_for(3, PATIENCE).context("all three")?;
    let has = |text: &str| hooks.iter().any(|hook| hook.body.contains(text));
    ensure!(
        has("real") && has("\"uid\":1") && has("\"uid\":2"),
        "{hooks:?}"
    );
    Ok(())
}

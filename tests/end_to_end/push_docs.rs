//! The steps of docs/push.md from a mail to a ring, as they stand there, with each source.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, PASSWORD, Series};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use serde_json::Value;

use crate::case::cases;
use crate::relay::server_for;
use crate::setup::{ARRIVAL, listen_at, with_plugin};
use crate::steps::{Page, Places, without_numbers};

cases![
    imapidle_rings_as_documented,
    dovecot_rings_as_documented,
    events_ring_as_documented,
    mailnotify_rings_as_documented,
];

const PAGE: Page = Page(include_str!("../../docs/push.md"));
/// How long a ring is waited for before another mail is sent: the mailbox may not be heard yet.
const NEXT_MAIL: Duration = Duration::from_secs(2);
const MAILS: usize = 30;

fn imapidle_rings_as_documented(on: Installation) -> Result<()> {
    let dovecot = Dovecot::builder().installation(on).no_plugins().start()?;
    rings(&dovecot, Server::builder().prepare()?, "imapidle")
}

fn dovecot_rings_as_documented(on: Installation) -> Result<()> {
    // The address of the server has to be known to Dovecot, and that of Dovecot to the server.
    let mut server = Server::builder().start()?;
    let address = server.address()?.to_string();
    server.stop()?;
    let places = Places(vec![("127.0.0.1:8087", address.clone())]);
    let config = match on.series() {
        Series::V2_3 => PAGE.block("dovecot.conf push 2.3")?,
        Series::V2_4 => PAGE.block("dovecot.conf push 2.4")?,
    };
    let dovecot = Dovecot::builder()
        .installation(on)
        .no_plugins()
        .config(&places.put_into(&config))
        .start()?;
    listen_at(&server, &address)?;
    rings(&dovecot, server, "dovecot")
}

fn events_ring_as_documented(on: Installation) -> Result<()> {
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver("kafka")
        .start()?;
    let server = server_for(&dovecot).prepare()?;
    rings(&dovecot, server, "events")
}

fn mailnotify_rings_as_documented(on: Installation) -> Result<()> {
    let dovecot = Dovecot::builder().installation(on).no_plugins().start()?;
    rings(&dovecot, Server::builder().prepare()?, "mailnotify")
}

/// Follows the document with a server that is down.
fn rings(dovecot: &Dovecot, mut server: Server, source: &str) -> Result<()> {
    let device = HookEndpoint::start()?;
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let imap = format!("{}:{}", dovecot.address(), dovecot.imap_port());
    let mut places = Places(vec![
        ("127.0.0.1:143", imap),
        ("127.0.0.1:23420", format!("127.0.0.1:{port}")),
        ("127.0.0.1/23420", format!("127.0.0.1/{port}")),
        ("http://127.0.0.1:9099/", device.url()),
        ("\"secret\"", format!("\"{PASSWORD}\"")),
    ]);
    let config = PAGE.block("toml push")? + &PAGE.block(&format!("toml push {source}"))?;
    let before = fs::read_to_string(server.config_file())?;
    let config = format!("{before}\n{}", places.put_into(&config));
    fs::write(server.config_file(), config)?;
    server.start_again()?;
    places
        .0
        .push(("127.0.0.1:8087", server.address()?.to_string()));
    places.run(&PAGE.block("sh push")?, &[])?;
    let listed = process::poll_until(ARRIVAL, || {
        let listed = server.run(["pushusers"]).ok()?;
        listed.contains("alice").then_some(())
    });
    listed.with_context(|| format!("{:?}", server.run(["pushusers"])))?;
    for _ in 0..MAILS {
        let mut lmtp = dovecot.lmtp()?;
        let mail = b"From: Bob <bob@example.org>\r\nSubject: Hello\r\n\r\nHello Alice.\r\n";
        lmtp.deliver_ok("bob@example.org", &["alice"], mail)?;
        lmtp.quit()?;
        if source == "mailnotify" {
            places.run(&PAGE.block("sh push packet")?, &[])?;
        }
        let rung = process::poll_until(NEXT_MAIL, || device.hooks().into_iter().find(is_told));
        if let Some(hook) = rung {
            is_counted(&server, source)?;
            return check_told(&hook, source != "events");
        }
    }
    anyhow::bail!("{:?}; {}", device.hooks(), server.server_log())
}

/// What the source has done is in the metrics.
fn is_counted(server: &Server, source: &str) -> Result<()> {
    let of = match source {
        "dovecot" => "set",
        "imapidle" => "heard",
        "mailnotify" => "rung",
        // The log is read for everybody.
        _ => return Ok(()),
    };
    let sample = format!("dovecast_push_sources_total{{source=\"{source}\",of=\"{of}\"}}");
    server.metric_is(&sample, |count| count >= 1.0)?;
    Ok(())
}

/// Whether a mail is named: a packet may come before it is known which ones are new.
fn is_told(hook: &Hook) -> bool {
    hook.body.contains("\"uid\"")
}

/// That what the device gets is what the document shows, apart from the numbers.
fn check_told(hook: &Hook, knows_unseen: bool) -> Result<()> {
    let mut shown: Value = serde_json::from_str(&PAGE.block("json push")?)?;
    if !knows_unseen {
        let payload = shown["payload"].as_object_mut().context("no payload")?;
        payload.remove("unseen").context("`unseen` is not shown")?;
    }
    let told: Value = serde_json::from_str(&hook.body)?;
    ensure!(without_numbers(&told) == without_numbers(&shown), "{told}");
    Ok(())
}

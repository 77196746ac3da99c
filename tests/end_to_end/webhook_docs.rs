//! The steps of docs/webhooks.md from a mail to a webhook, as they stand there.

use std::iter::once;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use dovecast_drivers::signature::{Secret, sign};
use dovecast_testkit::dovecot::{Dovecot, Installation, MAIL_UID, Series};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::plugin::Build;
use dovecast_testkit::server::Server;
use serde_json::Value;

use crate::case::cases;
use crate::docs::without_plugins;
use crate::setup::{ARRIVAL, with_plugin};
use crate::steps::{Page, Places, without_numbers};

cases![a_mail_gets_to_a_webhook_and_is_signed_as_documented];

const PAGE: Page = Page(include_str!("../../docs/webhooks.md"));
/// The mail of the page.
const MAIL: &[u8] = b"From: Bob <bob@example.org>\r\nTo: alice@example.com\r\n\
    Subject: Lunch on Friday?\r\n\r\nShall we meet at noon?\r\n";

fn a_mail_gets_to_a_webhook_and_is_signed_as_documented(on: Installation) -> Result<()> {
    let config = match on.series() {
        Series::V2_3 => PAGE.block("dovecot.conf webhook 2.3")?,
        Series::V2_4 => PAGE.block("dovecot.conf webhook 2.4")?,
    };
    let config: Vec<&str> = without_plugins(&config).collect();
    // The relay's socket and the spill directory are those of this case.
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .config(&config.join("\n"))
        .start()?;
    let receiver = HookEndpoint::start()?;
    let mut places = Places(vec![
        ("\"vmail\"", format!("\"{MAIL_UID}\"")),
        ("http://127.0.0.1:9099/", receiver.url()),
    ]);
    let server = server(&dovecot, &places.put_into(&PAGE.block("toml webhook")?))?;
    let address = server.address()?.to_string();
    places.0.push(("127.0.0.1:8087", address));
    let tokens = words(&server.command(["tokens"]));
    places.0.push(("dovecast tokens", tokens));
    let made = places.run(&PAGE.block("sh webhook")?, &[])?;
    let made: Value = serde_json::from_str(&made)?;
    ensure!(made["meta"]["warnings"].is_null(), "{made}");
    let secret = made["meta"]["signing_secret"].as_str();
    let secret = secret.context("no secret")?;

    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &["alice"], MAIL)?;
    lmtp.quit()?;
    let hooks = receiver.wait_for(1, ARRIVAL)?;
    is_shown(&hooks[0])?;
    is_signed(&hooks[0], secret, &places)?;
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
    Ok(())
}

/// A server with what the page says, which begins in the section that the builder ends with.
fn server(dovecot: &Dovecot, config: &str) -> Result<Server> {
    let config = config.strip_prefix("[relay]\n");
    let config = config.context("the page does not begin with [relay]")?;
    let dir = dovecot.relay_dir();
    Server::builder()
        .relay(dir.join("relay.sock"), dir.join("spill"))
        .config(config)
        .start()
}

/// A command as a shell reads it.
fn words(command: &Command) -> String {
    let words = once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| format!("'{}'", word.display()));
    quoted.collect::<Vec<_>>().join(" ")
}

/// What the receiver gets is what the page shows, apart from numbers and the time.
fn is_shown(hook: &Hook) -> Result<()> {
    let mut shown: Value = serde_json::from_str(&PAGE.block("json webhook")?)?;
    let mut told: Value = serde_json::from_str(&hook.body)?;
    for value in [&mut shown, &mut told] {
        let time = value["timestamp"].take();
        ensure!(time.is_string(), "no time: {time}");
    }
    ensure!(without_numbers(&told) == without_numbers(&shown), "{told}");
    Ok(())
}

/// The signature is that of the specification, and what the script of the page prints.
fn is_signed(hook: &Hook, secret: &str, places: &Places) -> Result<()> {
    let [id, timestamp, signature] = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| hook.header(name).unwrap_or_default());
    let key = [Secret::parse(secret)?];
    let expected = sign(&key, id, timestamp, hook.body.as_bytes());
    ensure!(!id.is_empty() && signature == expected, "{hook:?}");
    let variables = [
        ("secret", secret),
        ("id", id),
        ("timestamp", timestamp),
        ("body", &*hook.body),
    ];
    let printed = places.run(&PAGE.block("sh webhook signature")?, &variables)?;
    ensure!(
        signature == format!("v1,{}", printed.trim_end()),
        "{printed} is not {signature}"
    );
    Ok(())
}

//! From a mail to the webhook of its user: Dovecot, plugin, relay, log, filter, endpoint.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::Installation;
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::http::Request;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::case::cases;
use crate::relay::server_for;
use crate::setup::{ARRIVAL, with_plugin};
use crate::story::{MAIL, check_alive};

cases![a_mail_and_what_is_done_with_it_reach_the_webhook_of_its_user];

/// Asks for something.
pub(crate) fn get(server: &Server, token: &str, path: &str) -> Result<Value> {
    let request = Request::get(&format!("/api/hooks{path}"))
        .header("Authorization", &format!("Bearer {token}"));
    let answer = server.ask(&request)?;
    ensure!(answer.status == 200, "GET {path}: {answer:?}");
    Ok(serde_json::from_str(&answer.body)?)
}

/// The token of an account.
pub(crate) fn account(server: &Server, number: &str) -> Result<String> {
    let new = json!({"token": {"name": number, "scope": "account", "account_number": number}});
    let made = ask(server, &server.admin_token()?, "/tokens", &new)?;
    let token = made["meta"]["token"].as_str().context("no token")?;
    Ok(token.to_owned())
}

/// Has the REST API make something.
pub(crate) fn ask(server: &Server, token: &str, path: &str, body: &Value) -> Result<Value> {
    let request = Request::new("POST", &format!("/api/hooks{path}"))
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(body.to_string());
    let answer = server.ask(&request)?;
    ensure!(answer.status == 201, "POST {path}: {answer:?}");
    Ok(serde_json::from_str(&answer.body)?)
}

/// `MessageNew 1`
fn line(hook: &Hook) -> Result<String> {
    let body: Value = serde_json::from_str(&hook.body)?;
    ensure!(body["application"] == "dovecot", "{body}");
    let event_type = body["event_type"].as_str().context("no event type")?;
    ensure!(body["message"]["event"] == event_type, "{body}");
    Ok(format!("{event_type} {}", body["message"]["uid"]))
}

fn a_mail_and_what_is_done_with_it_reach_the_webhook_of_its_user(on: Installation) -> Result<()> {
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver("kafka:")
        .start()?;
    let server = server_for(&dovecot)
        .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
        .start()?;
    let sinks = [HookEndpoint::start()?, HookEndpoint::start()?];
    for (user, sink) in ["alice", "bob"].into_iter().zip(&sinks) {
        let token = account(&server, user)?;
        let filter = json!({"condition": "message.event != 'MailboxCreate'"});
        let new = json!({"endpoint": {"name": "mine", "url": sink.url(), "active": true, "filter": filter}});
        ask(&server, &token, "/endpoints", &new)?;
    }
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("carol@sender.example", &["alice"], MAIL)?;
    lmtp.deliver_ok("carol@sender.example", &["bob"], MAIL)?;
    lmtp.quit()?;
    let mut imap = dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Seen)")?;
    imap.ok("STORE 1 +FLAGS (\\Deleted)")?;
    imap.ok("EXPUNGE")?;
    imap.logout()?;
    let expected: [&[&str]; 2] = [
        &[
            "FlagsSet 1",
            "FlagsSet 1",
            "MessageExpunge 1",
            "MessageNew 1",
            "MessageRead 1",
            "MessageTrash 1",
        ],
        &["MessageNew 1"],
    ];
    for (sink, expected) in sinks.iter().zip(expected) {
        let hooks = sink.wait_for(expected.len(), ARRIVAL)?;
        let mut lines = hooks.iter().map(line).collect::<Result<Vec<_>>>()?;
        lines.sort();
        ensure!(lines == expected, "{lines:?}");
    }
    check_alive(&dovecot)
}

//! A Dovecot without our plugin: its own driver `ox` feeds `dovecast serve`, and a webhook tells of
//! the mail.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, Series};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::case::cases;
use crate::setup::{ARRIVAL, normalise};

cases![
    the_stock_driver_tells_a_webhook_of_each_new_mail,
    the_user_of_the_metadata_is_that_of_the_event,
    the_url_of_the_documentation_says_whose_mail_it_is,
    a_wrong_password_is_told_in_dovecots_log_and_costs_no_mail,
];

const PASSWORD: &str = "s3cret";
const MAIL: &[u8] = b"From: =?utf-8?q?B=C3=B6b?= <bob@sender.example>\r\nTo: alice\r\n\
    Subject: =?utf-8?b?w7w=?=\r\n\tone\r\n\r\nHello.\r\n";

fn server() -> Result<Server> {
    let ox = format!("[ox]\nuser = 'dovecot'\npassword = '{PASSWORD}'");
    let dispatch = "[dispatch]\nallowed_networks = ['127.0.0.0/8']";
    Server::builder().config(&ox).config(dispatch).start()
}

/// A Dovecot with the driver and its options, and a user who has asked for notifications.
fn dovecot(on: Installation, server: &Server, password: &str, more: &str) -> Result<Dovecot> {
    let address = server.address()?;
    let url = format!("http://dovecot:{password}@{address}/preliminary/http-notify/v1/notify");
    let dovecot = Dovecot::builder()
        .installation(on)
        .driver(&format!("ox:url={url} {more}"))
        .start()?;
    let mut imap = dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r#"SETMETADATA "" (/private/vendor/vendor.dovecot/http-notify "user=11@3")"#)?;
    imap.logout()?;
    Ok(dovecot)
}

fn deliver(dovecot: &Dovecot) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
    lmtp.quit()?;
    Ok(())
}

/// An endpoint of this account that gets everything.
fn endpoint(server: &Server, account: &str) -> Result<HookEndpoint> {
    let post = |token: &str, path: &str, body: Value| -> Result<Value> {
        let request = Request::new("POST", &format!("/api/hooks{path}"))
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let answer = server.ask(&request)?;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(serde_json::from_str(&answer.body)?)
    };
    let token = json!({"token": {"name": "t", "account_number": account}});
    let made = post(&server.admin_token()?, "/tokens", token)?;
    let token = made["meta"]["token"].as_str().context("no token")?;
    let sink = HookEndpoint::start()?;
    let endpoint = json!({"name": "e", "url": sink.url(), "active": true, "filter": {}});
    post(token, "/endpoints", json!({"endpoint": endpoint}))?;
    Ok(sink)
}

fn the_stock_driver_tells_a_webhook_of_each_new_mail(on: Installation) -> Result<()> {
    let server = server()?;
    let sink = endpoint(&server, "alice")?;
    let dovecot = dovecot(on, &server, PASSWORD, "")?;
    deliver(&dovecot)?;
    deliver(&dovecot)?;
    let hooks = sink.wait_for(2, ARRIVAL)?;
    let mut uids = Vec::new();
    for hook in &hooks {
        let body: Value = serde_json::from_str(&hook.body)?;
        ensure!(
            body["application"] == "dovecot" && body["event_type"] == "MessageNew",
            "{body}"
        );
        uids.push(body["message"]["uid"].as_u64());
    }
    uids.sort_unstable();
    ensure!(uids == [Some(1), Some(2)], "{hooks:?}");
    let values = server.values("dovecot")?;
    ensure!(
        normalise(&values[0])
            == r#"{"user":"alice","mailbox":"INBOX","event":"MessageNew","uidvalidity":V,"uid":1,"from":"=?utf-8?q?B=C3=B6b?= <bob@sender.example>","snippet":"Hello.","subject":"=?utf-8?b?w7w=?=\n\tone","unseen":1,"fromAddress":"bob@sender.example","fromDisplayName":"Böb","subjectDecoded":"ü one"}"#,
        "{values:?}"
    );
    dovecast_event::parse(values[0].as_bytes())?;
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
    Ok(())
}

fn the_user_of_the_metadata_is_that_of_the_event(on: Installation) -> Result<()> {
    let server = server()?;
    let sink = endpoint(&server, "11@3")?;
    let option = match on.series() {
        Series::V2_3 => "user_from_metadata",
        Series::V2_4 => "user_from_metadata=yes",
    };
    let dovecot = dovecot(on, &server, PASSWORD, option)?;
    deliver(&dovecot)?;
    let hook = sink.wait_for(1, ARRIVAL)?.remove(0);
    let body: Value = serde_json::from_str(&hook.body)?;
    ensure!(body["message"]["user"] == "11@3", "{body}");
    Ok(())
}

/// Dovecot puts the user into the URL, whatever he has written into his METADATA.
fn the_url_of_the_documentation_says_whose_mail_it_is(on: Installation) -> Result<()> {
    let ox = format!("[ox]\nuser = 'dovecot'\npassword = '{PASSWORD}'\nrequire_owner = true");
    let server = Server::builder().config(&ox).start()?;
    let address = server.address()?;
    let url = format!("http://dovecot:{PASSWORD}@{address}/preliminary/http-notify/v1/notify");
    let builder = Dovecot::builder().installation(on);
    let dovecot = match on.series() {
        Series::V2_3 => {
            let driver = format!("ox:url={url}?of=%u user_from_metadata");
            builder.plugin_setting_raw("push_notification_driver", &driver)
        }
        // A URL with a variable is none to Dovecot 2.4: a userdb field says it for each user.
        Series::V2_4 => builder.config(&format!(
            "push_notification ox {{\n  driver = ox\n  ox_url = {url}\n  ox_user_from_metadata = yes\n}}\n\
             userdb ox {{\n  driver = static\n  fields {{\n    push_notification/ox/ox_url = {url}?of=%{{user}}\n  }}\n}}"
        )),
    };
    let dovecot = dovecot.start()?;
    // Dovecot remembers what a user has said for a minute: one user each.
    let tell = |user: &str, named: &str| -> Result<()> {
        let entry = "/private/vendor/vendor.dovecot/http-notify";
        let mut imap = dovecot.login(user)?;
        imap.ok("SELECT INBOX")?;
        imap.ok(&format!(r#"SETMETADATA "" ({entry} "user={named}")"#))?;
        imap.logout()?;
        let mut lmtp = dovecot.lmtp()?;
        lmtp.deliver_ok("bob@sender.example", &[user], MAIL)?;
        lmtp.quit()
    };
    tell("eve@a.example", "ceo@victim.example")?;
    server.log_with(&[
        "a mail of another user came with this name",
        "ceo@victim.example",
    ])?;
    tell("anna@a.example", "office@a.example")?;
    let values = poll_until(ARRIVAL, || {
        let values = server.values("dovecot");
        values
            .map(|values| (!values.is_empty()).then_some(values))
            .transpose()
    });
    let values = values.context("no mail has come")??;
    let event: Value = serde_json::from_str(&values[0])?;
    ensure!(
        values.len() == 1 && event["user"] == "office@a.example",
        "{values:?}"
    );
    Ok(())
}

fn a_wrong_password_is_told_in_dovecots_log_and_costs_no_mail(on: Installation) -> Result<()> {
    let server = server()?;
    let dovecot = dovecot(on, &server, "wrong", "")?;
    deliver(&dovecot)?;
    dovecot.wait_for_log("401", ARRIVAL)?;
    ensure!(server.values("dovecot")?.is_empty());
    let mut imap = dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("FETCH 1 BODY.PEEK[]")?;
    imap.logout()?;
    Ok(())
}

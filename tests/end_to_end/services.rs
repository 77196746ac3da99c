//! From a mail to the services that have a preset, and to a mail that tells of it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::lmtp::LmtpClient;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use dovecast_testkit::services::{SERVICES, example, section};
use dovecast_testkit::smtp::MailServer;
use serde_json::{Value, json};

use crate::case::cases;
use crate::relay::server_for;
use crate::setup::{ARRIVAL, with_plugin};
use crate::story::{MAIL, check_alive};
use crate::webhook::{account, ask, get};

cases![
    a_mail_reaches_each_service_in_its_form,
    a_mail_that_tells_of_a_mail_is_told_by_none,
];

const USER: &str = "ann@example.org";

fn dovecot(on: Installation) -> Result<Dovecot> {
    let builder = with_plugin(on, Build::Dev)?.relay();
    builder.driver("kafka:detail=full").start()
}

fn make(server: &Server, token: &str, mut fields: Value) -> Result<()> {
    let is_new = "message.event == 'MessageNew'";
    fields["filter"] = json!({"condition": is_new});
    ask(server, token, "/endpoints", &json!({"endpoint": fields})).map(drop)
}

fn a_mail_reaches_each_service_in_its_form(on: Installation) -> Result<()> {
    let dovecot = dovecot(on)?;
    let mut config = "[dispatch]\nallowed_networks = ['127.0.0.0/8']\n".to_owned();
    let mut stand_ins = Vec::new();
    for service in &SERVICES {
        let stand_in = HookEndpoint::answering(service.answer)?;
        config.push_str(&section(service.preset, &stand_in));
        stand_ins.push(stand_in);
    }
    let server = server_for(&dovecot).config(&config).start()?;
    let token = account(&server, USER)?;
    for (service, stand_in) in SERVICES.iter().zip(&stand_ins) {
        let url = stand_in.url().replace("/hook", service.path);
        make(&server, &token, example(service.preset, &url)?)?;
    }
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &[USER], MAIL)?;
    lmtp.quit()?;
    for (service, stand_in) in SERVICES.iter().zip(&stand_ins) {
        let hooks = stand_in.wait_for(1, ARRIVAL).context(service.preset)?;
        let body = &hooks[0].body;
        ensure!(body.contains("Hi"), "{}: {body}", service.preset);
        ensure!(body.contains("Hello."), "{}: {body}", service.preset);
    }
    check_alive(&dovecot)
}

/// The mail that tells of a mail goes into the mailbox of which it tells.
fn a_mail_that_tells_of_a_mail_is_told_by_none(on: Installation) -> Result<()> {
    let dovecot = dovecot(on)?;
    let at = SocketAddr::from((dovecot.address(), dovecot.lmtp_port()));
    let mails = MailServer::handing_on(move |mail| {
        let mut lmtp = LmtpClient::connect(at)?;
        lmtp.deliver_ok(&mail.from, &[&mail.to], mail.text.as_bytes())?;
        lmtp.quit()
    })?;
    let port = mails.port();
    let config = format!(
        "[mail]\nserver = '127.0.0.1'\nport = {port}\ntls = 'none'\nfrom = 'noreply@example.org'\nrecipients = ['example.org']\n[dispatch]\naccount_templates = true\n"
    );
    let server = server_for(&dovecot).config(&config).start()?;
    let token = account(&server, USER)?;
    make(&server, &token, example("mail", "")?)?;
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &[USER], MAIL)?;
    lmtp.quit()?;
    // One attempt for the mail, one for the mail that tells of it.
    let shown = get(&server, &token, "/endpoints")?;
    let id = shown["data"][0]["id"].as_str().context("no endpoint")?;
    let path = format!("/endpoints/{id}/attempts");
    let attempts = poll_until(ARRIVAL, || {
        let shown = get(&server, &token, &path).ok()?;
        let attempts = shown["data"].as_array()?.clone();
        (attempts.len() >= 2).then_some(attempts)
    });
    let attempts = attempts.with_context(|| format!("no two attempts: {}", server.server_log()))?;
    let shown = json!(attempts).to_string();
    ensure!(
        shown.contains("not sent: it tells of a mail that was sent from here"),
        "{shown}"
    );
    ensure!(mails.taken().len() == 1, "{:?}", mails.taken());
    let mut imap = dovecot.login(USER)?;
    let told = imap.ok("SELECT INBOX")?;
    ensure!(told.find("2 EXISTS").is_some(), "{told:?}");
    // Dovecot has kept it as it was meant.
    let kept = imap.ok("FETCH 2 BODY.PEEK[]")?;
    for part in [
        "Subject: Bob: Hi\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "\r\n\r\nBob: Hi\r\n\r\nHello.",
    ] {
        ensure!(kept.find(part).is_some(), "no {part:?}: {kept:?}");
    }
    imap.logout()?;
    check_alive(&dovecot)
}

//! The driver `mail` of a running server: what becomes of a notification at a mail server.

use std::fs;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::services::example;
use dovecast_testkit::smtp::{Door, MailServer, Protection, Tls};
use dovecast_testkit::workspace;
use serde_json::json;

use crate::PATIENCE;
use crate::world::World;

/// User and password of the test as `AUTH PLAIN` says them.
const PLAIN: &str = "AGRvdmVjYXN0AHMzY3JldA==";

/// The section `[mail]` of the page, with another value for some of its settings.
fn section(values: &[(&str, &str)]) -> Result<String> {
    let page = fs::read_to_string(workspace::root().join("docs/drivers/mail.md"))?;
    let example = page.split("```toml\n").nth(1).context("no example")?;
    let example = example.split("```").next().context("no end")?;
    let lines = example.lines().map(|line| {
        let name = line.split(" = ").next().unwrap_or_default();
        let value = values.iter().find(|(other, _)| *other == name);
        value.map_or_else(|| line.to_owned(), |(_, value)| format!("{name} = {value}"))
    });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

#[test]
fn a_notification_becomes_an_email_by_the_examples_of_its_page() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = |name: &str| format!("'{}'", dir.path().join(name).display());
    let tls = Tls::new(Protection::Starttls, dir.path())?;
    fs::write(dir.path().join("authority"), tls.authority())?;
    fs::write(dir.path().join("password"), "s3cret\n")?;
    let mails = MailServer::behind(Door {
        tls: Some(tls),
        login: Some(PLAIN),
    })?;
    let world = World::with(&section(&[
        ("server", "'127.0.0.1'"),
        ("port", &mails.port().to_string()),
        ("ca_file", &path("authority")),
        ("password_file", &path("password")),
        ("key_file", &path("key")),
    ])?)?;
    world.make(example("mail", "")?)?;
    world.mail()?;
    let taken = mails.wait_for(1, PATIENCE)?;
    ensure!(taken[0].to == "ann@example.org", "{taken:?}");
    let list = taken[0].header("List-Id");
    ensure!(
        list.as_deref() == Some("<notifications.example.org>"),
        "{taken:?}"
    );
    let commands = mails.commands();
    ensure!(
        commands.contains(&format!("AUTH PLAIN {PLAIN}")),
        "{commands:?}"
    );
    ensure!(!world.server.server_log().contains("s3cret"), "a secret");
    Ok(())
}

#[test]
fn a_mail_that_tells_of_a_mail_is_told_by_none() -> Result<()> {
    let mails = MailServer::start()?;
    let port = mails.port();
    let config = format!(
        "[mail]\nserver = '127.0.0.1'\nport = {port}\ntls = 'none'\nfrom = 'noreply@example.org'\nrecipients = ['example.org']\n"
    );
    let world = World::with(&config)?;
    world.make(example("mail", "")?)?;
    world.mail()?;
    let taken = mails.wait_for(1, PATIENCE)?;
    let mail = &taken[0];
    ensure!(mail.to == "ann@example.org", "{mail:?}");
    let subject = mail.header("Subject");
    ensure!(
        subject.as_deref() == Some("Bob: Lunch on Friday?"),
        "{mail:?}"
    );
    // An event of that mail, as Dovecot would tell of it.
    let ours = mail.header("Message-ID").context("no Message-ID")?;
    let message = json!({"user": "ann", "mailbox": "INBOX", "uid": 8, "messageID": ours});
    world.notify("MessageNew", &message)?;
    world.mail()?;
    let taken = mails.wait_for(2, PATIENCE)?;
    ensure!(taken.len() == 2, "{taken:?}");
    let attempts = poll_until(PATIENCE, || {
        let id = world.shown("/endpoints").ok()?["data"][0]["id"]
            .as_str()?
            .to_owned();
        let shown = world
            .shown(&format!("/endpoints/{id}/attempts"))
            .ok()?
            .to_string();
        shown
            .contains("not sent: it tells of a mail that was sent from here")
            .then_some(())
    });
    attempts.context("it is not said that a mail was not sent")?;
    ensure!(mails.taken().len() == 2, "{taken:?}");
    Ok(())
}

//! Dovecot 2.3 and 2.4 beside each other: the same session makes the same records, but for what docs/dovecot-2.4.md lists.

use anyhow::{Context, Result, ensure};
use dovecast_event::ParsedEvent;
use dovecast_testkit::dovecot::{Installation, MailFormat};
use dovecast_testkit::topic::Record;

use crate::case::cases;
use crate::script::{Script, USERS};
use crate::session::{commands, deliveries};
use crate::setup::{ARRIVAL, Setup};
use crate::story::{MAIL, check_alive};

cases![
    a_recipient_in_utf8_is_delivered_to_by_2_4_only,
    an_empty_userdb_field_is_yes_in_2_3_and_empty_in_2_4,
    a_date_before_1902_is_another_one_in_2_3_and_none_in_2_4;
    // These start both versions themselves.
    only_2_4: the_same_deliveries_make_the_same_records,
    the_same_commands_make_the_same_records,
];

/// Fields of `detail=full` that differ each time a script is run, whatever the version.
const OF_THE_RUN: [&str; 4] = ["uidvalidity", "timestamp", "session", "mailboxID"];

fn the_same_deliveries_make_the_same_records(on: Installation) -> Result<()> {
    same(on, MailFormat::Maildir, deliveries)
}

fn the_same_commands_make_the_same_records(on: Installation) -> Result<()> {
    for format in [MailFormat::Maildir, MailFormat::Sdbox] {
        same(on, format, |script| commands(script, format))
            .with_context(|| format!("{format:?}"))?;
    }
    Ok(())
}

/// Runs a script on both versions, with all that there is to show, and compares what each user's records are.
fn same(
    on: Installation,
    format: MailFormat,
    act: impl Fn(&mut Script) -> Result<()>,
) -> Result<()> {
    let run = |on: Installation| -> Result<Vec<Record>> {
        let mut script = Script::new(on, "detail=full", format)?;
        act(&mut script)?;
        script.finish()
    };
    let old = run(Installation::System23).context("on Dovecot 2.3")?;
    let new = run(on).context("on Dovecot 2.4")?;
    ensure!(!old.is_empty(), "no records");
    for user in USERS {
        let (old, new) = (of_user(&old, user), of_user(&new, user));
        let expected = as_of_2_4(&old);
        for (i, (expected, new)) in expected.iter().zip(&new).enumerate() {
            ensure!(
                expected == new,
                "record {i} of {user}:\n  expected {expected}\n  on 2.4   {new}"
            );
        }
        ensure!(
            expected.len() == new.len(),
            "{user} has {} records on 2.4 instead of {}",
            new.len(),
            expected.len()
        );
    }
    Ok(())
}

/// A user's records of 2.3 with the differences that docs/dovecot-2.4.md lists, and no others.
fn as_of_2_4(old: &[String]) -> Vec<String> {
    let mut new = Vec::new();
    for record in old {
        // The expunges of a mailbox that is deleted.
        let is_last_expunge =
            record.contains("\"mailbox\":\"B\u{f6}x\",\"event\":\"MessageExpunge\"");
        new.push(if is_last_expunge {
            record.replace(r#""modseq":8,"#, r#""modseq":7,"#)
        } else {
            record.clone()
        });
        // A Maildir whose first mailbox is not INBOX.
        if record.contains(r#""mailbox":"Lists/dovecast","event":"MailboxCreate""#) {
            let inbox = record.replace("Lists/dovecast", "INBOX");
            new.push(inbox.replace(r#""uidvalidity":0"#, r#""uidvalidity":*"#));
        }
    }
    new
}

/// A user's records as text: value and headers, without what differs from run to run.
fn of_user(records: &[Record], user: &str) -> Vec<String> {
    records
        .iter()
        .filter(|record| record.key.as_deref() == Some(user.as_bytes()))
        .map(|record| {
            let mut text = OF_THE_RUN.iter().fold(
                String::from_utf8_lossy(&record.value).into_owned(),
                |json, field| masked(&json, field),
            );
            for (name, value) in &record.headers {
                let is_of_the_run =
                    ["dovecast-id", "dovecast-time", "dovecast-txn"].contains(&name.as_str());
                let value = String::from_utf8_lossy(value);
                let shown = if is_of_the_run { "" } else { &*value };
                text = format!("{text} {name}={shown}");
            }
            text
        })
        .collect()
}

/// The JSON with `*` for the value of this field, unless it is 0.
fn masked(json: &str, field: &str) -> String {
    let key = format!("\"{field}\":");
    let Some(at) = json.find(&key).map(|at| at + key.len()) else {
        return json.to_owned();
    };
    let length = json[at..].find([',', '}']).unwrap_or(json.len() - at);
    match &json[at..at + length] {
        "0" => json.to_owned(),
        _ => format!("{}*{}", &json[..at], &json[at + length..]),
    }
}

/// The only event of a delivery to alice.
fn delivered(setup: &Setup, mail: &[u8]) -> Result<ParsedEvent> {
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice"], mail)?;
    lmtp.quit()?;
    let record = setup.reader("dovecot")?.next(ARRIVAL)?;
    let record = record.context("nothing arrived")?;
    check_alive(&setup.dovecot)?;
    Ok(dovecast_event::parse(&record.value)?)
}

fn a_recipient_in_utf8_is_delivered_to_by_2_4_only(on: Installation) -> Result<()> {
    const USER: &str = "j\u{fc}rgen@ex\u{e4}mple";
    let setup = Setup::start(on, "events=MessageNew", |builder| builder)?;
    let mut lmtp = setup.dovecot.lmtp()?;
    match on {
        Installation::System23 => {
            let refused = lmtp.deliver_ok("bob@sender.example", &[USER], MAIL);
            ensure!(refused.is_err(), "2.3 takes UTF-8");
        }
        Installation::Trixie24(_) => {
            lmtp.deliver_ok("bob@sender.example", &[USER], MAIL)?;
            lmtp.quit()?;
            let record = setup.reader("dovecot")?.next(ARRIVAL)?;
            let record = record.context("nothing arrived")?;
            let event = dovecast_event::parse(&record.value)?;
            ensure!(event.user == USER, "{event:#?}");
            ensure!(record.key.as_deref() == Some(USER.as_bytes()), "{record}");
        }
    }
    check_alive(&setup.dovecot)
}

fn an_empty_userdb_field_is_yes_in_2_3_and_empty_in_2_4(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=MessageNew userdb=tenant", |builder| {
        builder.user("alice", &[("tenant", "")])
    })?;
    let event = delivered(&setup, MAIL)?;
    let value = match on {
        Installation::System23 => "yes",
        Installation::Trixie24(_) => "",
    };
    let expected = [("tenant".to_owned(), value.to_owned())];
    ensure!(event.userdb == expected, "{event:#?}");
    Ok(())
}

fn a_date_before_1902_is_another_one_in_2_3_and_none_in_2_4(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=MessageNew", |builder| builder)?;
    let mail = b"Date: Sat, 01 Jun 1901 12:00:00 +0000\r\nSubject: old\r\n\r\nx\r\n";
    let event = delivered(&setup, mail)?;
    let expected = match on {
        Installation::System23 => Some("2037-"),
        Installation::Trixie24(_) => None,
    };
    let year = event.date.as_deref().and_then(|date| date.get(..5));
    ensure!(year == expected, "{event:#?}");
    Ok(())
}

//! Dovecots beside each other: the same session makes the same records, but for what the table of
//! `differences.rs` lists.

use anyhow::{Context, Result, ensure};
use dovecast_event::ParsedEvent;
use dovecast_testkit::dovecot::{Installation, MailFormat};
use dovecast_testkit::topic::Record;

use crate::case::cases;
use crate::differences::{self, Differences};
use crate::docs::DOVECOT_2_4;
use crate::script::{Script, USERS};
use crate::session::{commands, deliveries};
use crate::setup::{ARRIVAL, Setup};
use crate::story::{MAIL, check_alive};

cases![
    a_recipient_in_utf8_is_delivered_to_where_dovecot_takes_it,
    an_empty_userdb_field_is_what_dovecot_makes_of_it,
    a_date_before_1902_is_what_dovecot_makes_of_it,
    mails_are_marked_by_their_attachments_where_that_is_dovecots_default,
    the_same_deliveries_make_the_same_records,
    the_same_commands_make_the_same_records;
    // No Dovecot takes part: once is enough.
    only_2_3: what_operators_read_of_the_differences_is_what_the_cases_go_by,
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

fn what_operators_read_of_the_differences_is_what_the_cases_go_by(_: Installation) -> Result<()> {
    differences::is_documented(DOVECOT_2_4)
}

/// Runs a script on this machine's Dovecot and on the other one, with all that there is to show,
/// and compares what each user's records are.
fn same(
    on: Installation,
    format: MailFormat,
    act: impl Fn(&mut Script) -> Result<()>,
) -> Result<()> {
    if on == Installation::System23 {
        // The others are compared with it.
        return Ok(());
    }
    let run = |on: Installation| -> Result<Vec<Record>> {
        let mut script = Script::new(on, "detail=full", format)?;
        act(&mut script)?;
        script.finish()
    };
    let old = run(Installation::System23).context("on Dovecot 2.3.19")?;
    let new = run(on).with_context(|| format!("on Dovecot {}", on.version()))?;
    ensure!(!old.is_empty(), "no records");
    for user in USERS {
        let (old, new) = (of_user(&old, user), of_user(&new, user));
        let expected = as_of(differences::of(on)?, &old);
        for (i, (expected, new)) in expected.iter().zip(&new).enumerate() {
            ensure!(
                expected == new,
                "record {i} of {user}:\n  expected {expected}\n  arrived  {new}"
            );
        }
        ensure!(
            expected.len() == new.len(),
            "{user} has {} records instead of {}",
            new.len(),
            expected.len()
        );
    }
    Ok(())
}

/// A user's records of 2.3.19 with the differences of another Dovecot, and no others.
fn as_of(differs: &Differences, old: &[String]) -> Vec<String> {
    let mut new = Vec::new();
    for record in old {
        // The expunges of a mailbox that is deleted.
        let is_last_expunge =
            record.contains("\"mailbox\":\"B\u{f6}x\",\"event\":\"MessageExpunge\"");
        new.push(if is_last_expunge {
            let modseq = format!("\"modseq\":{},", differs.modseq_of_deleted);
            record.replace(r#""modseq":8,"#, &modseq)
        } else {
            record.clone()
        });
        // A Maildir whose first mailbox is not INBOX.
        let is_lists = record.contains(r#""mailbox":"Lists/dovecast","event":"MailboxCreate""#);
        if is_lists && differs.inbox_has_an_event {
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

fn a_recipient_in_utf8_is_delivered_to_where_dovecot_takes_it(on: Installation) -> Result<()> {
    const USER: &str = "j\u{fc}rgen@ex\u{e4}mple";
    let setup = Setup::start(on, "events=MessageNew", |builder| builder)?;
    let mut lmtp = setup.dovecot.lmtp()?;
    let delivered = lmtp.deliver_ok("bob@sender.example", &[USER], MAIL);
    if differences::of(on)?.takes_utf8_recipients {
        delivered?;
        lmtp.quit()?;
        let record = setup.reader("dovecot")?.next(ARRIVAL)?;
        let record = record.context("nothing arrived")?;
        let event = dovecast_event::parse(&record.value)?;
        ensure!(event.user == USER, "{event:#?}");
        ensure!(record.key.as_deref() == Some(USER.as_bytes()), "{record}");
    } else {
        ensure!(delivered.is_err(), "it takes UTF-8");
    }
    check_alive(&setup.dovecot)
}

fn an_empty_userdb_field_is_what_dovecot_makes_of_it(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=MessageNew userdb=tenant", |builder| {
        builder.user("alice", &[("tenant", "")])
    })?;
    let event = delivered(&setup, MAIL)?;
    let value = differences::of(on)?.empty_field;
    let expected = [("tenant".to_owned(), value.to_owned())];
    ensure!(event.userdb == expected, "{event:#?}");
    Ok(())
}

fn a_date_before_1902_is_what_dovecot_makes_of_it(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=MessageNew", |builder| builder)?;
    let mail = b"Date: Sat, 01 Jun 1901 12:00:00 +0000\r\nSubject: old\r\n\r\nx\r\n";
    let event = delivered(&setup, mail)?;
    let year = event.date.as_deref().and_then(|date| date.get(..5));
    let expected = differences::of(on)?.date_before_1902;
    ensure!(year == expected, "{event:#?}");
    Ok(())
}

fn mails_are_marked_by_their_attachments_where_that_is_dovecots_default(
    on: Installation,
) -> Result<()> {
    let setup = Setup::start(on, "events=MessageNew detail=full", |builder| {
        builder.default_attachment_keywords()
    })?;
    let event = delivered(&setup, MAIL)?;
    let is_marked = differences::of(on)?.marks_attachments;
    let keywords: &[&str] = if is_marked {
        &["$HasNoAttachment"]
    } else {
        &[]
    };
    ensure!(
        event.keywords.unwrap_or_default() == keywords,
        "{is_marked}"
    );
    Ok(())
}

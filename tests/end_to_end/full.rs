//! What `detail=full` adds, alone and beside drivers that share the event data.

use anyhow::{Result, ensure};
use dovecast_event::{EventKind, ParsedEvent, parse};
use dovecast_testkit::dovecot::Installation;
use dovecast_testkit::mock_broker::MockBroker;

use crate::case::cases;
use crate::instances::{EVENTS_OF_USE, MAIL, use_mail, values};
use crate::setup::{Setup, builder};

cases![
    detail_full_adds_what_only_the_mail_process_knows,
    detail_full_is_safe_beside_drivers_that_share_the_event_data,
    metadata_entries_are_shown_as_the_user_has_them,
];

/// The records of a topic, parsed, once there are `count`.
fn events(broker: &MockBroker, topic: &str, count: usize) -> Result<Vec<ParsedEvent>> {
    values(broker, topic, count)?
        .iter()
        .map(|json| Ok(parse(json.replace(":V,", ":1,").as_bytes())?))
        .collect()
}

fn detail_full_adds_what_only_the_mail_process_knows(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "detail=full", |builder| builder)?;
    use_mail(&setup.dovecot, "alice")?;
    let mut imap = setup.dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.append("INBOX", "\\Flagged $new other", None, MAIL)?;
    let status = imap
        .ok("STATUS INBOX (MESSAGES UNSEEN UIDNEXT HIGHESTMODSEQ)")?
        .find("STATUS")
        .unwrap_or_default();
    imap.ok("DELETE box")?;
    imap.logout()?;
    let guid = setup
        .dovecot
        .doveadm(&["mailbox", "status", "-u", "alice", "guid", "INBOX"])?;
    let guid = String::from_utf8_lossy(&guid.stdout);

    let events = events(&setup.broker, "dovecot", EVENTS_OF_USE + 2)?;
    let [_, new, set, read, clear, _, append, delete] = &events[..] else {
        anyhow::bail!("{events:#?}");
    };
    for event in &events {
        let by_lmtp = event.kind == EventKind::MessageNew
            || (event.kind == EventKind::MailboxCreate && event.mailbox == "INBOX");
        let service = if by_lmtp { "lmtp" } else { "imap" };
        ensure!(event.service.as_deref() == Some(service), "{event:#?}");
        ensure!(
            event.client_ip.as_deref() == Some("127.0.0.1"),
            "{event:#?}"
        );
        ensure!(
            event
                .timestamp
                .as_ref()
                .is_some_and(|time| time.ends_with('Z')),
            "{event:#?}"
        );
        let session = event.session.clone().unwrap_or_default();
        ensure!(
            setup.dovecot.log().contains(&format!("<{session}>")),
            "session {session} is not in the log"
        );
    }
    ensure!(new.message_id == append.message_id, "{new:#?}");
    check_append(append)?;
    ensure!(
        guid.contains(new.mailbox_id.as_deref().unwrap_or("none")),
        "{guid}: {new:#?}"
    );
    let shown = format!(
        "MESSAGES {} UIDNEXT {} UNSEEN {} HIGHESTMODSEQ {}",
        append.messages.unwrap_or(0),
        append.uidnext.unwrap_or(0),
        append.unseen.unwrap_or(0),
        append.modseq.unwrap_or(0)
    );
    ensure!(status.contains(&shown), "{status} is not {shown}");
    ensure!(
        set.old_flags.is_none() && read.old_flags.is_none(),
        "only FlagsClear has old flags"
    );
    ensure!(clear.old_flags == Some(vec!["\\Seen".into()]), "{clear:#?}");
    ensure!(
        clear.old_keywords == Some(vec!["$a".into(), "$b".into()]),
        "{clear:#?}"
    );
    ensure!(
        delete.kind == EventKind::MailboxDelete && delete.messages.is_none(),
        "{delete:#?}"
    );
    Ok(())
}

fn check_append(append: &ParsedEvent) -> Result<()> {
    let texts = [
        (&append.message_id, "<1@example.org>"),
        (&append.from_address, "bob@example.org"),
        (&append.from_display_name, "Bob"),
        (&append.to_address, "alice@example.com"),
        (&append.to_display_name, "Al, Ice"),
        (&append.subject_decoded, "\u{c4}"),
    ];
    for (arrived, expected) in texts {
        ensure!(
            arrived.as_deref() == Some(expected),
            "{expected}: {append:#?}"
        );
    }
    let numbers = (append.message_size, append.tz);
    ensure!(
        numbers == (Some(MAIL.len() as u64), Some(330)),
        "{append:#?}"
    );
    let came_with = (append.flags.clone(), append.keywords.clone());
    let expected = (Some(vec!["\\Flagged".into()]), Some(vec!["$new".into()]));
    ensure!(came_with == expected, "{append:#?}");
    Ok(())
}

/// The framework's own `store_old` crashes where a driver that subscribed first did not ask for it.
fn detail_full_is_safe_beside_drivers_that_share_the_event_data(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = builder(
        on,
        &["topic=compat events=FlagsClear"],
        &broker.bootstrap_servers(),
    )?
    .driver("dlog")
    .driver("kafka:topic=full detail=full events=FlagsClear")
    .start()?;
    use_mail(&dovecot, "alice")?;
    let mut imap = dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 FLAGS (\\Flagged $c)")?;
    imap.ok("STORE 1 -FLAGS (\\Flagged)")?;
    imap.logout()?;
    let old = |event: &ParsedEvent| {
        (
            event.old_flags.clone().unwrap_or_default(),
            event.old_keywords.clone().unwrap_or_default(),
        )
    };
    let text = |list: &[&str]| {
        list.iter()
            .map(|item| (*item).to_owned())
            .collect::<Vec<_>>()
    };
    let full = events(&broker, "full", 3)?;
    ensure!(
        old(&full[0]) == (text(&["\\Seen"]), text(&["$a", "$b"])),
        "{:#?}",
        full[0]
    );
    ensure!(
        old(&full[1]) == (text(&["\\Seen"]), text(&["$b"])),
        "{:#?}",
        full[1]
    );
    ensure!(
        old(&full[2]) == (text(&["\\Flagged"]), text(&["$c"])),
        "{:#?}",
        full[2]
    );
    ensure!(
        values(&broker, "compat", 3)?
            .iter()
            .all(|json| !json.contains("old")),
        "old flags in compat"
    );
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
    Ok(())
}

fn metadata_entries_are_shown_as_the_user_has_them(on: Installation) -> Result<()> {
    let entry = "/private/vendor/vendor.dovecot/http-notify";
    let options = format!(
        "detail=full metadata={entry},/private/comment,/private/absent events=MessageNew,MessageAppend,MailboxCreate"
    );
    let setup = Setup::start(on, &options, |builder| builder)?;
    let mut imap = setup.dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok(&format!(
        "SETMETADATA \"\" ({entry} \"user=11@3\" /private/comment \"say \\\"hi\\\"\")"
    ))?;
    imap.logout()?;
    let mut imap = setup.dovecot.login("alice")?;
    imap.append("INBOX", "", None, MAIL)?;
    imap.ok("CREATE box")?;
    imap.logout()?;
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &["alice", "bob"], MAIL)?;
    lmtp.quit()?;
    let events = events(&setup.broker, "dovecot", 6)?;
    let expected = vec![
        (entry.to_owned(), "user=11@3".to_owned()),
        ("/private/comment".to_owned(), "say \"hi\"".to_owned()),
    ];
    for event in events.iter().filter(|event| event.user == "alice").skip(1) {
        ensure!(event.metadata == expected, "{event:#?}");
    }
    ensure!(
        events
            .iter()
            .filter(|event| event.user == "bob")
            .all(|event| event.metadata.is_empty()),
        "bob has none"
    );
    Ok(())
}

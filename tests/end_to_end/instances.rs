//! Several driver instances beside each other and beside stock drivers, and what switches an instance off.

use anyhow::{Result, ensure};
use dovecast_event::{EventKind, ParsedEvent, header_name, parse};
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::topic::TopicReader;

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup, builder, value};

cases![
    each_instance_has_its_own_events_and_no_keyword_twice,
    an_instance_is_on_only_where_the_feature_says_on,
    content_off_shows_nothing_of_the_mail,
    detail_full_adds_what_only_the_mail_process_knows,
    detail_full_is_safe_beside_drivers_that_share_the_event_data,
    metadata_entries_are_shown_as_the_user_has_them,
];

const MAIL: &[u8] = b"From: Bob <bob@example.org>\r\nTo: \"Al, Ice\" <alice@example.com>\r\nSubject: =?utf-8?q?=C3=84?=\r\n\
    Message-ID: <1@example.org>\r\nDate: Fri, 20 Nov 2026 12:34:56 +0530\r\n\r\nHello Alice.\r\n";

/// All values of a topic once there are `count`, and that there are no more; in the order in which they were observed,
/// because the deliveries and the sessions of a user are processes of their own.
fn values(broker: &MockBroker, topic: &str, count: usize) -> Result<Vec<String>> {
    let settings = [("bootstrap.servers".to_owned(), broker.bootstrap_servers())];
    let mut reader = TopicReader::new(&settings, topic)?;
    let mut records = reader.read(count, ARRIVAL)?;
    records.extend(reader.drain()?);
    records.sort_by_key(|record| record.header(header_name::ID).map(<[u8]>::to_vec));
    Ok(records.iter().map(value).collect())
}

/// How many events [`use_mail`] makes.
const EVENTS_OF_USE: usize = 6;

fn use_mail(dovecot: &Dovecot, user: &str) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &[user], MAIL)?;
    lmtp.quit()?;
    let mut imap = dovecot.login(user)?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Seen $a $b other)")?;
    imap.ok("STORE 1 -FLAGS ($a other)")?;
    imap.ok("CREATE box")?;
    imap.logout()?;
    Ok(())
}

fn each_instance_has_its_own_events_and_no_keyword_twice() -> Result<()> {
    let broker = MockBroker::start(1)?;
    let instances = [
        "topic=all",
        "topic=flags events=flagsset,FLAGSCLEAR userdb=k2,k1,missing",
        "topic=others events=FlagsSet,FlagsClear keyword_prefix=o send_flags=off",
        "topic=every events=FlagsSet,MessageRead keyword_prefix=",
    ];
    let dovecot = builder(&instances, &broker.bootstrap_servers())?
        .plugin_setting("push_notification_driver5", "dlog")
        .plugin_setting("k1", "from the plugin section")
        .user("alice", &[("k2", "v\"2")])
        .start()?;
    use_mail(&dovecot, "alice")?;

    let all = values(&broker, "all", EVENTS_OF_USE)?;
    let kinds = |values: &[String]| -> Vec<String> {
        values
            .iter()
            .filter_map(|v| {
                Some(
                    v.split("\"event\":\"")
                        .nth(1)?
                        .split('"')
                        .next()?
                        .to_owned(),
                )
            })
            .collect()
    };
    let expected = [
        "MailboxCreate",
        "MessageNew",
        "FlagsSet",
        "MessageRead",
        "FlagsClear",
        "MailboxCreate",
    ];
    let arrived = kinds(&all);
    ensure!(arrived == expected, "topic all: {all:#?}");
    let flags = values(&broker, "flags", 2)?;
    let prefix = r#"{"user":"alice","userdb":{"k2":"v\"2","k1":"from the plugin section"},"mailbox":"INBOX","event""#;
    ensure!(
        flags
            == [
                format!(
                    r#"{prefix}:"FlagsSet","uidvalidity":V,"uid":1,"flags":["\\Seen"],"keywords":["$a","$b"]}}"#
                ),
                format!(r#"{prefix}:"FlagsClear","uidvalidity":V,"uid":1,"keywords":["$a"]}}"#),
            ],
        "topic flags: {flags:#?}"
    );
    let others = values(&broker, "others", 2)?;
    let prefix = r#"{"user":"alice","mailbox":"INBOX","event""#;
    ensure!(
        others
            == [
                format!(r#"{prefix}:"FlagsSet","uidvalidity":V,"uid":1,"keywords":["other"]}}"#),
                format!(r#"{prefix}:"FlagsClear","uidvalidity":V,"uid":1,"keywords":["other"]}}"#),
            ],
        "topic others: {others:#?}"
    );
    let every = values(&broker, "every", 2)?;
    ensure!(
        every
            == [
                format!(
                    r#"{prefix}:"FlagsSet","uidvalidity":V,"uid":1,"flags":["\\Seen"],"keywords":["$a","$b","other"]}}"#
                ),
                format!(r#"{prefix}:"MessageRead","uidvalidity":V,"uid":1}}"#),
            ],
        "topic every: {every:#?}"
    );
    ensure!(
        dovecot.debug_log().contains("FlagsSet: Keyword set [$a]"),
        "dlog has not seen the keyword"
    );
    Ok(())
}

fn an_instance_is_on_only_where_the_feature_says_on() -> Result<()> {
    let users = [
        ("on", Some("on"), true),
        ("upper", Some("ON"), true),
        ("mixed", Some("oN"), true),
        ("off", Some("off"), false),
        ("yes", Some("yes"), false),
        ("missing", None, false),
    ];
    let setup = Setup::start("feature=push", |mut builder| {
        for (user, value, _) in users {
            let field = value.map(|value| ("push", value));
            builder = builder.user(user, field.as_slice());
        }
        builder
    })?;
    for (user, ..) in users {
        use_mail(&setup.dovecot, user)?;
    }
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &users.map(|(user, ..)| user), MAIL)?;
    lmtp.quit()?;
    let on = users.iter().filter(|(.., is_on)| *is_on).count();
    let values = values(&setup.broker, "dovecot", on * (EVENTS_OF_USE + 1))?;
    for (user, _, is_on) in users {
        let seen = values
            .iter()
            .filter(|value| value.starts_with(&format!(r#"{{"user":"{user}","#)))
            .count();
        ensure!(
            seen == if is_on { EVENTS_OF_USE + 1 } else { 0 },
            "{seen} events of {user}"
        );
    }
    let errors = setup.dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
    Ok(())
}

fn content_off_shows_nothing_of_the_mail() -> Result<()> {
    let broker = MockBroker::start(1)?;
    // The other instance makes the framework fetch the content; it must not leak into this one.
    let instances = [
        "topic=open detail=full",
        "topic=closed content=off detail=full",
        "topic=plain content=off",
    ];
    let dovecot = builder(&instances, &broker.bootstrap_servers())?.start()?;
    use_mail(&dovecot, "alice")?;
    let closed = values(&broker, "closed", EVENTS_OF_USE)?;
    let new = closed
        .iter()
        .find(|value| value.contains("MessageNew"))
        .map_or("", String::as_str);
    for secret in [
        "bob",
        "Bob",
        "Hello",
        "C3=84",
        "\u{c4}",
        "alice@example.com",
        "Al, Ice",
    ] {
        ensure!(!new.contains(secret), "{secret:?} is in {new}");
    }
    ensure!(new.contains("\"messageID\":\"<1@example.org>\""), "{new}");
    let plain = values(&broker, "plain", EVENTS_OF_USE)?;
    ensure!(
        plain[1]
            == r#"{"user":"alice","mailbox":"INBOX","event":"MessageNew","uidvalidity":V,"uid":1,"date":"2026-11-20T12:34:56+05:30"}"#,
        "{}",
        plain[1]
    );
    Ok(())
}

/// The records of a topic, parsed, once there are `count`.
fn events(broker: &MockBroker, topic: &str, count: usize) -> Result<Vec<ParsedEvent>> {
    values(broker, topic, count)?
        .iter()
        .map(|json| Ok(parse(json.replace(":V,", ":1,").as_bytes())?))
        .collect()
}

fn detail_full_adds_what_only_the_mail_process_knows() -> Result<()> {
    let setup = Setup::start("detail=full", |builder| builder)?;
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
fn detail_full_is_safe_beside_drivers_that_share_the_event_data() -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = builder(
        &["topic=compat events=FlagsClear"],
        &broker.bootstrap_servers(),
    )?
    .plugin_setting("push_notification_driver2", "dlog")
    .plugin_setting(
        "push_notification_driver3",
        "kafka:topic=full detail=full events=FlagsClear",
    )
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

fn metadata_entries_are_shown_as_the_user_has_them() -> Result<()> {
    let entry = "/private/vendor/vendor.dovecot/http-notify";
    let options = format!(
        "detail=full metadata={entry},/private/comment,/private/absent events=MessageNew,MessageAppend,MailboxCreate"
    );
    let setup = Setup::start(&options, |builder| builder)?;
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

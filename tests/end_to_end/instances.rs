//! Several driver instances beside each other and beside stock drivers, and what switches an
//! instance off.

use anyhow::{Result, ensure};
use dovecast_event::header_name;
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::topic::TopicReader;

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup, builder, value};

cases![
    each_instance_has_its_own_events_and_no_keyword_twice,
    an_instance_is_on_only_where_the_feature_says_on,
    content_off_shows_nothing_of_the_mail,
];

pub(crate) const MAIL: &[u8] = b"From: Bob <bob@example.org>\r\nTo: \"Al, Ice\" <alice@example.com>\r\nSubject: =?utf-8?q?=C3=84?=\r\n\
    Message-ID: <1@example.org>\r\nDate: Fri, 20 Nov 2026 12:34:56 +0530\r\n\r\nHello Alice.\r\n";

/// All values of a topic once there are `count`, and that there are no more; in the order in which
/// they were observed, because the deliveries and the sessions of a user are processes of their
/// own.
pub(crate) fn values(broker: &MockBroker, topic: &str, count: usize) -> Result<Vec<String>> {
    let settings = [("bootstrap.servers".to_owned(), broker.bootstrap_servers())];
    let mut reader = TopicReader::new(&settings, topic)?;
    let mut records = reader.read(count, ARRIVAL)?;
    records.extend(reader.drain()?);
    records.sort_by_key(|record| record.header(header_name::ID).map(<[u8]>::to_vec));
    Ok(records.iter().map(value).collect())
}

/// How many events [`use_mail`] makes.
pub(crate) const EVENTS_OF_USE: usize = 6;

pub(crate) fn use_mail(dovecot: &Dovecot, user: &str) -> Result<()> {
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

/// The kind of an event.
fn kind(json: &str) -> Option<&str> {
    json.split("\"event\":\"").nth(1)?.split('"').next()
}

/// What is in the topics that do not have everything.
fn chosen() -> [(&'static str, [String; 2]); 3] {
    let json = |kind: &str, rest: &str| {
        format!(
            r#"{{"user":"alice","mailbox":"INBOX","event":"{kind}","uidvalidity":V,"uid":1{rest}}}"#
        )
    };
    let with_userdb = |kind: &str, rest: &str| {
        let userdb = r#""userdb":{"k2":"v\"2","k1":"for everybody"},"mailbox""#;
        json(kind, rest).replacen(r#""mailbox""#, userdb, 1)
    };
    [
        (
            "flags",
            [
                with_userdb("FlagsSet", r#","flags":["\\Seen"],"keywords":["$a","$b"]"#),
                with_userdb("FlagsClear", r#","keywords":["$a"]"#),
            ],
        ),
        (
            "others",
            [
                json("FlagsSet", r#","keywords":["other"]"#),
                json("FlagsClear", r#","keywords":["other"]"#),
            ],
        ),
        (
            "every",
            [
                json(
                    "FlagsSet",
                    r#","flags":["\\Seen"],"keywords":["$a","$b","other"]"#,
                ),
                json("MessageRead", ""),
            ],
        ),
    ]
}

fn each_instance_has_its_own_events_and_no_keyword_twice(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let instances = [
        "topic=all",
        "topic=flags events=flagsset,FLAGSCLEAR userdb=k2,k1,missing",
        "topic=others events=FlagsSet,FlagsClear keyword_prefix=o send_flags=off",
        "topic=every events=FlagsSet,MessageRead keyword_prefix=",
    ];
    let dovecot = builder(on, &instances, &broker.bootstrap_servers())?
        .driver("dlog")
        .config("mail_debug = yes")
        .field("k1", "for everybody")
        .user("alice", &[("k2", "v\"2")])
        .start()?;
    use_mail(&dovecot, "alice")?;

    let all = values(&broker, "all", EVENTS_OF_USE)?;
    let expected = [
        "MailboxCreate",
        "MessageNew",
        "FlagsSet",
        "MessageRead",
        "FlagsClear",
        "MailboxCreate",
    ];
    let kinds: Vec<&str> = all.iter().filter_map(|json| kind(json)).collect();
    ensure!(kinds == expected, "topic all: {all:#?}");
    for (topic, expected) in chosen() {
        let arrived = values(&broker, topic, 2)?;
        ensure!(arrived == expected, "topic {topic}: {arrived:#?}");
    }
    ensure!(
        dovecot.debug_log().contains("FlagsSet: Keyword set [$a]"),
        "dlog has not seen the keyword"
    );
    Ok(())
}

fn an_instance_is_on_only_where_the_feature_says_on(on: Installation) -> Result<()> {
    let users = [
        ("on", Some("on"), true),
        ("upper", Some("ON"), true),
        ("mixed", Some("oN"), true),
        ("off", Some("off"), false),
        ("yes", Some("yes"), false),
        ("missing", None, false),
    ];
    let setup = Setup::start(on, "feature=push", |mut builder| {
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

fn content_off_shows_nothing_of_the_mail(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    // The other instance makes the framework fetch the content; it must not leak into this one.
    let instances = [
        "topic=open detail=full",
        "topic=closed content=off detail=full",
        "topic=plain content=off",
    ];
    let dovecot = builder(on, &instances, &broker.bootstrap_servers())?.start()?;
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

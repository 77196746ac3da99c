//! What only Dovecot 2.4's configuration can say: variables, overrides for one user or one command,
//! several clusters.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Dovecot, Installation};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;

use crate::case::cases;
use crate::limits::{HIBERNATION, hibernate, producers};
use crate::setup::{ARRIVAL, reader, with_plugin};
use crate::story::{
    EXIT, MAIL, Story, Told, check_alive, check_arrived, check_lost, fill, session_pid,
    wait_for_end,
};

cases![;
    // Dovecot 2.3 has neither blocks nor these variables; its overrides are in limits.rs and
    // instances.rs.
    only_2_4: variables_are_expanded_for_each_user,
    a_userdb_field_overrides_a_setting_for_one_user,
    a_wrong_override_turns_one_instance_of_one_user_off,
    blocks_may_publish_to_different_clusters,
    global_settings_are_the_defaults_of_every_block,
    doveadm_overrides_a_setting_for_one_command,
    events_may_be_a_list_by_blanks_by_commas_or_a_section,
    overrides_and_variables_survive_hibernation,
    an_lmtp_process_may_serve_many_connections,
];

/// A Dovecot with this text in its configuration, `$BROKERS` being those of the broker.
fn dovecot(on: Installation, broker: &MockBroker, text: &str) -> Result<Builder> {
    let text = text.replace("$BROKERS", &broker.bootstrap_servers());
    Ok(with_plugin(on, Build::Dev)?.config(&text))
}

fn told(user: &str, events: &[&str]) -> Told {
    Told {
        user: user.to_owned(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
    }
}

/// One session that appends and flags a mail.
fn append_and_flag(dovecot: &Dovecot, user: &str) -> Result<()> {
    let mut imap = dovecot.login(user)?;
    let pid = session_pid(dovecot, user)?;
    imap.append("INBOX", "", None, MAIL)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r"STORE 1 +FLAGS (\Flagged)")?;
    imap.logout()?;
    wait_for_end(dovecot, pid)
}

/// What [`append_and_flag`] makes, besides the INBOX.
const APPENDED_AND_FLAGGED: [&str; 2] = ["MessageAppend 1", r"FlagsSet 1 \Flagged"];

fn check_quiet(dovecot: &Dovecot) -> Result<()> {
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
    check_alive(dovecot)
}

fn variables_are_expanded_for_each_user(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot(
        on,
        &broker,
        "push_notification d1 {
  driver = kafka
  kafka_brokers = $BROKERS
  kafka_topic = dovecot-%{user | domain}
  kafka_events = MessageNew MessageAppend FlagsSet
  kafka_settings {
    client.id = dovecot-%{user | username}
  }
}",
    )?
    .start()?;
    let users = [
        ("alice@a.example", "dovecot-a.example"),
        ("bob@b.example", "dovecot-b.example"),
    ];
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &users.map(|(user, _)| user), MAIL)?;
    for (user, topic) in users {
        check_arrived(
            &mut reader(&broker, topic)?,
            &[told(user, &["MessageNew 1"])],
        )?;
    }
    // A producer for each set of properties.
    let threads = process::threads(dovecot.pids("lmtp")?[0])?;
    ensure!(producers(&threads) == 2, "not two producers: {threads:?}");
    lmtp.quit()?;
    append_and_flag(&dovecot, "carol@a.example")?;
    let expected = [
        told("alice@a.example", &["MessageNew 1"]),
        told("carol@a.example", &APPENDED_AND_FLAGGED),
    ];
    check_arrived(&mut reader(&broker, "dovecot-a.example")?, &expected)?;
    check_quiet(&dovecot)
}

fn a_userdb_field_overrides_a_setting_for_one_user(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let fields = [
        ("push_notification/d1/kafka_topic", "vip"),
        (
            "push_notification/d1/kafka_settings/message.max.bytes",
            "2000",
        ),
    ];
    let dovecot = dovecot(
        on,
        &broker,
        "push_notification d1 {
  driver = kafka
  kafka_brokers = $BROKERS
  kafka_topic = everybody
  kafka_events = MessageNew
  kafka_settings {
    linger.ms = 0
  }
}",
    )?
    .user("alice", &fields)
    .start()?;
    let long = format!("Subject: {}\r\n\r\nx\r\n", "long ".repeat(800));
    let mut lmtp = dovecot.lmtp()?;
    for mail in [MAIL, long.as_bytes(), MAIL] {
        lmtp.deliver_ok("bob@sender.example", &["alice", "bob"], mail)?;
    }
    lmtp.quit()?;
    let alice = told("alice", &["MessageNew 1", "MessageNew 3"]);
    let bob = told("bob", &["MessageNew 1", "MessageNew 2", "MessageNew 3"]);
    check_arrived(&mut reader(&broker, "vip")?, &[alice])?;
    check_arrived(&mut reader(&broker, "everybody")?, &[bob])?;
    dovecot.wait_for_log("` lost: ", EXIT)?;
    check_lost(&dovecot, 1).context("only alice's long mail is too large")?;
    check_alive(&dovecot)
}

fn a_wrong_override_turns_one_instance_of_one_user_off(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot(
        on,
        &broker,
        "push_notification_kafka_brokers = $BROKERS
push_notification_kafka_events = MessageNew
push_notification d1 {
  driver = kafka
  kafka_topic = one
}
push_notification d2 {
  driver = kafka
  kafka_topic = two
}",
    )?
    .user("alice", &[("push_notification/d1/kafka_detail", "most")])
    .start()?;
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice", "bob"], MAIL)?;
    lmtp.deliver_ok("bob@sender.example", &["alice", "bob"], MAIL)?;
    lmtp.quit()?;
    let both = ["alice", "bob"].map(|user| told(user, &["MessageNew 1", "MessageNew 2"]));
    check_arrived(&mut reader(&broker, "two")?, &both)?;
    check_arrived(&mut reader(&broker, "one")?, &both[1..])?;
    let errors = dovecot.errors_in_log();
    let expected = "lmtp(alice)<";
    let what =
        "push_notification d1 { driver = kafka } is off: option `kafka_detail`: `most` is not ";
    ensure!(
        errors.len() == 1 && errors[0].contains(expected) && errors[0].contains(what),
        "not one error about alice's override: {errors:?}"
    );
    check_alive(&dovecot)
}

fn blocks_may_publish_to_different_clusters(on: Installation) -> Result<()> {
    let (one, two) = (MockBroker::start(1)?, MockBroker::start(1)?);
    let text = "push_notification one {
  driver = kafka
  kafka_brokers = $BROKERS
  kafka_topic = flags
  kafka_events = FlagsSet
}
push_notification two {
  driver = kafka
  kafka_brokers = $OTHERS
  kafka_topic = mails
  kafka_events = MessageAppend
}";
    let text = text.replace("$OTHERS", &two.bootstrap_servers());
    let dovecot = dovecot(on, &one, &text)?.start()?;
    append_and_flag(&dovecot, "alice")?;
    check_arrived(
        &mut reader(&one, "flags")?,
        &[told("alice", &APPENDED_AND_FLAGGED[1..])],
    )?;
    check_arrived(
        &mut reader(&two, "mails")?,
        &[told("alice", &APPENDED_AND_FLAGGED[..1])],
    )?;
    for (broker, topic) in [(&one, "mails"), (&two, "flags")] {
        let records = reader(broker, topic)?.drain()?;
        ensure!(records.is_empty(), "in the wrong cluster: {}", records[0]);
    }
    check_quiet(&dovecot)
}

fn global_settings_are_the_defaults_of_every_block(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot(
        on,
        &broker,
        "push_notification_kafka_brokers = $BROKERS
push_notification_kafka_topic = everything
push_notification_kafka_events = MessageAppend FlagsSet
push_notification_kafka_userdb = tenant
# The name of a block is its driver, unless it says otherwise.
push_notification kafka {
}
push_notification empty {
  driver = kafka
}
push_notification own {
  driver = kafka
  kafka_topic = flags
  kafka_events = FlagsSet
}",
    )?
    .user("alice", &[("tenant", "acme")])
    .start()?;
    append_and_flag(&dovecot, "alice")?;
    let records = reader(&broker, "everything")?.read(4, ARRIVAL)?;
    for record in &records {
        let text = String::from_utf8_lossy(&record.value).into_owned();
        ensure!(text.contains(r#""userdb":{"tenant":"acme"}"#), "{record}");
    }
    let mut lines: Vec<String> = records
        .iter()
        .map(crate::story::line)
        .collect::<Result<_>>()?;
    lines.sort();
    let [append, flag] = APPENDED_AND_FLAGGED;
    ensure!(lines == [flag, flag, append, append], "{lines:?}");
    check_arrived(&mut reader(&broker, "flags")?, &[told("alice", &[flag])])?;
    check_quiet(&dovecot)
}

fn doveadm_overrides_a_setting_for_one_command(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot(
        on,
        &broker,
        "push_notification d1 {
  driver = kafka
  kafka_brokers = $BROKERS
  kafka_events = FlagsSet FlagsClear
}",
    )?
    .start()?;
    fill(&dovecot, "alice", 1)?;
    let flags = |overrides: &[&str], action: &str| -> Result<()> {
        let command = [
            "flags",
            action,
            "-u",
            "alice",
            r"\Flagged",
            "mailbox",
            "INBOX",
            "all",
        ];
        let output = dovecot.doveadm(&[overrides, &command].concat())?;
        ensure!(output.status.success(), "doveadm: {output:?}");
        Ok(())
    };
    flags(&["-o", "push_notification/d1/kafka_topic=test"], "add")?;
    flags(&[], "remove")?;
    let set = told("alice", &[r"FlagsSet 1 \Flagged"]);
    let cleared = told("alice", &[r"FlagsClear 1 \Flagged"]);
    check_arrived(&mut reader(&broker, "test")?, &[set])?;
    check_arrived(&mut reader(&broker, "dovecot")?, &[cleared])?;
    check_quiet(&dovecot)
}

fn events_may_be_a_list_by_blanks_by_commas_or_a_section(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let forms = [
        ("blanks", "kafka_events = FlagsSet MessageAppend"),
        ("commas", "kafka_events = FlagsSet,MessageAppend"),
        ("quoted", "kafka_events = \"flagsset, MESSAGEAPPEND\""),
        (
            "section",
            "kafka_events {\n    FlagsSet = yes\n    MessageAppend = yes\n    MailboxCreate = no\n  }",
        ),
    ];
    let mut text = "push_notification_kafka_brokers = $BROKERS\n".to_owned();
    for (topic, events) in forms {
        write!(
            text,
            "push_notification {topic} {{\n  driver = kafka\n  kafka_topic = {topic}\n  {events}\n}}\n"
        )?;
    }
    let dovecot = dovecot(on, &broker, &text)?.start()?;
    append_and_flag(&dovecot, "alice")?;
    for (topic, _) in forms {
        check_arrived(
            &mut reader(&broker, topic)?,
            &[told("alice", &APPENDED_AND_FLAGGED)],
        )
        .context(topic)?;
    }
    check_quiet(&dovecot)
}

fn overrides_and_variables_survive_hibernation(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot(
        on,
        &broker,
        "push_notification d1 {
  driver = kafka
  kafka_brokers = $BROKERS
  kafka_topic = dovecot-%{user | domain}
  kafka_events = FlagsSet FlagsClear
  kafka_userdb = tenant
}",
    )?
    .config(HIBERNATION)
    .user("alice@a.example", &[("tenant", "acme")])
    .user(
        "bob@a.example",
        &[("push_notification/d1/kafka_topic", "vip")],
    )
    .start()?;
    for (user, topic) in [
        ("alice@a.example", "dovecot-a.example"),
        ("bob@a.example", "vip"),
    ] {
        let mut story = Story::open(&dovecot, user, 3)?;
        story.steps(4)?;
        hibernate(&dovecot, &mut story)?;
        story.steps(4)?;
        let told = story.logout()?;
        let mut records = reader(&broker, topic)?;
        check_arrived(&mut records, &[told]).context(user)?;
    }
    let records = reader(&broker, "dovecot-a.example")?.read(8, ARRIVAL)?;
    let without = records.iter().find(|record| {
        !String::from_utf8_lossy(&record.value).contains(r#""userdb":{"tenant":"acme"}"#)
    });
    ensure!(without.is_none(), "no userdb field: {without:?}");
    check_quiet(&dovecot)
}

fn an_lmtp_process_may_serve_many_connections(on: Installation) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let dovecot = dovecot(
        on,
        &broker,
        "push_notification d1 {
  driver = kafka
  kafka_brokers = $BROKERS
  kafka_events = MessageNew
}
service lmtp {
  # A connection that comes before the last one is done with would have a process of its own.
  process_limit = 1
  restart_request_count = 1000
}",
    )?
    .start()?;
    let mut pids = Vec::new();
    for _ in 0..5 {
        let mut lmtp = dovecot.lmtp()?;
        lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
        pids.extend(dovecot.pids("lmtp")?);
        lmtp.quit()?;
    }
    pids.dedup();
    ensure!(pids.len() == 1, "one lmtp process is wanted: {pids:?}");
    let threads = process::threads(pids[0])?;
    ensure!(producers(&threads) == 1, "not one producer: {threads:?}");
    let delivered: Vec<String> = (1..=5).map(|uid| format!("MessageNew {uid}")).collect();
    let told = Told {
        user: "alice".to_owned(),
        events: delivered,
    };
    check_arrived(&mut reader(&broker, "dovecot")?, &[told])?;
    check_quiet(&dovecot)
}

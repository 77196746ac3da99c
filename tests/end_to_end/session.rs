//! Every command that changes a mailbox, and exactly the records it makes, byte for byte.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use dovecast_testkit::dovecot::MailFormat;
use dovecast_testkit::imap::ImapClient;
use dovecast_testkit::topic::{Record, TopicReader};

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup, value};

cases![
    deliveries_make_message_new,
    imap_commands_make_their_events_on_maildir,
    imap_commands_make_their_events_on_sdbox,
];

const MAIL: &[u8] = b"From: Bob <bob@example.org>\r\nTo: alice@example.com\r\nSubject: Hi\r\n\
    Date: Fri, 20 Nov 2026 12:34:56 +0530\r\n\r\nHello Alice.\r\n";

/// What the JSON of [`MAIL`] ends with.
const CONTENT: &str = r#""from":"Bob <bob@example.org>","snippet":"Hello Alice.","subject":"Hi","to":"alice@example.com""#;

/// Commands and the records they have to make, in order.
struct Script {
    setup: Setup,
    expected: Vec<(String, String)>,
    reader: TopicReader,
    arrived: Vec<Record>,
}

impl Script {
    fn new(format: MailFormat) -> Result<Self> {
        let setup = Setup::start("", |builder| builder.mail_format(format).lmtp_sieve(true))?;
        setup.broker.create_topic("dovecot", 3)?;
        let reader = setup.reader("dovecot")?;
        Ok(Self {
            setup,
            expected: Vec::new(),
            reader,
            arrived: Vec::new(),
        })
    }

    /// After `act` the topic has these records of `user`; each is the JSON behind `"mailbox":`.
    fn expect(&mut self, act: &str, user: &str, tails: &[&str]) {
        for tail in tails {
            let json =
                format!(r#"{{"user":"{user}","mailbox":{tail}}}"#).replace("$CONTENT", CONTENT);
            self.expected.push((act.to_owned(), json));
        }
    }

    /// Runs an IMAP command of alice that has to succeed.
    fn imap(&mut self, imap: &mut ImapClient, command: &str, tails: &[&str]) -> Result<()> {
        imap.ok(command)?;
        self.expect(command, "alice", tails);
        Ok(())
    }

    /// Waits until as many records have arrived as are expected: those of another process come after them.
    fn settle(&mut self) -> Result<()> {
        let missing = self.expected.len().saturating_sub(self.arrived.len());
        self.arrived.extend(self.reader.read(missing, ARRIVAL)?);
        Ok(())
    }

    /// Compares what is in the topic with what was expected: nothing else, and the order kept per user.
    fn check(mut self) -> Result<()> {
        self.settle()?;
        self.arrived.extend(self.reader.drain()?);
        let records = &self.arrived;
        let users = ["alice", "bob", "carol"];
        for user in users {
            let key = |record: &&Record| record.key.as_deref() == Some(user.as_bytes());
            let mut arrived = records.iter().filter(key).map(value);
            let prefix = format!(r#"{{"user":"{user}","#);
            for (act, json) in self
                .expected
                .iter()
                .filter(|(_, json)| json.starts_with(&prefix))
            {
                let record = arrived.next().unwrap_or_default();
                ensure!(
                    record == *json,
                    "after {act}:\n  expected {json}\n  arrived  {record}"
                );
            }
            let rest: Vec<String> = arrived.collect();
            ensure!(rest.is_empty(), "more than expected: {rest:#?}");
        }
        ensure!(
            uidvalidities(records, "alice", "INBOX")?.len() == 1,
            "UIDVALIDITY of INBOX changed"
        );
        let errors = self.setup.dovecot.errors_in_log();
        ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
        Ok(())
    }
}

/// The different values of UIDVALIDITY, besides 0, in the records of a mailbox.
fn uidvalidities(records: &[Record], user: &str, mailbox: &str) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for record in records {
        let event = dovecast_event::parse(&record.value)?;
        if event.user == user && event.mailbox == mailbox {
            found.extend(event.uidvalidity.filter(|value| *value != 0));
        }
    }
    Ok(found)
}

fn deliveries_make_message_new() -> Result<()> {
    let mut script = Script::new(MailFormat::Maildir)?;
    let dovecot = &script.setup.dovecot;
    dovecot.write_sieve(
        "carol",
        "require [\"fileinto\", \"mailbox\"];\nfileinto :create \"Lists/dovecast\";\n",
    )?;
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &["alice"], MAIL)?;
    lmtp.deliver_ok("bob@example.org", &["alice", "bob"], MAIL)?;
    lmtp.deliver_ok("bob@example.org", &["alice", "alice"], MAIL)?;
    lmtp.deliver_ok("bob@example.org", &["carol"], MAIL)?;
    lmtp.quit()?;
    let created = r#""INBOX","event":"MailboxCreate","uidvalidity":0"#;
    let new = |uid: u32| {
        format!(
            r#""INBOX","event":"MessageNew","uidvalidity":V,"uid":{uid},"date":"2026-11-20T12:34:56+05:30",{CONTENT}"#
        )
    };
    script.expect("LMTP to one", "alice", &[created, &new(1)]);
    script.expect("LMTP to two", "alice", &[&new(2)]);
    script.expect("LMTP to two", "bob", &[created, &new(1)]);
    script.expect("LMTP to the same twice", "alice", &[&new(3)]);
    let filed = new(1).replacen("INBOX", "Lists/dovecast", 1);
    script.expect(
        "fileinto",
        "carol",
        &[
            r#""Lists/dovecast","event":"MailboxCreate","uidvalidity":0"#,
            &filed,
        ],
    );
    script.settle()?;
    let lda = script.setup.dovecot.lda("alice", MAIL, &[])?;
    ensure!(lda.status.success(), "dovecot-lda: {lda:?}");
    script.expect("LDA", "alice", &[&new(4)]);
    script.check()
}

fn imap_commands_make_their_events_on_maildir() -> Result<()> {
    imap_commands_make_their_events(MailFormat::Maildir)
}

fn imap_commands_make_their_events_on_sdbox() -> Result<()> {
    imap_commands_make_their_events(MailFormat::Sdbox)
}

fn imap_commands_make_their_events(format: MailFormat) -> Result<()> {
    let mut script = Script::new(format)?;
    let mut imap = script.setup.dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    // What Dovecot knows of a mailbox while it creates it differs by format and by process.
    let created = match format {
        MailFormat::Maildir => r#""INBOX","event":"MailboxCreate","uidvalidity":V"#,
        MailFormat::Sdbox => r#""INBOX","event":"MailboxCreate","uidvalidity":0"#,
    };
    script.expect("login", "alice", &[created]);
    append(&mut script, &mut imap)?;
    store(&mut script, &mut imap)?;
    fetch(&mut script, &mut imap)?;
    mailboxes(&mut script, &mut imap, format)?;
    copy_and_move(&mut script, &mut imap)?;
    expunge(&mut script, &mut imap)?;
    rename_and_delete(&mut script, &mut imap, format)?;
    imap.logout()?;
    script.check()
}

fn append(script: &mut Script, imap: &mut ImapClient) -> Result<()> {
    imap.append("INBOX", "", None, MAIL)?;
    script.expect(
        "APPEND",
        "alice",
        &[r#""INBOX","event":"MessageAppend","uidvalidity":V,"uid":1,$CONTENT"#],
    );
    imap.append("INBOX", "\\Seen \\Flagged $label1", None, MAIL)?;
    script.expect(
        "APPEND with flags",
        "alice",
        &[r#""INBOX","event":"MessageAppend","uidvalidity":V,"uid":2,$CONTENT"#],
    );
    imap.multiappend("INBOX", &[("", MAIL), ("\\Seen", MAIL), ("", MAIL)])?;
    script.expect(
        "MULTIAPPEND",
        "alice",
        &[
            r#""INBOX","event":"MessageAppend","uidvalidity":V,"uid":3,$CONTENT"#,
            r#""INBOX","event":"MessageAppend","uidvalidity":V,"uid":4,$CONTENT"#,
            r#""INBOX","event":"MessageAppend","uidvalidity":V,"uid":5,$CONTENT"#,
        ],
    );
    imap.ok("NOOP")?;
    Ok(())
}

fn store(script: &mut Script, imap: &mut ImapClient) -> Result<()> {
    script.imap(
        imap,
        "STORE 1 +FLAGS (\\Seen \\Answered \\Flagged \\Draft)",
        &[
            r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":1,"flags":["\\Answered","\\Flagged","\\Seen","\\Draft"]"#,
            r#""INBOX","event":"MessageRead","uidvalidity":V,"uid":1"#,
        ],
    )?;
    script.imap(imap, "STORE 1 +FLAGS (\\Seen)", &[])?;
    script.imap(
        imap,
        "STORE 1 -FLAGS.SILENT (\\Seen \\Flagged)",
        &[r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":1,"flags":["\\Flagged","\\Seen"]"#],
    )?;
    script.imap(
        imap,
        "STORE 1 FLAGS (\\Deleted)",
        &[
            r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":1,"flags":["\\Answered","\\Draft"]"#,
            r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":1,"flags":["\\Deleted"]"#,
            r#""INBOX","event":"MessageTrash","uidvalidity":V,"uid":1"#,
        ],
    )?;
    script.imap(
        imap,
        "STORE 1 FLAGS ()",
        &[r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":1,"flags":["\\Deleted"]"#],
    )?;
    script.imap(
        imap,
        "STORE 1 +FLAGS ($label1 $label2 Plain)",
        &[r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":1,"keywords":["$label1","$label2"]"#],
    )?;
    script.imap(imap, "STORE 1 -FLAGS (Plain)", &[])?;
    script.imap(
        imap,
        "STORE 1 -FLAGS ($label1)",
        &[r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":1,"keywords":["$label1"]"#],
    )?;
    script.imap(
        imap,
        "STORE 1 +FLAGS (\\Flagged Plain)",
        &[r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":1,"flags":["\\Flagged"],"keywords":[]"#],
    )?;
    script.imap(
        imap,
        "UID STORE 1:3 FLAGS (\\Seen $label3)",
        &[
            r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":1,"flags":["\\Flagged"],"keywords":["$label2"]"#,
            r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":1,"flags":["\\Seen"],"keywords":["$label3"]"#,
            r#""INBOX","event":"MessageRead","uidvalidity":V,"uid":1"#,
            r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":2,"flags":["\\Flagged"],"keywords":["$label1"]"#,
            r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":2,"keywords":["$label3"]"#,
            r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":3,"flags":["\\Seen"],"keywords":["$label3"]"#,
            r#""INBOX","event":"MessageRead","uidvalidity":V,"uid":3"#,
        ],
    )?;
    script.imap(
        imap,
        "STORE 1:* -FLAGS (\\Seen $label3)",
        &[
            r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":1,"flags":["\\Seen"],"keywords":["$label3"]"#,
            r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":2,"flags":["\\Seen"],"keywords":["$label3"]"#,
            r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":3,"flags":["\\Seen"],"keywords":["$label3"]"#,
            r#""INBOX","event":"FlagsClear","uidvalidity":V,"uid":4,"flags":["\\Seen"]"#,
        ],
    )
}

fn fetch(script: &mut Script, imap: &mut ImapClient) -> Result<()> {
    let read = |uid: u32| {
        [
            format!(r#""INBOX","event":"FlagsSet","uidvalidity":V,"uid":{uid},"flags":["\\Seen"]"#),
            format!(r#""INBOX","event":"MessageRead","uidvalidity":V,"uid":{uid}"#),
        ]
    };
    script.imap(imap, "FETCH 1 BODY.PEEK[]", &[])?;
    script.imap(
        imap,
        "FETCH 1 BODY[]",
        &read(1).each_ref().map(String::as_str),
    )?;
    script.imap(imap, "FETCH 1 BODY[]", &[])?;
    script.imap(
        imap,
        "FETCH 2 RFC822",
        &read(2).each_ref().map(String::as_str),
    )?;
    script.imap(
        imap,
        "UID FETCH 3 BODY[TEXT]",
        &read(3).each_ref().map(String::as_str),
    )?;
    script.imap(imap, "EXAMINE INBOX", &[])?;
    script.imap(imap, "FETCH 5 BODY[]", &[])?;
    script.imap(imap, "SELECT INBOX", &[])
}

fn mailboxes(script: &mut Script, imap: &mut ImapClient, format: MailFormat) -> Result<()> {
    // sdbox learns UIDVALIDITY only when the mailbox is first used.
    let uidvalidity = if format == MailFormat::Sdbox {
        "0"
    } else {
        "V"
    };
    let created =
        |name: &str| format!(r#""{name}","event":"MailboxCreate","uidvalidity":{uidvalidity}"#);
    script.imap(imap, "CREATE box", &[&created("box")])?;
    script.imap(
        imap,
        "CREATE parent/child/leaf",
        &[&created("parent/child/leaf")],
    )?;
    script.imap(imap, "CREATE empty", &[&created("empty")])?;
    script.imap(
        imap,
        "SUBSCRIBE box",
        &[r#""box","event":"MailboxSubscribe""#],
    )?;
    script.imap(
        imap,
        "UNSUBSCRIBE box",
        &[r#""box","event":"MailboxUnsubscribe""#],
    )?;
    script.imap(imap, "UNSUBSCRIBE box", &[])
}

fn copy_and_move(script: &mut Script, imap: &mut ImapClient) -> Result<()> {
    script.imap(
        imap,
        "COPY 1:2 box",
        &[
            r#""box","event":"MessageAppend","uidvalidity":V,"uid":1,$CONTENT"#,
            r#""box","event":"MessageAppend","uidvalidity":V,"uid":2,$CONTENT"#,
        ],
    )?;
    script.imap(
        imap,
        "UID COPY 3 parent/child/leaf",
        &[r#""parent/child/leaf","event":"MessageAppend","uidvalidity":V,"uid":1,$CONTENT"#],
    )?;
    script.imap(
        imap,
        "MOVE 1 box",
        &[
            r#""box","event":"MessageAppend","uidvalidity":V,"uid":3,$CONTENT"#,
            r#""INBOX","event":"MessageExpunge","uidvalidity":V,"uid":1"#,
        ],
    )?;
    script.imap(
        imap,
        "UID MOVE 2 box",
        &[
            r#""box","event":"MessageAppend","uidvalidity":V,"uid":4,$CONTENT"#,
            r#""INBOX","event":"MessageExpunge","uidvalidity":V,"uid":2"#,
        ],
    )
}

fn expunge(script: &mut Script, imap: &mut ImapClient) -> Result<()> {
    let deleted = |name: &str, uid: u32| {
        [
            format!(
                r#""{name}","event":"FlagsSet","uidvalidity":V,"uid":{uid},"flags":["\\Deleted"]"#
            ),
            format!(r#""{name}","event":"MessageTrash","uidvalidity":V,"uid":{uid}"#),
        ]
    };
    let expunged = |name: &str, uid: u32| {
        format!(r#""{name}","event":"MessageExpunge","uidvalidity":V,"uid":{uid}"#)
    };
    let [set_3, trash_3] = deleted("INBOX", 3);
    let [set_4, trash_4] = deleted("INBOX", 4);
    script.imap(
        imap,
        "UID STORE 3:4 +FLAGS (\\Deleted)",
        &[&set_3, &trash_3, &set_4, &trash_4],
    )?;
    script.imap(imap, "UID EXPUNGE 4", &[&expunged("INBOX", 4)])?;
    script.imap(imap, "EXPUNGE", &[&expunged("INBOX", 3)])?;
    script.imap(imap, "EXPUNGE", &[])?;
    script.imap(imap, "SELECT box", &[])?;
    let [set_1, trash_1] = deleted("box", 1);
    script.imap(
        imap,
        "STORE 1 +FLAGS.SILENT (\\Deleted)",
        &[&set_1, &trash_1],
    )?;
    script.imap(imap, "CLOSE", &[&expunged("box", 1)])
}

fn rename_and_delete(script: &mut Script, imap: &mut ImapClient, format: MailFormat) -> Result<()> {
    script.imap(
        imap,
        "RENAME box \"B\u{f6}x\""
            .replace('\u{f6}', "&APY-")
            .as_str(),
        &[r#""Böx","event":"MailboxRename","oldMailbox":"box""#],
    )?;
    script.imap(
        imap,
        "RENAME parent elder",
        &[r#""elder","event":"MailboxRename","oldMailbox":"parent""#],
    )?;
    script.imap(
        imap,
        "DELETE empty",
        &[r#""empty","event":"MailboxDelete""#],
    )?;
    script.imap(
        imap,
        "DELETE B&APY-x",
        &[
            r#""Böx","event":"MessageExpunge","uidvalidity":V,"uid":2"#,
            r#""Böx","event":"MessageExpunge","uidvalidity":V,"uid":3"#,
            r#""Böx","event":"MessageExpunge","uidvalidity":V,"uid":4"#,
            r#""Böx","event":"MailboxDelete""#,
        ],
    )?;
    if format == MailFormat::Sdbox {
        script.imap(
            imap,
            "RENAME INBOX old",
            &[r#""old","event":"MailboxRename","oldMailbox":"INBOX""#],
        )?;
    }
    Ok(())
}

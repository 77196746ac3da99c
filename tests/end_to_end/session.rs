//! Every command that changes a mailbox, and exactly the records it makes, byte for byte.

use anyhow::{Result, ensure};
use dovecast_testkit::dovecot::{Installation, MailFormat};
use dovecast_testkit::imap::ImapClient;

use crate::case::cases;
use crate::differences;
use crate::script::{CONTENT, MAIL, Script};

cases![
    deliveries_make_message_new,
    imap_commands_make_their_events_on_maildir,
    imap_commands_make_their_events_on_sdbox,
];

fn deliveries_make_message_new(on: Installation) -> Result<()> {
    let mut script = Script::new(on, "", MailFormat::Maildir)?;
    deliveries(&mut script)?;
    script.check()
}

fn imap_commands_make_their_events_on_maildir(on: Installation) -> Result<()> {
    let mut script = Script::new(on, "", MailFormat::Maildir)?;
    commands(&mut script, MailFormat::Maildir)?;
    script.check()
}

fn imap_commands_make_their_events_on_sdbox(on: Installation) -> Result<()> {
    let mut script = Script::new(on, "", MailFormat::Sdbox)?;
    commands(&mut script, MailFormat::Sdbox)?;
    script.check()
}

/// Mail by LMTP, for one and for several, filed by Sieve, and by LDA.
pub(crate) fn deliveries(script: &mut Script) -> Result<()> {
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
    let lists = r#""Lists/dovecast","event":"MailboxCreate","uidvalidity":0"#;
    script.expect("fileinto", "carol", &[lists]);
    if differences::of(script.setup.dovecot.installation())?.inbox_has_an_event {
        let inbox = r#""INBOX","event":"MailboxCreate","uidvalidity":V"#;
        script.expect("fileinto", "carol", &[inbox]);
    }
    script.expect("fileinto", "carol", &[&filed]);
    script.settle()?;
    let lda = script.setup.dovecot.lda("alice", MAIL, &[])?;
    ensure!(lda.status.success(), "dovecot-lda: {lda:?}");
    script.expect("LDA", "alice", &[&new(4)]);
    Ok(())
}

/// Every IMAP command that changes a mailbox.
pub(crate) fn commands(script: &mut Script, format: MailFormat) -> Result<()> {
    let mut imap = script.setup.dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    // What Dovecot knows of a mailbox while it creates it differs by format and by process.
    let created = match format {
        MailFormat::Maildir => r#""INBOX","event":"MailboxCreate","uidvalidity":V"#,
        MailFormat::Sdbox => r#""INBOX","event":"MailboxCreate","uidvalidity":0"#,
    };
    script.expect("login", "alice", &[created]);
    append(script, &mut imap)?;
    store_flags(script, &mut imap)?;
    store_keywords(script, &mut imap)?;
    fetch(script, &mut imap)?;
    mailboxes(script, &mut imap, format)?;
    copy_and_move(script, &mut imap)?;
    expunge(script, &mut imap)?;
    rename_and_delete(script, &mut imap, format)?;
    imap.logout()?;
    Ok(())
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

fn store_flags(script: &mut Script, imap: &mut ImapClient) -> Result<()> {
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
    Ok(())
}

fn store_keywords(script: &mut Script, imap: &mut ImapClient) -> Result<()> {
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

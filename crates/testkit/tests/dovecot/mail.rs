//! Mail by every way in, in both formats, for users of every name.

use std::thread;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, MailFormat, Series};
use dovecast_testkit::imap::{ImapClient, astring, mutf7};

use crate::{MAIL, SENDER, SOON, cases, doveadm_output, stop_cleanly, with_dlog};

cases![
    mail_is_delivered_read_and_moved_in_maildir_and_sdbox_at_the_same_time,
    user_names_may_be_odd,
    lda_delivers_and_sieve_files_what_comes_by_lmtp_and_lda,
];

/// Deliveries to two users, then everything one does with mail over IMAP; the driver sees all of
/// it.
fn use_mail(dovecot: &Dovecot) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok(SENDER, &["alice@a.example", "Carol@a.example"], MAIL)?;
    lmtp.deliver_ok("", &["alice@a.example"], MAIL)?;
    let replies = lmtp.deliver(SENDER, &["jürg@a.example", "alice@a.example"], MAIL)?;
    let utf8_recipient = match dovecot.installation().series() {
        Series::V2_3 => 501,
        Series::V2_4 => 250,
    };
    ensure!(
        replies.len() == 2 && replies[0].code == utf8_recipient && replies[1].is_ok(),
        "{replies:?}"
    );
    lmtp.quit()?;

    let mut imap = dovecot.login("alice@a.example")?;
    let select = imap.ok("SELECT INBOX")?;
    ensure!(
        select.find("3 EXISTS").is_some() && select.code("READ-WRITE").is_some(),
        "{select}"
    );
    let fetched = imap.ok("FETCH 1 (BODY[TEXT])")?;
    let body = "BODY[TEXT] {28}\r\nHello,\r\n.\r\n..two dots\r\nbye\r\n";
    ensure!(fetched.find(body).is_some(), "{fetched}");
    imap.ok(r"STORE 1:2 +FLAGS (\Flagged $label1)")?;
    imap.ok(r"STORE 1 -FLAGS (\Flagged)")?;
    imap.ok("CREATE Archive")?;
    imap.ok("COPY 1:2 Archive")?;
    imap.ok("MOVE 3 Archive")?;
    imap.ok(r"STORE 2 +FLAGS (\Deleted)")?;
    imap.ok("EXPUNGE")?;
    let appended = imap.append(
        "Archive",
        r"\Seen $label2",
        Some("20-Nov-2026 12:34:56 +0530"),
        b"Subject: x\r\n\r\ny\r\n",
    )?;
    ensure!(appended.code("APPENDUID").is_some(), "{appended}");
    imap.multiappend(
        "Archive",
        &[
            ("", MAIL),
            (r"\Answered", b"Subject: z\r\n\r\n"),
            (r"\Draft", MAIL),
        ],
    )?;
    let status = imap.ok("STATUS Archive (MESSAGES)")?;
    ensure!(status.find("MESSAGES 7").is_some(), "{status}");
    check_mailbox_names(&mut imap)?;
    imap.ok(r#"SETMETADATA "" (/private/vendor/vendor.dovecot/http-notify "user=11@3")"#)?;
    imap.logout()?;

    // dlog says nothing of its own about new and appended messages.
    for line in [
        "FlagsSet: Flagged flag set",
        "FlagsClear: Flagged flag cleared",
        "MessageRead: ",
        "MessageTrash: ",
        "MessageExpunge: ",
        "MailboxCreate: ",
        "MailboxRename: Mailbox was renamed (old name: a & b)",
        "MailboxDelete: ",
        "Mailbox [日本語/メール], UID [1]",
        "Mailbox [Archive], UID [7]",
    ] {
        dovecot.wait_for_log(line, SOON)?;
    }
    Ok(())
}

fn check_mailbox_names(imap: &mut ImapClient) -> Result<()> {
    for name in ["日本語/メール", "a & b", r#"o"neil \ co"#, "📬"] {
        let quoted = String::from_utf8(astring(&mutf7(name)))?;
        imap.ok(&format!("CREATE {quoted}"))?;
        imap.append(&mutf7(name), "", None, MAIL)?;
        let status = imap.ok(&format!("STATUS {quoted} (MESSAGES)"))?;
        ensure!(status.find("MESSAGES 1").is_some(), "`{name}`: {status}");
    }
    let refused = imap
        .ok("RENAME missing other")
        .err()
        .context("RENAME of a missing mailbox was answered OK")?;
    ensure!(
        refused
            .to_string()
            .contains("RENAME missing other` was answered `No "),
        "{refused}"
    );
    imap.ok(r#"RENAME "a &- b" old"#)?;
    imap.ok("DELETE old")?;
    Ok(())
}

fn mail_is_delivered_read_and_moved_in_maildir_and_sdbox_at_the_same_time(
    installation: Installation,
) -> Result<()> {
    let maildir = with_dlog(installation).start()?;
    let sdbox = with_dlog(installation)
        .mail_format(MailFormat::Sdbox)
        .start()?;
    assert_ne!(maildir.address(), sdbox.address());
    thread::scope(|scope| {
        let other = scope.spawn(|| use_mail(&sdbox));
        use_mail(&maildir).context("Maildir")?;
        other.join().expect("no panic").context("sdbox")
    })?;
    assert!(maildir.home("alice@a.example").join("Maildir/cur").is_dir());
    assert!(
        sdbox
            .home("Carol@a.example")
            .join("sdbox/mailboxes")
            .is_dir()
    );
    stop_cleanly(maildir)?;
    stop_cleanly(sdbox)
}

fn user_names_may_be_odd(installation: Installation) -> Result<()> {
    let dovecot = with_dlog(installation).start()?;
    let names = [
        r#"o"neil\x"#,
        "a b",
        "jürg@例え.example",
        "Upper.Case+tag@a.example",
        "100%u",
        "'",
        "a$b#c",
    ];
    for name in names {
        let mut imap = dovecot
            .login(name)
            .with_context(|| format!("user `{name}`"))?;
        imap.append("INBOX", "", None, MAIL)?;
        imap.logout()?;
        assert!(dovecot.home(name).is_dir(), "{name}");
    }
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok(
        SENDER,
        &[r#""quoted name"@a.example"#, "plus+tag@a.example", "'"],
        MAIL,
    )?;
    assert!(dovecot.home("plus+tag@a.example").is_dir());
    assert!(dovecot.imap()?.login("alice", "wrong").is_err());
    stop_cleanly(dovecot)
}

fn lda_delivers_and_sieve_files_what_comes_by_lmtp_and_lda(
    installation: Installation,
) -> Result<()> {
    let dovecot = with_dlog(installation)
        .lmtp_sieve(true)
        .special_use_mailboxes(true)
        .start()?;
    let script = "require [\"fileinto\", \"imap4flags\"];\nif header :contains \"subject\" \"Hello\" {\n\
                  setflag \"\\\\Flagged\"; fileinto \"Junk\"; }\n";
    dovecot.write_sieve("alice", script)?;
    dovecot
        .lmtp()?
        .deliver_ok(SENDER, &["alice", "bob"], MAIL)?;
    let lda = dovecot.lda("alice", MAIL, &["-f", SENDER])?;
    assert!(lda.status.success(), "{lda:?}");
    assert!(
        dovecot
            .lda("bob", MAIL, &["-m", "Drafts"])?
            .status
            .success()
    );

    let mut imap = dovecot.login("alice")?;
    let junk = imap.ok("STATUS Junk (MESSAGES)")?;
    assert!(junk.find("MESSAGES 2").is_some(), "{junk}");
    assert!(
        doveadm_output(
            &dovecot,
            &["mailbox", "status", "-u", "bob", "messages", "Drafts"]
        )?
        .contains("messages=1")
    );
    assert_ne!(
        dovecot
            .doveadm(&["mailbox", "status", "-u", "bob", "messages", "Missing"])?
            .status
            .code(),
        Some(0)
    );
    dovecot.wait_for_log("lda(alice)", SOON)?;
    stop_cleanly(dovecot)
}

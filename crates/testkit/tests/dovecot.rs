//! The testkit's Dovecot, mail clients and process figures against the installed Dovecot, with the stock driver `dlog`.
//!
//! Needs root and Debian's dovecot-core, dovecot-imapd, dovecot-lmtpd and dovecot-sieve.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Dovecot, MailFormat};
use dovecast_testkit::imap::{ImapClient, astring, mutf7};
use dovecast_testkit::process::{self, ProcessStats};

const MAIL: &[u8] =
    b"From: Bob <bob@sender.example>\nTo: you\nSubject: Hello\n\nHello,\n.\n..two dots\nbye\n";
const SENDER: &str = "bob@sender.example";
const SOON: Duration = Duration::from_secs(10);

fn with_dlog() -> Builder {
    Dovecot::builder().plugin_setting("push_notification_driver", "dlog")
}

/// Stops Dovecot and complains about whatever it had to complain about.
fn stop_cleanly(mut dovecot: Dovecot) -> Result<()> {
    let status = dovecot.stop()?;
    ensure!(status.success(), "Dovecot ended with {status}");
    let errors = dovecot.errors_in_log();
    ensure!(
        errors.is_empty(),
        "errors in Dovecot's log:\n{}",
        errors.join("\n")
    );
    Ok(())
}

/// What doveadm prints; an error if it fails.
fn doveadm_output(dovecot: &Dovecot, arguments: &[&str]) -> Result<String> {
    let output = dovecot.doveadm(arguments)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "doveadm {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Deliveries to two users, then everything one does with mail over IMAP; the driver sees all of it.
fn use_mail(dovecot: &Dovecot) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok(SENDER, &["alice@a.example", "Carol@a.example"], MAIL)?;
    lmtp.deliver_ok("", &["alice@a.example"], MAIL)?;
    let replies = lmtp.deliver(SENDER, &["jürg@a.example", "alice@a.example"], MAIL)?;
    ensure!(
        replies.len() == 2 && replies[0].code == 501 && replies[1].is_ok(),
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

#[test]
fn mail_is_delivered_read_and_moved_in_maildir_and_sdbox_at_the_same_time() -> Result<()> {
    let maildir = with_dlog().start()?;
    let sdbox = with_dlog().mail_format(MailFormat::Sdbox).start()?;
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

#[test]
fn user_names_may_be_odd() -> Result<()> {
    let dovecot = with_dlog().start()?;
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

#[test]
fn lda_delivers_and_sieve_files_what_comes_by_lmtp_and_lda() -> Result<()> {
    let dovecot = with_dlog()
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

#[test]
fn fifty_sessions_are_served_at_once() -> Result<()> {
    let dovecot = with_dlog().no_plugins().start()?;
    let mut sessions = Vec::new();
    for number in 0..50 {
        let mut session = dovecot.login(&format!("user{number}"))?;
        session.ok("SELECT INBOX")?;
        session.idle_start()?;
        sessions.push(session);
    }
    let pids = dovecot.pids("imap")?;
    assert_eq!(pids.len(), 50);
    let stats = ProcessStats::of(pids[0])?;
    assert!(
        stats.rss_kb > 1000 && stats.vm_size_kb > stats.rss_kb && stats.fds > 5,
        "{stats:?}"
    );
    assert_eq!((stats.threads, stats.tcp_sockets), (1, 1));

    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok(SENDER, &["user7"], MAIL)?;
    let seen = String::from_utf8(sessions[7].idle_wait()?)?;
    assert!(seen.contains("1 EXISTS"), "{seen}");
    for session in &mut sessions {
        session.idle_done()?;
    }
    sessions.pop().context("a session")?.close_abruptly();
    sessions.pop().context("a session")?.logout()?;
    process::poll_until(SOON, || {
        (dovecot.pids("imap").ok()?.len() == 48).then_some(())
    })
    .context("48 sessions")?;
    // The others are still there when Dovecot stops.
    stop_cleanly(dovecot)?;
    assert!(pids.iter().all(|pid| !process::is_running(*pid)));
    Ok(())
}

#[test]
fn a_stopped_process_is_seen_and_goes_on() -> Result<()> {
    let dovecot = Dovecot::builder().start()?;
    let mut imap = dovecot.login("alice")?;
    let pid = dovecot.pids("imap")?[0];
    process::signal(pid, "STOP")?;
    assert!(process::wait_exit(pid, Duration::from_millis(20)).is_err());
    process::signal(pid, "CONT")?;
    imap.ok("NOOP")?;
    process::signal(pid, "KILL")?;
    process::wait_exit(pid, SOON)?;
    assert!(imap.command("NOOP").is_err());
    dovecot.wait_for_log("killed with signal 9", SOON)?;
    assert_eq!(dovecot.errors_in_log().len(), 1);
    Ok(())
}

/// What `doveadm user` says about a userdb field: what plugins get as well.
fn userdb_field(dovecot: &Dovecot, user: &str, field: &str) -> Result<String> {
    Ok(doveadm_output(dovecot, &["user", "-f", field, user])?
        .trim_end_matches('\n')
        .to_owned())
}

/// A Lua driver that writes the settings and the environment that a plugin sees into the log.
const SHOW_SETTINGS: &str = r#"
function dovecot_lua_notify_begin_txn(user)
  for _, key in ipairs({"odd", "file", "expanded", "tenant"}) do
    dovecot.i_info(key .. "=[" .. tostring(user:plugin_getenv(key)) .. "]")
  end
  dovecot.i_info("environment=[" .. tostring(os.getenv("TESTKIT_SET")) .. "][" .. tostring(os.getenv("PATH")) .. "]")
  return {}
end
function dovecot_lua_notify_event_message_append(context, event) end
function dovecot_lua_notify_end_txn(context, success) end
"#;

#[test]
fn settings_reach_plugins_as_they_were_written() -> Result<()> {
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let script = tempfile::Builder::new()
        .prefix("dc.")
        .suffix(".lua")
        .permissions(readable)
        .tempfile_in("/tmp")?;
    std::fs::write(script.path(), SHOW_SETTINGS)?;
    let odd = r#" # 'one' "two" \three\ $four 100% %u %{user} ünf < "#;
    let dovecot = Dovecot::builder()
        .extra_mail_plugins("mail_lua push_notification_lua")
        .plugin_setting(
            "push_notification_driver",
            &format!("lua:file={}", script.path().display()),
        )
        .plugin_setting("odd", odd)
        .plugin_setting("file", "<5")
        .plugin_setting_raw("expanded", "name=%u")
        .user("alice", &[("tenant", "50%u")])
        .env("TESTKIT_SET", "a value")
        .import("PATH")
        .start()?;
    dovecot.login("alice")?.append("INBOX", "", None, MAIL)?;
    for line in [
        format!("odd=[{odd}]"),
        "file=[<5]".into(),
        "expanded=[name=alice]".into(),
        "tenant=[50%u]".into(),
    ] {
        dovecot.wait_for_log(&line, SOON)?;
    }
    dovecot.wait_for_log("environment=[a value][/", SOON)?;
    stop_cleanly(dovecot)
}

#[test]
fn settings_reach_dovecot() -> Result<()> {
    let dovecot = with_dlog()
        .user("alice", &[("tenant", "acme")])
        .user("o\"neil smi'th", &[("tenant", "a:b"), ("other", "x")])
        .vsz_limit("512 M")
        .recipient_delimiter("+")
        .lowercase_user_names(true)
        .config("protocol imap {\n  mail_max_userip_connections = 1\n}")
        .start()?;
    assert_eq!(userdb_field(&dovecot, "ALICE", "tenant")?, "acme");
    assert_eq!(userdb_field(&dovecot, "o\"neil smi'th", "tenant")?, "a:b");
    assert_eq!(
        userdb_field(&dovecot, "alice", "home")?,
        dovecot.home("alice").display().to_string()
    );
    dovecot.lmtp()?.deliver_ok(SENDER, &["Alice+tag"], MAIL)?;

    let mut session = dovecot.login("Alice")?;
    assert!(
        session
            .ok("STATUS INBOX (MESSAGES)")?
            .find("MESSAGES 1")
            .is_some()
    );
    assert!(dovecot.login("alice").is_err());
    let pid = dovecot.pids("imap")?[0];
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    assert!(
        limits.contains("Max address space         536870912"),
        "{limits}"
    );
    stop_cleanly(dovecot)
}

#[test]
fn dovecot_reloads_and_restarts() -> Result<()> {
    let mut dovecot = with_dlog().start()?;
    let mut before = dovecot.login("alice")?;
    let config = std::fs::read_to_string(dovecot.config_path())?
        + "protocol imap {\n  imap_id_send = \"name reloaded\"\n}\n";
    std::fs::write(dovecot.config_path(), config)?;
    dovecot.reload()?;
    before.ok("NOOP")?;
    let id = dovecot.login("alice")?.ok("ID NIL")?;
    assert!(id.find("reloaded").is_some(), "{id}");
    dovecot.restart()?;
    dovecot.login("alice")?.logout()?;
    stop_cleanly(dovecot)
}

#[test]
fn a_wrong_configuration_is_an_error_that_says_what_is_wrong() {
    let error = Dovecot::builder()
        .config("no_such_setting = 1")
        .start()
        .expect_err("an error");
    assert!(
        format!("{error:#}").contains("no_such_setting"),
        "{error:#}"
    );
    let error = Dovecot::builder()
        .user("a", &[("b", "c d")])
        .start()
        .expect_err("an error");
    assert!(
        format!("{error:#}").contains("userdb field `b`"),
        "{error:#}"
    );
    let error = Dovecot::builder()
        .plugin("/missing.so")
        .start()
        .expect_err("an error");
    assert!(format!("{error:#}").contains("/missing.so"), "{error:#}");
}

#[test]
fn start_and_stop_take_well_under_five_seconds() -> Result<()> {
    let began = Instant::now();
    let dovecot = with_dlog().start()?;
    let started = began.elapsed();
    let began = Instant::now();
    stop_cleanly(dovecot)?;
    println!("started in {started:?}, stopped in {:?}", began.elapsed());
    assert!(started < Duration::from_secs(5) && began.elapsed() < Duration::from_secs(5));
    Ok(())
}

//! Start, stop, reload, many processes at once, and processes that are stopped or killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_testkit::dovecot::{Installation, Series};
use dovecast_testkit::process::{self, ProcessStats};

use crate::{MAIL, SENDER, SOON, cases, on, stop_cleanly, with_dlog};

cases![
    fifty_sessions_are_served_at_once,
    a_stopped_process_is_seen_and_goes_on,
    dovecot_reloads_and_restarts,
    it_starts_and_stops_by_itself,
];

fn fifty_sessions_are_served_at_once(installation: Installation) -> Result<()> {
    let dovecot = with_dlog(installation).no_plugins().start()?;
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

fn a_stopped_process_is_seen_and_goes_on(installation: Installation) -> Result<()> {
    let dovecot = on(installation).start()?;
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

fn dovecot_reloads_and_restarts(installation: Installation) -> Result<()> {
    let mut dovecot = with_dlog(installation).start()?;
    let mut before = dovecot.login("alice")?;
    let id = match installation.series() {
        Series::V2_3 => "imap_id_send = \"name reloaded\"\n",
        Series::V2_4 => "imap_id_send {\n  name = reloaded\n}\n",
    };
    let config = std::fs::read_to_string(dovecot.config_path())? + id;
    std::fs::write(dovecot.config_path(), config)?;
    dovecot.reload()?;
    before.ok("NOOP")?;
    let id = dovecot.login("alice")?.ok("ID NIL")?;
    assert!(id.find("reloaded").is_some(), "{id}");
    dovecot.restart()?;
    dovecot.login("alice")?.logout()?;
    stop_cleanly(dovecot)
}

fn it_starts_and_stops_by_itself(installation: Installation) -> Result<()> {
    let began = Instant::now();
    let dovecot = with_dlog(installation).start()?;
    let started = began.elapsed();
    let began = Instant::now();
    stop_cleanly(dovecot)?;
    println!("started in {started:?}, stopped in {:?}", began.elapsed());
    Ok(())
}

//! What happens to processes: they end, are killed, panic, lose their plugin's file, live long.

use std::fs;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::plugin::{Build, modules};

use crate::case::cases;
use crate::setup::{ARRIVAL, Setup};
use crate::story::{
    EXIT, MAIL, Story, Told, check_alive, check_arrived, fill, session_pid, wait_for_end,
};

cases![
    fifty_sessions_that_log_out_at_once_lose_nothing,
    sessions_that_are_kicked_lose_nothing,
    clients_that_just_disappear_lose_nothing,
    doveadm_and_lda_publish_before_they_end,
    a_panic_costs_mail_nothing_and_later_sessions_nothing,
    the_plugin_can_be_replaced_under_running_sessions,
];

/// One short session of `alice` for each of `count` mails: it flags the mail and is ended by `end`.
/// All must arrive.
fn short_sessions(
    on: Installation,
    count: usize,
    mut end: impl FnMut(&Dovecot, Story) -> Result<()>,
) -> Result<()> {
    let setup = Setup::start(on, "events=FlagsSet", |builder| builder)?;
    fill(&setup.dovecot, "alice", count)?;
    for mail in 1..=count {
        let story = Story::resume(&setup.dovecot, "alice", mail)?;
        end(&setup.dovecot, story).with_context(|| format!("session number {mail}"))?;
    }
    let events = (1..=count).map(|mail| format!("FlagsSet {mail} \\Flagged"));
    let told = Told {
        user: "alice".to_owned(),
        events: events.collect(),
    };
    // The next session may begin before the last one has flushed: each event is there, their order
    // is another matter.
    let mut records = setup.reader("dovecot")?.read(count, ARRIVAL)?;
    records.sort_by_key(|record| record.header("dovecast-id").map(<[u8]>::to_vec));
    crate::story::check_same(&records, &[told])?;
    check_alive(&setup.dovecot)
}

/// Flags the last mail of a story and does not wait for the answer to what comes after it in the
/// same packet.
fn flag_last_and(story: &mut Story, then: &str) -> Result<()> {
    let command = format!("STORE {} +FLAGS.SILENT (\\Flagged){then}", story.mails());
    story.imap.ok(&command).map(|_| ())
}

fn fifty_sessions_that_log_out_at_once_lose_nothing(on: Installation) -> Result<()> {
    // Every other one says LOGOUT before it has the answer to STORE.
    let mut is_pipelined = false;
    short_sessions(on, 50, |_, mut story| {
        is_pipelined = !is_pipelined;
        if is_pipelined {
            flag_last_and(&mut story, "\r\nlast LOGOUT")
        } else {
            flag_last_and(&mut story, "")?;
            story.imap.logout().map(|_| ())
        }
    })
}

fn sessions_that_are_kicked_lose_nothing(on: Installation) -> Result<()> {
    short_sessions(on, 10, |dovecot, mut story| {
        let pid = session_pid(dovecot, "alice")?;
        flag_last_and(&mut story, "")?;
        let kicked = dovecot.doveadm(&["kick", "alice"])?;
        ensure!(kicked.status.success(), "doveadm kick: {kicked:?}");
        wait_for_end(dovecot, pid)
    })
}

fn clients_that_just_disappear_lose_nothing(on: Installation) -> Result<()> {
    short_sessions(on, 20, |_, mut story| {
        flag_last_and(&mut story, "")?;
        story.imap.close_abruptly();
        Ok(())
    })
}

fn doveadm_and_lda_publish_before_they_end(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=FlagsSet,MessageNew", |builder| builder)?;
    fill(&setup.dovecot, "alice", 3)?;
    let flags = [
        "flags",
        "add",
        "-u",
        "alice",
        "\\Flagged",
        "mailbox",
        "INBOX",
        "all",
    ];
    let output = setup.dovecot.doveadm(&flags)?;
    ensure!(output.status.success(), "doveadm: {output:?}");
    let output = setup.dovecot.lda("alice", MAIL, &[])?;
    ensure!(output.status.success(), "dovecot-lda: {output:?}");
    let flagged = (1..=3).map(|uid| format!("FlagsSet {uid} \\Flagged"));
    let told = Told {
        user: "alice".to_owned(),
        events: flagged.chain(["MessageNew 4".to_owned()]).collect(),
    };
    check_arrived(&mut setup.reader("dovecot")?, &[told])?;
    check_alive(&setup.dovecot)
}

fn a_panic_costs_mail_nothing_and_later_sessions_nothing(on: Installation) -> Result<()> {
    let plugin = modules(on, Build::FaultInjection)?.plugin;
    let setup = Setup::start(on, "events=FlagsSet,MessageTrash", |builder| {
        builder
            .plugin(plugin)
            .field("dovecast_fault", "MessageTrash")
    })?;
    let mut alice = Story::open(&setup.dovecot, "alice", 10)?;
    let pid = session_pid(&setup.dovecot, "alice")?;
    alice.steps(4)?;
    alice.imap.ok("STORE 1 +FLAGS (\\Deleted)")?;
    let line = setup.dovecot.wait_for_log("the driver panicked", EXIT)?;
    ensure!(
        line.contains("fault injected into MessageTrash"),
        "the log does not name the panic: {line}"
    );
    for mail in 2..=5 {
        alice.imap.ok(&format!("STORE {mail} +FLAGS (\\Deleted)"))?;
    }
    alice.imap.ok("EXPUNGE")?;
    let told = alice.logout()?;
    wait_for_end(&setup.dovecot, pid)?;

    let mut bob = Story::open(&setup.dovecot, "bob", 3)?;
    bob.steps(3)?;
    check_arrived(&mut setup.reader("dovecot")?, &[told, bob.logout()?])?;
    let errors = setup.dovecot.errors_in_log();
    ensure!(
        errors.len() == 1,
        "more than the panic is an error: {errors:?}"
    );
    check_alive(&setup.dovecot)
}

fn the_plugin_can_be_replaced_under_running_sessions(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=FlagsSet,FlagsClear,MessageNew", |builder| {
        builder
    })?;
    let mut before = Story::open(&setup.dovecot, "alice", 3)?;
    before.steps(3)?;
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;

    let installed = setup.dovecot.plugin_path();
    let new = installed.with_extension("new");
    for _ in 0..2 {
        fs::copy(&installed, &new).context("cannot copy the plugin")?;
        fs::rename(&new, &installed).context("cannot rename the plugin")?;
        before.steps(6)?;
        lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;
    }
    let mut after = Story::open(&setup.dovecot, "dave", 3)?;
    after.steps(3)?;
    lmtp.quit()?;
    let carol = Told {
        user: "carol".to_owned(),
        events: (1..=3).map(|uid| format!("MessageNew {uid}")).collect(),
    };
    let told = [before.logout()?, after.logout()?, carol];
    check_arrived(&mut setup.reader("dovecot")?, &told)?;
    check_alive(&setup.dovecot)
}

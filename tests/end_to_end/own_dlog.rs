//! Dovecot's own driver `dlog` and that of `dovecast serve` side by side, on one session: they
//! write the same calls.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, Series};
use dovecast_testkit::process;
use dovecast_testkit::server::Server;

use crate::case::cases;
use crate::own_drivers::{MAILS, both};
use crate::setup::{ARRIVAL, deliver_all};

cases![dlog_writes_the_same_calls_as_dovecots];

/// Calls that Dovecot's driver has logged, or ours: those about a transaction. Where there are two
/// drivers Dovecot writes some lines of an event twice.
fn calls(log: &str) -> Vec<String> {
    const STARTS: [&str; 17] = [
        "Called begin_txn",
        "Called process_",
        "Called end_txn",
        "Mailbox data: ",
        "Message data: ",
        "FlagsClear: ",
        "FlagsSet: ",
        "MailboxCreate: ",
        "MailboxDelete: ",
        "MailboxRename: ",
        "MailboxSubscribe: ",
        "MailboxUnsubscribe: ",
        "MessageAppend: ",
        "MessageExpunge: ",
        "MessageNew: ",
        "MessageRead: ",
        "MessageTrash: ",
    ];
    let call = |line: &str| {
        let at = STARTS.iter().filter_map(|start| line.find(start)).min()?;
        // Where the line ends with the user, as ours does.
        let call = line[at..].trim_end();
        let call = call.split(" user=").next().unwrap_or(call);
        // Dates are in another form, and on another clock.
        let is_date = call.contains(": Date [");
        (!is_date).then(|| call.to_owned())
    };
    let mut calls: Vec<String> = log.lines().filter_map(call).collect();
    calls.dedup();
    calls
}

/// The last call of the session below but for the end of its transaction.
const LAST: &str = "MailboxDelete: ";
const END: &str = "Called end_txn push_notification plugin hook.";

/// A session over LMTP and IMAP. Not by dovecot-lda: that writes into Dovecot's log itself, and so
/// perhaps before what the others have written.
fn session(dovecot: &Dovecot) -> Result<()> {
    deliver_all(dovecot, &MAILS)?;
    let mut imap = dovecot.login("alice")?;
    for command in [
        "SELECT INBOX",
        "STORE 1 +FLAGS (\\Flagged $label1)",
        "STORE 1 -FLAGS (\\Flagged)",
        "STORE 1 +FLAGS (\\Seen)",
        "CREATE box",
        "COPY 2 box",
    ] {
        imap.ok(command)?;
    }
    imap.append("INBOX", "", None, MAILS[1])?;
    for command in [
        "STORE 2 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "RENAME box crate",
        "SUBSCRIBE crate",
        "UNSUBSCRIBE crate",
        "DELETE crate",
    ] {
        imap.ok(command)?;
    }
    imap.logout()?;
    Ok(())
}

/// Lines of the server's log that its driver has written.
fn lines_of_ours(server: &Server) -> Vec<String> {
    let log = server.server_log();
    let lines = log.lines().filter(|line| line.contains(" dovecast_dlog: "));
    lines.map(str::to_owned).collect()
}

/// Calls of Dovecot's driver, and of ours.
fn written(on: Installation, dovecot: &Dovecot, server: &Server) -> (Vec<String>, Vec<String>) {
    let mut ours = calls(&lines_of_ours(server).join("\n"));
    if on.series() == Series::V2_4 {
        // 2.4 does not log what has become of a mail, just that it calls.
        let is_of_mail = |call: &str| call.starts_with("Flags") || call.starts_with("Message");
        ours.retain(|call| call.starts_with("Message data") || !is_of_mail(call));
    }
    // A header with the end of a line breaks Dovecot's line there; in ours that is escaped.
    for call in &mut ours {
        if let Some((line, _)) = call.split_once("\\n") {
            *call = line.to_owned();
        }
    }
    (calls(&dovecot.debug_log()), ours)
}

fn dlog_writes_the_same_calls_as_dovecots(on: Installation) -> Result<()> {
    let block = "[push_notification.log]\ndriver = 'dlog'";
    let (dovecot, server) = both(on, "dlog", block)?;
    session(&dovecot)?;
    let written = || written(on, &dovecot, &server);
    // Both write while this reads: whole is what has the end of each transaction, equal or not.
    let are_whole = || {
        let (theirs, ours) = written();
        let is_whole = |calls: &[String]| {
            let deleted = calls.iter().position(|call| call.starts_with(LAST));
            deleted.is_some_and(|at| calls[at..].iter().any(|call| call.starts_with(END)))
        };
        (is_whole(&theirs) && is_whole(&ours)).then_some(())
    };
    process::poll_until(ARRIVAL, are_whole)
        .with_context(|| format!("unfinished: {:#?}", written()))?;
    let (theirs, ours) = written();
    ensure!(theirs == ours, "Dovecot's: {theirs:#?}\nours: {ours:#?}");
    // That what was copied and what was appended is among them.
    for mail in ["Mailbox [box], UID [1]", "Mailbox [INBOX], UID [4]"] {
        ensure!(ours.iter().any(|call| call.contains(mail)), "{ours:#?}");
    }
    for line in lines_of_ours(&server) {
        ensure!(line.contains(" user=\"alice\""), "no user in `{line}`");
    }
    Ok(())
}

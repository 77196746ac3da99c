//! Valgrind watches the processes that load the plugin: no error may have the plugin in its stack.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::process;

use crate::case::{Skipped, cases};
use crate::setup::Setup;
use crate::story::{MAIL, check_alive};

cases![;
    // Valgrind reads /proc, which is not in the chroot of Dovecot 2.4.
    only_2_3: valgrind_finds_no_error_of_the_plugin,
];

const PLUGIN: &str = "push_notification_kafka_plugin.so";

/// rdkafka's client takes a handle of the main queue for its log lines and never gives it back: one
/// per producer.
const KNOWN_LEAK: [&str; 3] = [
    "Leak_DefinitelyLost",
    "rd_kafka_queue_new0",
    "new_context_arc",
];

/// Valgrind makes everything thirty times slower.
const SLOW: Duration = dovecast_testkit::PATIENCE;

/// Runs a service's program under valgrind, which writes one XML file per process.
fn watched(service: &str, reports: &Path) -> String {
    format!(
        "service {service} {{
  executable = /usr/bin/valgrind --quiet --leak-check=full --show-leak-kinds=definite --num-callers=40 \
--xml=yes --xml-file={}/{service}.%p /usr/lib/dovecot/{service}
  vsz_limit = 8 G
}}",
        reports.display()
    )
}

fn valgrind_finds_no_error_of_the_plugin(on: Installation) -> Result<()> {
    if Command::new("/usr/bin/valgrind")
        .arg("--version")
        .output()
        .is_err()
    {
        return Err(Skipped("valgrind is not installed".to_owned()).into());
    }
    let reports = tempfile::tempdir().context("no directory for valgrind's reports")?;
    let setup = Setup::start(on, "detail=full", |builder| {
        builder
            .config(&watched("imap", reports.path()))
            .config(&watched("lmtp", reports.path()))
    })?;
    let count = use_mail(&setup.dovecot)?;
    let records = setup.reader("dovecot")?.read(count, SLOW)?;
    ensure!(records.len() == count);
    // Another end: with events that cannot be delivered.
    setup.broker.set_down()?;
    let mut imap = setup.dovecot.login("carol")?;
    imap.ok("SELECT INBOX")?;
    imap.ok(r"STORE 1 +FLAGS (\Flagged)")?;
    imap.logout()?;
    setup.dovecot.wait_for_log("` lost: ", SLOW)?;
    let Setup { mut dovecot, .. } = setup;
    dovecot.stop()?;
    check_alive(&dovecot)?;
    check_reports(reports.path())
}

/// A bit of everything; gives the number of events.
fn use_mail(dovecot: &Dovecot) -> Result<usize> {
    let mut lmtp = dovecot.lmtp()?;
    for _ in 0..3 {
        lmtp.deliver_ok("bob@sender.example", &["alice", "carol"], MAIL)?;
    }
    lmtp.quit()?;
    let mut imap = dovecot.login("alice")?;
    for command in [
        "SELECT INBOX",
        r"STORE 1:3 +FLAGS (\Seen $label1 \Deleted)",
        r"STORE 1:2 -FLAGS ($label1 \Deleted)",
        "CREATE box",
        "COPY 1:2 box",
        "EXPUNGE",
        "RENAME box other",
        "SUBSCRIBE other",
        "UNSUBSCRIBE other",
        "DELETE other",
    ] {
        imap.ok(command)?;
    }
    imap.logout()?;
    // 2 INBOXes and 6 mails; 3 x set, read, trash; 2 x clear; create, 2 x append; expunge; rename,
    // subscribe, unsubscribe; delete with 2 x expunge.
    Ok(8 + 9 + 2 + 3 + 1 + 3 + 3)
}

fn check_reports(directory: &Path) -> Result<()> {
    let mut finished = 0;
    for entry in fs::read_dir(directory).context("cannot list valgrind's reports")? {
        let path = entry.context("cannot list valgrind's reports")?.path();
        let is_whole = || {
            fs::read_to_string(&path)
                .ok()
                .filter(|xml| xml.contains("</valgrindoutput>"))
        };
        let report = process::poll_until(SLOW, is_whole)
            .with_context(|| format!("`{}` has no end", path.display()))?;
        finished += 1;
        let ours = report
            .split("<error>")
            .skip(1)
            .filter(|error| error.contains(PLUGIN))
            .find(|error| !KNOWN_LEAK.iter().all(|part| error.contains(part)));
        if let Some(error) = ours {
            anyhow::bail!("valgrind found in {}:\n{}", path.display(), summary(error));
        }
    }
    ensure!(
        finished >= 2,
        "valgrind has watched {finished} processes instead of imap and lmtp"
    );
    Ok(())
}

/// What the error is, and its stack.
fn summary(error: &str) -> String {
    const SHOWN: [&str; 6] = ["<kind>", "<what>", "<text>", "<fn>", "<file>", "<line>"];
    let lines = error.lines().map(str::trim);
    let shown = lines.filter(|line| SHOWN.iter().any(|tag| line.starts_with(tag)));
    shown.collect::<Vec<_>>().join("\n")
}

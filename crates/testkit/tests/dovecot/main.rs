//! The testkit's Dovecot, mail clients and process figures against the installed Dovecot 2.3 and
//! against those of other Debians, with the stock driver `dlog`.
//!
//! Needs root and Debian's dovecot-core, dovecot-imapd, dovecot-lmtpd and dovecot-sieve. Where
//! another Dovecot cannot be had its cases say so, past the test harness's capture, and pass.

mod life;
mod mail;
mod settings;

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use dovecast_testkit::debian::{self, Release};
use dovecast_testkit::dovecot::{Builder, Dovecot, Installation};

const MAIL: &[u8] =
    b"From: Bob <bob@sender.example>\nTo: you\nSubject: Hello\n\nHello,\n.\n..two dots\nbye\n";
const SENDER: &str = "bob@sender.example";
const SOON: Duration = dovecast_testkit::PATIENCE;

/// Makes a test of each function for each version of Dovecot.
macro_rules! cases {
    ($($case:ident,)*) => {
        mod dovecot_2_3 {
            $(#[test]
            fn $case() -> anyhow::Result<()> {
                super::$case(super::Installation::System23)
            })*
        }

        mod dovecot_2_3_21 {
            $(#[test]
            fn $case() -> anyhow::Result<()> {
                crate::on_release(&crate::debian::BACKPORTS, stringify!($case), super::$case)
            })*
        }

        mod dovecot_2_4 {
            $(#[test]
            fn $case() -> anyhow::Result<()> {
                crate::on_release(&crate::debian::TRIXIE, stringify!($case), super::$case)
            })*
        }

        mod dovecot_2_4_5 {
            $(#[test]
            fn $case() -> anyhow::Result<()> {
                crate::on_release(&crate::debian::SID, stringify!($case), super::$case)
            })*
        }
    };
}
use cases;

fn on_release(
    release: &'static Release,
    name: &str,
    case: fn(Installation) -> Result<()>,
) -> Result<()> {
    match Installation::unpacked(release)? {
        Ok(installation) => case(installation),
        Err(unavailable) => {
            writeln!(
                std::io::stdout(),
                "SKIPPED {name} on Dovecot {}: {unavailable}",
                release.dovecot
            )?;
            Ok(())
        }
    }
}

fn on(installation: Installation) -> Builder {
    Dovecot::builder().installation(installation)
}

fn with_dlog(installation: Installation) -> Builder {
    on(installation).driver("dlog")
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

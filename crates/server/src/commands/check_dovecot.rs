//! `dovecast doctor`: prints and exits as `dovecast-plugin-check` does, and has a look at the
//! configuration of the server of this host.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use dovecast_doctor::{Finding, RelayUse, Severity, Target, check};

use super::{check_relay, print};
#[cfg(feature = "kafka")]
use super::{check_topics, wait};
use crate::cli::DoctorArguments;
use crate::config::Config;

/// Exit code where there are warnings and no problems.
const WARNINGS: u8 = 1;
/// Exit code where there are problems.
const PROBLEMS: u8 = 2;
/// Exit code where Dovecot could not be looked at.
const CANNOT_LOOK: u8 = 3;

/// Prints what is wrong with Dovecot and the server of this host. Where Dovecot cannot be looked
/// at, the rest is printed all the same.
pub(super) fn run(arguments: &DoctorArguments, server: &OwnServer) -> ExitCode {
    let target = Target {
        config: arguments.dovecot_config.clone(),
        root: arguments.root.clone(),
    };
    let mut used = RelayUse::default();
    let (mut text, mut findings, mut code) = match check(&target) {
        Ok(report) => {
            used = report.relay;
            (format!("Dovecot {}\n", report.version), report.findings, 0)
        }
        Err(error) => {
            // Where standard error is closed too the exit code still says it.
            let _ = writeln!(io::stderr(), "{error:#}");
            (String::new(), Vec::new(), CANNOT_LOOK)
        }
    };
    findings.extend(server.findings(&used));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in &findings {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{finding}");
    }
    match findings.first().map(|finding| finding.severity) {
        _ if code == CANNOT_LOOK => {}
        None => text.push_str("nothing is wrong\n"),
        Some(Severity::Warning) => code = WARNINGS,
        Some(Severity::Problem) => code = PROBLEMS,
    }
    // Who has closed the pipe still gets the exit code.
    let _ = print(&text);
    ExitCode::from(code)
}

/// The server of this host, as its configuration says.
pub(super) struct OwnServer {
    /// The configuration; `None`: nothing says that there is a server.
    pub(super) config: Option<Result<Config>>,
    /// Where the configuration stands, for people.
    pub(super) place: String,
}

impl OwnServer {
    /// What is wrong with it for a Dovecot that uses it so.
    fn findings(&self, used: &RelayUse) -> Vec<Finding> {
        let config = match &self.config {
            Some(Ok(config)) => config,
            Some(Err(error)) => {
                return vec![Finding::problem(format!(
                    "the configuration of dovecast cannot be read: {error:#}"
                ))];
            }
            None if used.topics.is_empty() => return Vec::new(),
            None => {
                return vec![Finding::warning(
                    "the plugin has `transport = relay`, and no dovecast was found that could be looked at: name its configuration with `--config`, \
                     its data directory with `--data-dir`",
                )];
            }
        };
        let mut findings = Vec::new();
        if !config.data_dir.is_dir() {
            findings.push(Finding::problem(format!(
                "the data directory `{}` is not there, or not to be reached: start `dovecast serve`, or name the directory of the one that runs with `--data-dir`",
                config.data_dir.display()
            )));
        }
        findings.extend(check_relay::findings(config, &self.place, used));
        findings.extend(of_kafka(config));
        findings
    }
}

/// What is wrong with the topics in Kafka.
#[cfg(feature = "kafka")]
fn of_kafka(config: &Config) -> Vec<Finding> {
    let asked = wait(async { Ok(check_topics::findings(config).await) });
    asked.unwrap_or_else(|error| vec![Finding::problem(format!("{error:#}"))])
}

/// Without Kafka there are none.
#[cfg(not(feature = "kafka"))]
fn of_kafka(_: &Config) -> Vec<Finding> {
    Vec::new()
}

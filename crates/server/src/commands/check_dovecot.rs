//! `dovecast doctor`: prints and exits as `dovecast-plugin-check` does, and has a look at the
//! topics in Kafka.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use dovecast_doctor::{Finding, Severity, Target, check};

use super::print;
use crate::cli::DoctorArguments;

const WARNINGS: u8 = 1;
const PROBLEMS: u8 = 2;
const CANNOT_LOOK: u8 = 3;

/// Prints what is wrong with Dovecot, and what was found besides. Where Dovecot cannot be looked
/// at, the rest is printed all the same.
pub(super) fn run(arguments: &DoctorArguments, others: Vec<Finding>) -> ExitCode {
    let target = Target {
        config: arguments.dovecot_config.clone(),
        root: arguments.root.clone(),
    };
    let (mut text, mut findings, mut code) = match check(&target) {
        Ok(report) => (format!("Dovecot {}\n", report.version), report.findings, 0),
        Err(error) => {
            // Where standard error is closed too the exit code still says it.
            let _ = writeln!(io::stderr(), "{error:#}");
            (String::new(), Vec::new(), CANNOT_LOOK)
        }
    };
    findings.extend(others);
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

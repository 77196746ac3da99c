//! `dovecast doctor`: prints and exits as `dovecast-plugin-check` does.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use dovecast_doctor::{Severity, Target, check};

use super::print;
use crate::cli::DoctorArguments;

const WARNINGS: u8 = 1;
const PROBLEMS: u8 = 2;
const CANNOT_LOOK: u8 = 3;

pub(super) fn run(arguments: &DoctorArguments) -> ExitCode {
    let target = Target {
        config: arguments.dovecot_config.clone(),
        root: arguments.root.clone(),
    };
    let report = match check(&target) {
        Ok(report) => report,
        Err(error) => {
            // Where standard error is closed too the exit code still says it.
            let _ = writeln!(io::stderr(), "{error:#}");
            return ExitCode::from(CANNOT_LOOK);
        }
    };
    let mut text = format!("Dovecot {}\n", report.version);
    for finding in &report.findings {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{finding}");
    }
    let code = match report.findings.iter().map(|finding| finding.severity).max() {
        None => {
            text.push_str("nothing is wrong\n");
            0
        }
        Some(Severity::Warning) => WARNINGS,
        Some(Severity::Problem) => PROBLEMS,
    };
    // Who has closed the pipe still gets the exit code.
    let _ = print(&text);
    ExitCode::from(code)
}

//! `dovecast-plugin-check`: prints what is wrong with Dovecot's plugin push_notification_kafka, and
//! exits with 0 (nothing), 1 (warnings), 2 (problems) or 3 (it could not be looked at).

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use dovecast_doctor::{Severity, Target, check, convert_to_2_4};

const USAGE: &str =
    "usage: dovecast-plugin-check [-c|--config DOVECOT_CONF] [--root DIRECTORY] [--convert-to-2.4]";
const CANNOT_LOOK: u8 = 3;

fn main() -> ExitCode {
    match target(std::env::args().skip(1)) {
        Ok(Some((target, Task::Check))) => run(&target),
        Ok(Some((target, Task::Convert))) => match convert_to_2_4(&target) {
            Ok(text) => say(&mut stdout(), text.trim_end(), 0),
            Err(error) => say(&mut stderr(), &format!("{error:#}"), CANNOT_LOOK),
        },
        Ok(None) => say(&mut stdout(), USAGE, 0),
        Err(error) => say(&mut stderr(), &format!("{error}\n{USAGE}"), CANNOT_LOOK),
    }
}

/// What to do.
enum Task {
    Check,
    Convert,
}

/// `None`: help was asked for.
fn target(mut arguments: impl Iterator<Item = String>) -> Result<Option<(Target, Task)>, String> {
    let mut target = Target::default();
    let mut task = Task::Check;
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "-c" | "--config" => &mut target.config,
            "--root" => &mut target.root,
            "--convert-to-2.4" => {
                task = Task::Convert;
                continue;
            }
            "-h" | "--help" => return Ok(None),
            _ => return Err(format!("unknown argument `{argument}`")),
        };
        let value = arguments
            .next()
            .ok_or_else(|| format!("`{argument}` needs a value"))?;
        *place = Some(PathBuf::from(value));
    }
    Ok(Some((target, task)))
}

fn run(target: &Target) -> ExitCode {
    let report = match check(target) {
        Ok(report) => report,
        Err(error) => return say(&mut stderr(), &format!("{error:#}"), CANNOT_LOOK),
    };
    let mut lines = vec![format!("Dovecot {}", report.version)];
    lines.extend(report.findings.iter().map(ToString::to_string));
    let code = match report.findings.iter().map(|finding| finding.severity).max() {
        None => {
            lines.push("nothing is wrong".to_owned());
            0
        }
        Some(Severity::Warning) => 1,
        Some(Severity::Problem) => 2,
    };
    say(&mut stdout(), &lines.join("\n"), code)
}

fn say(out: &mut impl Write, text: &str, code: u8) -> ExitCode {
    // Who has closed the pipe still gets the exit code.
    let _ = writeln!(out, "{text}");
    ExitCode::from(code)
}

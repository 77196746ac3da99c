//! Every input that is kept, tried once, without libFuzzer: what was found once stays found.
//!
//! `inputs/TARGET/ok-...` can be read, `no-...` is refused, and of `found-...`, which was wrong
//! once, only that nothing is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dovecast_fuzz::{Outcome, TARGETS, Target};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("inputs");
    let mut trials = vec![Trial::test("every_directory_is_of_a_target", {
        let directory = directory.clone();
        move || every_directory_is_of_a_target(&directory)
    })];
    for target in TARGETS {
        for path in entries(&directory.join(target.name)) {
            let name = format!("{}::{}", target.name, file_name(&path));
            trials.push(Trial::test(name, move || try_input(target, &path)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn try_input(target: Target, path: &Path) -> Result<(), Failed> {
    let bytes = fs::read(path)?;
    let outcome = (target.run)(&bytes);
    let expected = match file_name(path).split('-').next() {
        Some("ok") => Outcome::Read,
        Some("no") => Outcome::Refused,
        Some("found") => return Ok(()),
        _ => return Err("its name begins with none of `ok-`, `no-` and `found-`".into()),
    };
    if outcome == expected {
        Ok(())
    } else {
        Err(format!("it is {outcome:?}").into())
    }
}

/// Each has one, with both kinds in it, and there is no other.
fn every_directory_is_of_a_target(directory: &Path) -> Result<(), Failed> {
    for path in entries(directory).iter().filter(|path| path.is_dir()) {
        let name = file_name(path);
        if !TARGETS.iter().any(|target| target.name == name) {
            return Err(format!("`{name}` is no target").into());
        }
    }
    for target in TARGETS {
        let inputs = entries(&directory.join(target.name));
        for kind in ["ok-", "no-"] {
            if !inputs.iter().any(|path| file_name(path).starts_with(kind)) {
                return Err(format!("`{}` has no input `{kind}...`", target.name).into());
            }
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort_unstable();
    paths
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("a name in UTF-8")
}

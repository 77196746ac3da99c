//! What ARCHITECTURE.md's map calls deliberately absent, against what a package is built with: a
//! client of HTTP, a database or a runtime may come by way of another package of ours.
//!
//! What counts is what cargo builds for the package alone; a whole workspace has the features that
//! any of its packages asks for.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Finding;
use crate::architecture::{quoted, table};
use crate::members::{Members, PREFIX};

/// Something that a package may be without.
struct Kind {
    /// Word for it in the column "deliberately absent".
    word: &'static str,
    /// Packages that bring it.
    packages: &'static [&'static str],
    /// Packages of ours that have it by design, for those who use them.
    owners: &'static [&'static str],
}

const KINDS: [Kind; 3] = [
    Kind {
        word: "HTTP",
        packages: &[
            "axum",
            "curl",
            "h2",
            "h3",
            "http-body-util",
            "hyper",
            "hyper-util",
            "reqwest",
            "ureq",
        ],
        owners: &["drivers"],
    },
    Kind {
        word: "SQL",
        packages: &[
            "postgres",
            "rusqlite",
            "sqlx",
            "sqlx-core",
            "tokio-postgres",
        ],
        owners: &["log", "store"],
    },
    Kind {
        word: "async",
        packages: &["async-std", "smol", "tokio"],
        owners: &[],
    },
];

/// Packages that have what their row of the map calls absent. `reached` tells what a package is
/// built with, leaving out some packages of ours and what only those bring.
pub fn reached(
    text: &str,
    members: &Members,
    reached: impl Fn(&str, &[&str]) -> Result<BTreeSet<String>>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (line, cells) in table(text, "## Map") {
        let [directories, _, absent] = cells[..] else {
            continue;
        };
        for (name, kind) in pairs(&quoted(directories), absent, members) {
            let built = reached(name, kind.owners)?;
            for package in kind.packages.iter().filter(|name| built.contains(**name)) {
                findings.push(Finding {
                    place: "ARCHITECTURE.md".to_owned(),
                    line,
                    what: format!(
                        "`{name}` is without {}, but is built with `{package}`: see `cargo tree \
                         --package {PREFIX}{name} --edges normal --invert {package}`",
                        kind.word
                    ),
                });
            }
        }
    }
    Ok(findings)
}

/// Packages of a row, each with a kind that the row calls absent.
fn pairs<'a>(
    directories: &[&str],
    absent: &str,
    members: &'a Members,
) -> Vec<(&'a str, &'static Kind)> {
    let words: BTreeSet<&str> = absent.split([',', ';']).map(str::trim).collect();
    let named = |directory: &str| directories.contains(&directory);
    let packages = members.iter().filter(|(_, one)| named(&one.directory));
    let kinds = || KINDS.iter().filter(|kind| words.contains(kind.word));
    packages
        .flat_map(|(name, _)| kinds().map(move |kind| (name.as_str(), kind)))
        .collect()
}

/// What a package is built with, by cargo, without the network. Dependencies of its tests are left
/// out, and so are `pruned` packages of ours with what they bring.
pub fn built_with(root: &Path, name: &str, pruned: &[&str]) -> Result<BTreeSet<String>> {
    let all = packages(root, name, &[])?;
    let is_built = |pruned: &&&str| **pruned != name && all.contains(&format!("{PREFIX}{pruned}"));
    let pruned: Vec<&str> = pruned.iter().filter(is_built).copied().collect();
    if pruned.is_empty() {
        return Ok(all);
    }
    packages(root, name, &pruned)
}

/// Packages that `cargo tree` prints; it knows `pruned` ones only that the package is built with.
fn packages(root: &Path, name: &str, pruned: &[&str]) -> Result<BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}", "--package", &format!("{PREFIX}{name}")])
        .current_dir(root);
    for pruned in pruned {
        command.args(["--prune", &format!("{PREFIX}{pruned}")]);
    }
    let output = command.output().context("cannot run `cargo tree`")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`cargo tree` fails for `{name}`: {errors}"
    );
    let lines = String::from_utf8(output.stdout).context("cargo prints no text")?;
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    ensure!(!names.is_empty(), "`cargo tree` prints nothing of `{name}`");
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Member;

    const TEXT: &str = "## Map\n\n| where | what | deliberately absent |\n| --- | --- | --- |\n\
        | `crates/store` | all SQL | HTTP |\n| `crates/plan` | sizes | async, SQL |\n\
        | `crates/web` | HTTP | waiting |\n";

    fn check(built: &[&str], expected: &[&str]) {
        let member = |name: &str| {
            let directory = format!("crates/{name}");
            let member = Member {
                directory,
                ..Member::default()
            };
            (name.to_owned(), member)
        };
        let members = Members::from(["store", "plan", "web"].map(member));
        let built: BTreeSet<String> = built.iter().map(|name| (*name).to_owned()).collect();
        let found = reached(TEXT, &members, |_, _| Ok(built.clone())).expect("no cargo");
        let said = found.iter().map(|found| {
            let (what, _) = found.what.split_once(':').expect("a way to see it");
            what
        });
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_a_row_does_not_call_absent_may_be_there() {
        check(&["bytes", "rustls"], &[]);
    }

    #[test]
    fn what_a_row_calls_absent_is_found() {
        check(
            &["hyper", "sqlx"],
            &[
                "`store` is without HTTP, but is built with `hyper`",
                "`plan` is without SQL, but is built with `sqlx`",
            ],
        );
        check(
            &["tokio"],
            &["`plan` is without async, but is built with `tokio`"],
        );
    }

    #[test]
    fn a_pruned_package_and_what_it_brings_are_left_out() {
        let root = crate::source::root();
        let built = built_with(&root, "operations", &[]).expect("cargo");
        assert!(built.contains("hyper"), "{built:?}");
        let built = built_with(&root, "operations", &["drivers"]).expect("cargo");
        assert!(built.contains("dovecast-store"), "{built:?}");
        assert!(!built.contains("dovecast-drivers"), "{built:?}");
    }
}

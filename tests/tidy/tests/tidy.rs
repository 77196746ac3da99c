//! The rules on this tree; and what a plain `cargo test` leaves out, loudly.
//!
//! `UPDATE_TIDY=1 cargo test --package dovecast-tidy` writes the lists of what is allowed anew; see
//! CONTRIBUTING.md.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use dovecast_tidy::allowed::Allowed;
use dovecast_tidy::members::{self, Members};
use dovecast_tidy::source::{self, Source};
use dovecast_tidy::{Finding, absent, architecture, floors, glossary, length, locks, pages, prose};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Packages that a plain `cargo test` does not test, and what they need.
const LEFT_OUT: [(&str, &str); 7] = [
    ("benches", "a Dovecot: `make bench`"),
    ("dovecot-plugin", "dovecot-dev, librdkafka: `make test`"),
    ("dovecot-sys", "dovecot-dev: `make test`"),
    ("lua-host", "liblua5.4-dev: `make test`"),
    ("scale", "nothing, but it takes half a minute: `make test`"),
    (
        "server",
        "librdkafka, liblua5.4-dev: `make test`; without Kafka: `make check-server`",
    ),
    ("tests", "Dovecots, Kafka, PostgreSQL, root: `make test`"),
];

type Rule = fn(&Source) -> Vec<Finding>;

/// Rules that hold everywhere.
const HELD: [(&str, Rule); 2] = [
    ("each_file_says_what_it_is_for", length::missing_module_docs),
    ("no_file_is_too_long", length::too_long_files),
];

/// Findings of one file that are shown.
const SHOWN: usize = 3;

/// Rules that the tree did not keep when they came, with the list of what is allowed.
const LISTED: [(&str, &str, Rule); 3] = [
    (
        "comments_are_narrow",
        "comment-width",
        length::wide_comments,
    ),
    ("files_are_short", "file-lines", length::long_files),
    ("docs_name_their_subject", "first-lines", prose::first_lines),
];

struct Tree {
    sources: Vec<Source>,
    members: Members,
    architecture: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tree = Arc::new(Tree::read().expect("the tree"));
    let mut trials = Vec::new();
    for (name, rule) in HELD {
        trials.push(trial(name, &tree, move |tree| none(&tree.find(rule))));
    }
    for (name, list, rule) in LISTED {
        trials.push(trial(name, &tree, move |tree| {
            listed(list, &tree.find(rule))
        }));
    }
    trials.push(trial("the_glossary_is_true", &tree, |tree| {
        none(&glossary::check(&tree.architecture, &tree.sources))
    }));
    trials.push(trial("the_map_is_true", &tree, |tree| {
        let is_there = |path: &str| source::root().join(path).exists();
        none(&architecture::map(
            &tree.architecture,
            &tree.members,
            is_there,
        ))
    }));
    trials.push(trial("the_arrows_are_true", &tree, |tree| {
        none(&architecture::arrows(&tree.architecture, &tree.members))
    }));
    trials.push(trial("what_is_absent_is_not_built", &tree, |tree| {
        let root = source::root();
        let reached = |name: &str, pruned: &[&str]| absent::built_with(&root, name, pruned);
        none(&absent::reached(
            &tree.architecture,
            &tree.members,
            reached,
        )?)
    }));
    trials.push(trial("floors_are_below_all", &tree, |tree| {
        none(&floors::broken(&tree.sources, &floors::FLOORS))
    }));
    trials.push(trial("locks_are_checked_for_their_order", &tree, |tree| {
        none(&locks::unchecked(&tree.sources, &locks::EXCEPTIONS))
    }));
    trials.push(trial("each_driver_has_its_page", &tree, |_| {
        let root = source::root();
        let index = fs::read_to_string(root.join(pages::INDEX))?;
        none(&pages::check(&index, &files(&root.join(pages::PAGES))?))
    }));
    trials.push(trial("what_is_left_out_is_named", &tree, |tree| {
        named(&tree.members)
    }));
    if env::var("DOVECAST_TESTS").as_deref() != Ok("all") {
        trials.extend(LEFT_OUT.map(left_out));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

impl Tree {
    fn read() -> Result<Self> {
        let root = source::root();
        Ok(Self {
            sources: source::all(&root)?,
            members: members::find(&root)?,
            architecture: fs::read_to_string(root.join("ARCHITECTURE.md"))?,
        })
    }

    fn find(&self, rule: Rule) -> Vec<Finding> {
        self.sources.iter().flat_map(rule).collect()
    }
}

fn trial(
    name: &str,
    tree: &Arc<Tree>,
    check: impl FnOnce(&Tree) -> Result<()> + Send + 'static,
) -> Trial {
    let tree = Arc::clone(tree);
    Trial::test(name, move || {
        check(&tree).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn left_out((name, needs): (&'static str, &'static str)) -> Trial {
    Trial::ignorable_test(format!("left_out::{name}"), move || {
        println!(
            "\n*** the tests of dovecast-{name} are LEFT OUT by `cargo test`: they need {needs}\n"
        );
        Ok(Completion::ignored_with(format!("needs {needs}")))
    })
}

/// Names of the files of a directory.
fn files(directory: &Path) -> Result<BTreeSet<String>> {
    let name = |entry: std::io::Result<fs::DirEntry>| -> Result<String> {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    fs::read_dir(directory)?.map(name).collect()
}

/// Fails where something was found.
fn none(findings: &[Finding]) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut lines = Vec::new();
    for of_file in findings.chunk_by(|one, next| one.place == next.place) {
        let shown = of_file.iter().take(SHOWN).map(ToString::to_string);
        lines.extend(shown);
        if let Some(more) = of_file.get(SHOWN..).filter(|more| !more.is_empty()) {
            lines.push(format!("... and {} more there", more.len()));
        }
    }
    bail!("{}", lines.join("\n"))
}

/// Fails where more or less was found than the list allows.
fn listed(name: &str, findings: &[Finding]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("allowed")
        .join(name);
    let allowed = fs::read_to_string(&path)
        .ok()
        .map(|text| Allowed::parse(&text));
    if env::var_os("UPDATE_TIDY").is_some() {
        let found = Allowed::of(findings);
        let before = allowed.as_ref().map_or(usize::MAX, Allowed::total);
        if found.total() <= before {
            return fs::write(&path, found.to_text()).context("cannot write the list");
        }
    }
    let difference = allowed.unwrap_or_default().compare(findings);
    none(&difference.too_many)?;
    if !difference.mended.is_empty() {
        let mended = difference
            .mended
            .iter()
            .map(|(place, count)| format!("{count} {place}"));
        bail!(
            "mended; shorten `{}` by `UPDATE_TIDY=1 cargo test --package dovecast-tidy`:\n{}",
            path.display(),
            mended.collect::<Vec<_>>().join("\n")
        );
    }
    Ok(())
}

/// Fails where [`LEFT_OUT`] is not what the workspace's default members leave out.
fn named(members: &Members) -> Result<()> {
    let left_out = members.iter().filter(|(_, member)| !member.is_default);
    let left_out: Vec<&str> = left_out.map(|(name, _)| name.as_str()).collect();
    let named = LEFT_OUT.map(|(name, _)| name);
    if left_out != named {
        bail!("`default-members` of Cargo.toml leaves out {left_out:?}, LEFT_OUT names {named:?}");
    }
    Ok(())
}

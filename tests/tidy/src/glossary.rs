//! The glossary of ARCHITECTURE.md: an entry for each type that one crate takes from another.
//!
//! What counts is the text: a name with capitals in a path that begins with `dovecast_`, in
//! `crates/*/src`, of what is no test.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::architecture::{quoted, table};
use crate::source::Source;

/// Crates whose types need no entry: what only tests use.
const UNLISTED: [&str; 1] = ["testkit"];

/// Types that are used across crates, each with a file that uses it.
#[must_use]
pub fn shared_types(sources: &[Source]) -> BTreeMap<String, String> {
    let mut types = BTreeMap::new();
    for source in sources {
        let is_code = source.path.starts_with("crates/") && source.path.contains("/src/");
        let is_test = source.path.contains("testkit") || source.path.ends_with("tests.rs");
        if !is_code || is_test {
            continue;
        }
        let code = source
            .text
            .split("#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join(" ");
        for path in code.split("dovecast_").skip(1) {
            let Some((of, names)) = path.split_once("::") else {
                continue;
            };
            if UNLISTED.contains(&of) || !of.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                continue;
            }
            for name in capitalised(names) {
                types.entry(name).or_insert_with(|| source.path.clone());
            }
        }
    }
    types
}

/// Types at the ends of a path: `a::B::C` names `B`, `{a::B, C as D}` names `B` and `C`.
fn capitalised(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut is_skipped = false;
    let mut word = String::new();
    for next in path.chars().chain([';']) {
        if next.is_alphanumeric() || next == '_' {
            word.push(next);
            continue;
        }
        let is_type = word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.contains(|c: char| c.is_ascii_lowercase());
        if is_type && !is_skipped {
            names.push(word.clone());
        }
        // What follows a type is its variant or function, what follows `as` another name for it.
        is_skipped =
            is_type && next == ':' || word == "as" || word.is_empty() && is_skipped && next == ':';
        word.clear();
        match next {
            '{' => depth += 1,
            '}' if depth > 1 => depth -= 1,
            ':' => {}
            ',' | ' ' if depth > 0 => {}
            _ => break,
        }
    }
    names
}

/// Names that the glossary explains.
#[must_use]
pub fn entries(text: &str) -> BTreeSet<String> {
    let rows = table(text, "## Glossary");
    let names = rows.iter().filter_map(|(_, cells)| cells.first());
    names
        .flat_map(|cell| quoted(cell))
        .map(str::to_owned)
        .collect()
}

/// Types without an entry. An entry that no type has any more is left to the reader: it may explain
/// a word.
#[must_use]
pub fn missing(text: &str, sources: &[Source]) -> Vec<Finding> {
    let entries = entries(text);
    let shared = shared_types(sources);
    let unexplained = shared
        .into_iter()
        .filter(|(name, _)| !entries.contains(name));
    let finding = |(name, user): (String, String)| Finding {
        what: format!("say in the glossary of ARCHITECTURE.md what `{name}` is; `{user}` uses it"),
        place: name,
        line: 0,
    };
    unexplained.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_in_every_kind_of_path() {
        for (code, names) in [
            ("use dovecast_log::Log;", &["Log"][..]),
            (
                "use dovecast_log::{Log, LogError as E};",
                &["Log", "LogError"],
            ),
            (
                "use dovecast_log::{\n    embedded::{Mark, MAX},\n    Log,\n};",
                &["Log", "Mark"],
            ),
            (
                "let a = dovecast_log::kafka::Kafka::connect(Options::new());",
                &["Kafka"],
            ),
            ("fn a(b: &dovecast_log::Record) -> Other {", &["Record"]),
            ("use dovecast_log::StartAt::Beginning;", &["StartAt"]),
            ("use dovecast_event::header_name;\nuse std::Path;", &[]),
            ("// dovecast_log::Log\n", &[]),
            ("use dovecast_testkit::Server;", &[]),
            ("#[cfg(test)]\nmod tests { use dovecast_log::Log; }", &[]),
        ] {
            let found = shared_types(&[Source::new("crates/a/src/b.rs", code)]);
            assert_eq!(found.into_keys().collect::<Vec<_>>(), names, "{code}");
        }
    }

    #[test]
    fn a_type_without_an_entry_is_found() {
        let text = "## Glossary\n\n| word | meaning |\n| --- | --- |\n| `Log`, `Record` | ... |\n";
        let sources = [Source::new(
            "crates/a/src/b.rs",
            "use dovecast_log::{Log, Mark};",
        )];
        let findings = missing(text, &sources);
        let places: Vec<_> = findings.iter().map(|found| found.place.as_str()).collect();
        assert_eq!(places, ["Mark"]);
    }
}

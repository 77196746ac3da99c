//! The glossary of ARCHITECTURE.md: one entry for each type that one crate takes from another, and
//! for no type that is not there.
//!
//! What counts is the text: a name with capitals in a path that begins with `dovecast_`, in
//! `crates/*/src`, of what is no test; a type is there where it is declared.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::architecture::{quoted, table};
use crate::source::Source;

/// Crates whose types need no entry: what only tests use.
const UNLISTED: [&str; 1] = ["testkit"];

/// Words by which a type is declared.
const DECLARATIONS: [&str; 4] = ["struct", "enum", "trait", "type"];

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

/// Words that the glossary explains, each with its line; types are in backticks.
fn words(text: &str) -> Vec<(usize, String)> {
    let rows = table(text, "## Glossary").into_iter();
    let cells = rows.filter_map(|(line, cells)| Some((line, *cells.first()?)));
    cells
        .flat_map(|(line, cell)| {
            cell.split(',')
                .map(move |word| (line, word.trim().to_owned()))
        })
        .collect()
}

/// Types without an entry, words that have two, and entries of types that are not there.
#[must_use]
pub fn check(text: &str, sources: &[Source]) -> Vec<Finding> {
    let words = words(text);
    let types: BTreeSet<&str> = words.iter().flat_map(|(_, word)| quoted(word)).collect();
    let shared = shared_types(sources).into_iter();
    let unexplained = shared.filter(|(name, _)| !types.contains(name.as_str()));
    let mut findings: Vec<Finding> = unexplained
        .map(|(name, user)| {
            let what = format!("say what `{name}` is in the glossary; `{user}` uses it");
            finding(0, what)
        })
        .collect();
    let declared = declared(sources);
    let mut seen = BTreeSet::new();
    for (line, word) in &words {
        if !seen.insert(word) {
            let what = format!("{word} is explained twice: one word, one row");
            findings.push(finding(*line, what));
        }
        for name in quoted(word) {
            if !declared.contains(name) {
                let what = format!("`{name}` is explained, but there is no such type");
                findings.push(finding(*line, what));
            }
        }
    }
    findings
}

/// Types that are declared in crates.
fn declared(sources: &[Source]) -> BTreeSet<&str> {
    let sources = sources.iter();
    let of_crates = sources.filter(|source| source.path.starts_with("crates/"));
    let mut declared = BTreeSet::new();
    for line in of_crates.flat_map(|source| source.text.lines()) {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.any(|word| DECLARATIONS.contains(&word)) {
            declared.extend(words.next());
        }
    }
    declared
}

fn finding(line: usize, what: String) -> Finding {
    Finding {
        place: "ARCHITECTURE.md".to_owned(),
        line,
        what,
    }
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

    fn check_text(glossary: &str, expected: &[&str]) {
        let text = format!("## Glossary\n\n| word | meaning |\n| --- | --- |\n{glossary}");
        let sources = [
            Source::new("crates/a/src/b.rs", "use dovecast_log::{Log, Mark};"),
            Source::new("crates/log/src/lib.rs", "pub trait Log: Send {}"),
            Source::new("crates/log/src/mark.rs", "    pub(crate) struct Mark(u8);"),
        ];
        let findings = check(&text, &sources);
        let said: Vec<_> = findings.iter().map(|found| found.what.as_str()).collect();
        assert_eq!(said, expected, "{glossary}");
    }

    #[test]
    fn a_glossary_with_one_entry_for_each_type_is_left_alone() {
        check_text("| `Log`, `Mark`, lane | ... |\n", &[]);
        check_text("| `Log` | ... |\n| `Mark` | ... |\n", &[]);
    }

    #[test]
    fn a_type_without_an_entry_is_found() {
        let expected = "say what `Mark` is in the glossary; `crates/a/src/b.rs` uses it";
        check_text("| `Log`, lane | ... |\n", &[expected]);
    }

    #[test]
    fn a_word_with_two_entries_is_found() {
        for (rows, word) in [
            ("| `Log`, `Mark` | ... |\n| `Log` | ... |\n", "`Log`"),
            ("| `Log`, `Mark`, lane | ... |\n| a, lane | ... |\n", "lane"),
        ] {
            let expected = format!("{word} is explained twice: one word, one row");
            check_text(rows, &[&expected]);
        }
    }

    #[test]
    fn an_entry_of_a_type_that_is_not_there_is_found() {
        let expected = "`Group` is explained, but there is no such type";
        check_text("| `Group`, `Log`, `Mark` | ... |\n", &[expected]);
    }
}

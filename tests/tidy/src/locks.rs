//! Locks of a crate whose order is checked: each is one of the crate's own kind, and another one is
//! an exception with a reason.
//!
//! What counts is the text: the name of a mutex or of a lock with many readers, whosever it is, in
//! what is no test. A guard is none.

use crate::Finding;
use crate::source::Source;

/// Directory of the crate.
const ROOM: &str = "crates/dispatch/src/";
/// Types of locks that nothing checks.
const UNCHECKED: [&str; 2] = ["Mutex", "RwLock"];

/// Files of [`ROOM`] that have such locks, each with the reason.
pub const EXCEPTIONS: [(&str, &str); 5] = [
    ("bounds.rs", "a task holds it while it asks the log"),
    ("dispatcher.rs", "a task waits for it, and holds no other"),
    ("evaluator.rs", "a condition variable needs its own"),
    ("locks.rs", "the locks that are checked are made of them"),
    ("shared.rs", "a task holds it while it asks the ledger"),
];

/// Files with locks that are neither checked nor excepted, and exceptions that are none.
#[must_use]
pub fn unchecked(sources: &[Source], exceptions: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut excepted = Vec::new();
    for source in sources {
        let Some(file) = source.path.strip_prefix(ROOM) else {
            continue;
        };
        let Some((line, lock)) = first_lock(&source.text).filter(|_| !file.contains("tests"))
        else {
            continue;
        };
        if exceptions.iter().any(|(name, _)| *name == file) {
            excepted.push(file);
            continue;
        }
        findings.push(Finding {
            place: source.path.clone(),
            line,
            what: format!("take a lock of `locks.rs` instead of `{lock}`: its order is checked"),
        });
    }
    let stale = exceptions
        .iter()
        .filter(|(name, _)| !excepted.contains(name));
    findings.extend(stale.map(|(name, _)| Finding {
        place: format!("{ROOM}{name}"),
        line: 0,
        what: "it has no lock that is not checked: take it out of EXCEPTIONS".to_owned(),
    }));
    findings
}

/// The first line that names such a lock, and the name.
fn first_lock(text: &str) -> Option<(usize, &'static str)> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = (1..).zip(code.lines());
    let mut lines = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines.find_map(|(number, line)| {
        let lock = UNCHECKED.into_iter().find(|lock| is_named(line, lock));
        lock.map(|lock| (number, lock))
    })
}

/// Whether a line has this word, and not one that only begins or ends with it.
fn is_named(line: &str, word: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, expected: &[usize]) {
        let sources = [Source::new(path, text)];
        let found = unchecked(&sources, &[]);
        let lines: Vec<usize> = found.iter().map(|found| found.line).collect();
        assert_eq!(lines, expected, "{text:?}");
    }

    #[test]
    fn a_lock_of_another_kind_is_found_and_a_guard_is_not() {
        let lane = "crates/dispatch/src/lane.rs";
        check(lane, "use std::sync::MutexGuard;", &[]);
        check(lane, "\nuse std::sync::{Arc, Mutex};", &[2]);
        check(lane, "let a: tokio::sync::RwLock<()>;", &[1]);
        check(lane, "// A Mutex would do.", &[]);
        check(
            lane,
            "#[cfg(test)]\nmod tests { static A: Mutex<()>; }",
            &[],
        );
        check("crates/dispatch/src/lane/tests.rs", "Mutex", &[]);
        check("crates/log/src/lane.rs", "Mutex", &[]);
    }

    #[test]
    fn an_exception_is_left_alone_as_long_as_it_is_one() {
        let exceptions = [("a.rs", "it waits"), ("b.rs", "it waits")];
        let sources = [
            Source::new("crates/dispatch/src/a.rs", "Mutex"),
            Source::new("crates/dispatch/src/b.rs", "Lock"),
        ];
        let found = unchecked(&sources, &exceptions);
        let places: Vec<&str> = found.iter().map(|found| found.place.as_str()).collect();
        assert_eq!(places, ["crates/dispatch/src/b.rs"]);
    }
}

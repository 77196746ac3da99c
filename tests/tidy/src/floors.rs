//! Modules that are the floor of their crate: whatever such a module uses, by whichever way, does
//! not use it.
//!
//! What counts is the text: `crate::` and the name of a module, of what is no test.

use std::collections::{BTreeMap, BTreeSet};

use crate::Finding;
use crate::source::Source;

/// Crates and their modules that are floors.
pub const FLOORS: [(&str, &str); 1] = [("crates/dispatch", "shared")];

/// Ways by which the floors come back to themselves, the shortest of each.
#[must_use]
pub fn broken(sources: &[Source], floors: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (of, floor) in floors {
        let uses = uses(of, sources);
        if !uses.contains_key(*floor) {
            findings.push(finding(
                of,
                floor,
                format!("there is no module `{floor}`; see FLOORS"),
            ));
        } else if let Some(way) = way_back(floor, &uses) {
            let what = format!(
                "`{floor}` is the floor, but it is used below it: {}",
                way.join(" uses ")
            );
            findings.push(finding(of, floor, what));
        }
    }
    findings
}

/// Modules of a crate, each with those that it uses.
fn uses(of: &str, sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let inner = source.path.strip_prefix(&format!("{of}/src/"));
        let Some(path) = inner.filter(|path| !path.contains("tests")) else {
            continue;
        };
        let name = path.split('/').next().unwrap_or_default();
        let name = name.trim_end_matches(".rs").to_owned();
        let used = all.entry(name.clone()).or_default();
        used.extend(named(&source.text).into_iter().filter(|used| *used != name));
    }
    all
}

/// Modules that a text names behind `crate::`, one by one or several in braces.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code = code.lines().filter(is_code).collect::<Vec<_>>().join(" ");
    let mut names = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let several = path.strip_prefix('{').and_then(|path| path.split_once('}'));
        let several = several.map(|(several, _)| several.split(',').collect());
        for name in several.unwrap_or_else(|| vec![path]) {
            let name = name.trim_start();
            let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            names.insert(name[..end.unwrap_or(name.len())].to_owned());
        }
    }
    names
}

/// Modules on the shortest way from a module back to itself.
fn way_back(from: &str, uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last().and_then(|last| uses.get(last));
            for next in last.into_iter().flatten() {
                let mut way = way.clone();
                way.push(next.clone());
                if next == from {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

fn finding(of: &str, floor: &str, what: String) -> Finding {
    Finding {
        place: format!("{of}/src/{floor}.rs"),
        line: 0,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(of_lane: &str, of_gate: &str, expected: &[&str]) {
        let sources = [
            Source::new("crates/a/src/floor.rs", "use crate::lane::Lane;"),
            Source::new("crates/a/src/lane.rs", of_lane),
            Source::new("crates/a/src/lane/gate.rs", of_gate),
            Source::new("crates/a/src/top.rs", "use crate::{floor, lane::Lane};"),
            Source::new("crates/b/src/lane.rs", "use crate::floor::Floor;"),
        ];
        let found = broken(&sources, &[("crates/a", "floor")]);
        let said: Vec<&str> = found.iter().map(|found| found.what.as_str()).collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn a_floor_that_is_used_from_above_only_is_left_alone() {
        check("use crate::lane::gate::Gate;", "// crate::floor", &[]);
        check("#[cfg(test)]\nmod tests { use crate::floor; }", "", &[]);
    }

    #[test]
    fn a_floor_that_is_used_below_it_is_found_with_the_way() {
        let expected = "`floor` is the floor, but it is used below it: floor uses lane uses floor";
        check("use crate::floor::Floor;", "", &[expected]);
        check("", "use crate::{\n    floor::Floor,\n};", &[expected]);
        let expected =
            "`floor` is the floor, but it is used below it: floor uses lane uses top uses floor";
        check("fn a(top: &crate::top::Top) {}", "", &[expected]);
    }

    #[test]
    fn a_floor_that_is_not_there_is_found() {
        let found = broken(&[], &[("crates/a", "floor")]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

//! ARCHITECTURE.md against the packages there are: the map has a row for each, and the arrows are
//! those of the manifests.

use std::collections::BTreeSet;

use crate::Finding;
use crate::members::Members;

const FILE: &str = "ARCHITECTURE.md";

/// Cells of the rows of the first table below a heading, with the line of each; the head of the
/// table is left out.
#[must_use]
pub fn table<'a>(text: &'a str, heading: &str) -> Vec<(usize, Vec<&'a str>)> {
    let numbered = (1..).zip(text.lines());
    let below = numbered
        .skip_while(|(_, line)| *line != heading)
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('#'));
    let rows = below
        .skip_while(|(_, line)| !line.starts_with('|'))
        .take_while(|(_, line)| line.starts_with('|'));
    let cells = |line: &'a str| line.trim_matches('|').split(" | ").map(str::trim).collect();
    rows.skip(2)
        .map(|(number, line)| (number, cells(line)))
        .collect()
}

/// Words in backticks.
#[must_use]
pub fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Packages without a row in the map, and rows of what is not there.
#[must_use]
pub fn map(text: &str, members: &Members, is_there: impl Fn(&str) -> bool) -> Vec<Finding> {
    let rows = table(text, "## Map");
    let first = rows.iter().filter_map(|(_, cells)| cells.first());
    let named: BTreeSet<&str> = first.flat_map(|cell| quoted(cell)).collect();
    let mut findings = Vec::new();
    for member in members.values() {
        let directory = &member.directory;
        let parts = format!("{directory}/");
        // A package that is several things may have a row for each of them.
        if !named.contains(directory.as_str()) && !named.iter().any(|name| name.starts_with(&parts))
        {
            findings.push(finding(0, format!("the map has no row for `{directory}`")));
        }
    }
    for name in named.iter().filter(|name| !is_there(name)) {
        findings.push(finding(
            0,
            format!("the map has a row for `{name}`, which is not there"),
        ));
    }
    findings
}

/// Packages whose row of arrows is not what their manifest says.
#[must_use]
pub fn arrows(text: &str, members: &Members) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for (line, cells) in table(text, "### Arrows") {
        let (Some(name), Some(uses)) = (cells.first().map(|cell| quoted(cell)), cells.get(1))
        else {
            continue;
        };
        let name = name.first().copied().unwrap_or_default();
        seen.insert(name);
        let Some(member) = members.get(name) else {
            findings.push(finding(line, format!("there is no package `{name}`")));
            continue;
        };
        let told: BTreeSet<String> = quoted(uses).into_iter().map(str::to_owned).collect();
        for extra in member.uses.difference(&told) {
            let what = format!("`{name}` uses `{extra}`: undo it, or draw the arrow and say why");
            findings.push(finding(line, what));
        }
        for missing in told.difference(&member.uses) {
            let what = format!("`{name}` does not use `{missing}`: take the arrow away");
            findings.push(finding(line, what));
        }
    }
    for name in members.keys().filter(|name| !seen.contains(name.as_str())) {
        findings.push(finding(0, format!("the arrows have no row for `{name}`")));
    }
    findings
}

fn finding(line: usize, what: String) -> Finding {
    Finding {
        place: FILE.to_owned(),
        line,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Member;

    const TEXT: &str = "## Map\n\n| where | what |\n| --- | --- |\n| `crates/event` | events |\n| `crates/log` | log |\n\
        | `tests/nodes` | nodes |\n\n### Arrows\n\n| crate | uses |\n| --- | --- |\n| `event` | nothing of ours |\n\
        | `log` | `event` |\n| `tests` | nothing of ours |\n";

    fn members() -> Members {
        let member = |directory: &str, uses: &[&str]| Member {
            directory: directory.to_owned(),
            uses: uses.iter().map(|name| (*name).to_owned()).collect(),
            is_default: true,
        };
        Members::from([
            ("event".to_owned(), member("crates/event", &[])),
            ("log".to_owned(), member("crates/log", &["event"])),
            ("tests".to_owned(), member("tests", &[])),
        ])
    }

    fn said(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .map(|finding| finding.what.as_str())
            .collect()
    }

    #[test]
    fn a_true_map_is_left_alone() {
        assert_eq!(map(TEXT, &members(), |_| true), []);
        assert_eq!(arrows(TEXT, &members()), []);
    }

    #[test]
    fn a_package_without_a_row_and_a_row_without_a_package_are_found() {
        let mut more = members();
        more.insert("store".to_owned(), Member::default());
        more.entry("store".to_owned()).or_default().directory = "crates/store".to_owned();
        let found = map(TEXT, &more, |name| name != "crates/log");
        let expected = [
            "the map has no row for `crates/store`",
            "the map has a row for `crates/log`, which is not there",
        ];
        assert_eq!(said(&found), expected);
        let found = arrows(TEXT, &more);
        assert_eq!(said(&found), ["the arrows have no row for `store`"]);
    }

    #[test]
    fn an_arrow_too_many_and_one_too_few_are_found() {
        let mut turned = members();
        turned.entry("event".to_owned()).or_default().uses = ["log".to_owned()].into();
        turned.entry("log".to_owned()).or_default().uses.clear();
        let expected = [
            "`event` uses `log`: undo it, or draw the arrow and say why",
            "`log` does not use `event`: take the arrow away",
        ];
        assert_eq!(said(&arrows(TEXT, &turned)), expected);
        turned.remove("log");
        assert!(said(&arrows(TEXT, &turned)).contains(&"there is no package `log`"));
    }
}

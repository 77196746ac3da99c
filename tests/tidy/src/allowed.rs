//! Lists of what is allowed for now: how often each file breaks a rule. They may only shrink.
//!
//! A list is a file of lines `COUNT PLACE`. `UPDATE_TIDY=1` writes it anew after something was
//! mended or moved, and refuses to if there is more in all than before.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::Finding;

/// Findings allowed, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(BTreeMap<String, usize>);

/// Difference between what is found and what is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Findings of the places that have more than they may.
    pub too_many: Vec<Finding>,
    /// Places that have less than they may, with what they have: the list has to shrink.
    pub mended: Vec<(String, usize)>,
}

impl Allowed {
    /// Reads a list; a line that is none allows nothing.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (count, place) = line.trim().split_once(' ')?;
            Some((place.to_owned(), count.parse().ok()?))
        };
        Self(text.lines().filter_map(entry).collect())
    }

    /// The list that allows just what is found.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let mut counts = BTreeMap::new();
        for finding in findings {
            *counts.entry(finding.place.clone()).or_default() += 1;
        }
        Self(counts)
    }

    /// Findings in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The text of the list.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0
            .iter()
            .fold(String::new(), |mut text, (place, count)| {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{count} {place}");
                text
            })
    }

    /// Compares what is found with what is allowed.
    #[must_use]
    pub fn compare(&self, findings: &[Finding]) -> Difference {
        let found = Self::of(findings);
        let allowed = |place: &str| self.0.get(place).copied().unwrap_or(0);
        let actual = |place: &str| found.0.get(place).copied().unwrap_or(0);
        let is_too_many = |finding: &&Finding| actual(&finding.place) > allowed(&finding.place);
        let present = self
            .0
            .iter()
            .map(|(place, count)| (place, actual(place), count));
        let mended = present
            .filter(|(_, found, count)| found < count)
            .map(|(place, found, _)| (place.clone(), found));
        Difference {
            too_many: findings.iter().filter(is_too_many).cloned().collect(),
            mended: mended.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_may_only_shrink() {
        let finding = |place: &str| Finding {
            place: place.into(),
            line: 1,
            what: String::new(),
        };
        let allowed = Allowed::parse("2 a.rs\n1 b.rs\n");
        let as_listed = [finding("a.rs"), finding("a.rs"), finding("b.rs")];
        assert_eq!(allowed.compare(&as_listed), Difference::default());
        assert_eq!(Allowed::of(&as_listed).to_text(), "2 a.rs\n1 b.rs\n");
        let more = [&as_listed[..], &[finding("b.rs"), finding("c.rs")]].concat();
        let too_many = allowed.compare(&more).too_many;
        let places: Vec<_> = too_many.iter().map(|found| found.place.as_str()).collect();
        assert_eq!(places, ["b.rs", "b.rs", "c.rs"]);
        let mended = allowed.compare(&as_listed[1..2]).mended;
        assert_eq!(mended, [("a.rs".to_owned(), 1), ("b.rs".to_owned(), 0)]);
    }
}

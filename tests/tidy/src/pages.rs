//! The pages of drivers against their index: each is in it, and each link of it leads to one.

use std::collections::BTreeSet;

use crate::Finding;

/// The index, from the root of the workspace.
pub const INDEX: &str = "docs/drivers.md";
/// Where the pages are, beside the index.
pub const PAGES: &str = "docs/drivers";

/// Pages that the index does not link, and links that lead to none.
#[must_use]
pub fn check(index: &str, pages: &BTreeSet<String>) -> Vec<Finding> {
    let links: BTreeSet<String> = linked(index).collect();
    let finding = |place: String, what: String| Finding {
        place,
        line: 0,
        what,
    };
    let unlisted = pages.difference(&links).map(|page| {
        let what = format!("name the page in `{INDEX}`");
        finding(format!("{PAGES}/{page}"), what)
    });
    let lost = links.difference(pages).map(|page| {
        let what = format!("there is no page `{PAGES}/{page}`");
        finding(INDEX.to_owned(), what)
    });
    unlisted.chain(lost).collect()
}

/// File names of the pages that a text links.
fn linked(text: &str) -> impl Iterator<Item = String> {
    let targets = text.split("](drivers/").skip(1);
    targets.filter_map(|rest| {
        let end = rest.find([')', '#'])?;
        rest.get(..end).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_a_link_and_a_link_without_a_page_are_found() {
        let pages = BTreeSet::from(["a.md", "b.md"].map(str::to_owned));
        for (index, found) in [
            ("[a](drivers/a.md#x), [b](drivers/b.md)", &[][..]),
            (
                "[a](drivers/a.md) [c](drivers/c.md)",
                &["docs/drivers/b.md", "docs/drivers.md"],
            ),
            ("[x](push.md)", &["docs/drivers/a.md", "docs/drivers/b.md"]),
        ] {
            let findings = check(index, &pages);
            let places: Vec<&str> = findings.iter().map(|found| &*found.place).collect();
            assert_eq!(places, found, "{index}");
        }
    }
}

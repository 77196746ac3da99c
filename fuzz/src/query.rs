//! The query of a list: the part that is wanted, and the links to the other parts.

use dovecast_server::parsers::{List, Refused, list};

use crate::expect::{complaints, within};
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target { name: "query", run };

const BASE: &str = "http://host/api/hooks/endpoints";
const MAX_LIMIT: i64 = 1000;

fn run(bytes: &[u8]) -> Outcome {
    // One byte is how many there are.
    let Some((total, query)) = bytes.split_first() else {
        return Outcome::Refused;
    };
    let Ok(query) = std::str::from_utf8(query) else {
        return Outcome::Refused;
    };
    let total = i64::from(*total);
    match within(query.len() * 128 + 8192, || list(BASE, query, total)) {
        Ok(first) => {
            is_a_part(&first);
            for link in &first.links {
                leads_to_another_part(link, &first, total);
            }
            Outcome::Read
        }
        Err(refused) => {
            complaints(&refused, &[400, 422]);
            Outcome::Refused
        }
    }
}

fn is_a_part(list: &List) {
    assert!((1..=MAX_LIMIT).contains(&list.query.limit));
    assert!(list.query.offset >= 0);
    assert!((2..=4).contains(&list.links.len()));
}

/// Fails unless a link is the request about another part, which has its links to the first and the
/// last one.
fn leads_to_another_part(link: &str, from: &List, total: i64) {
    let query = link
        .strip_prefix(BASE)
        .and_then(|rest| rest.strip_prefix('?'));
    let there: Result<List, Refused> = list(BASE, query.expect("a link of ours"), total);
    let there = there.expect("a link that can be followed");
    is_a_part(&there);
    let (to, of) = (&there.query, &from.query);
    assert_eq!(
        (&to.search, to.order, to.descending),
        (&of.search, of.order, of.descending)
    );
    assert!(to.limit <= of.limit);
}

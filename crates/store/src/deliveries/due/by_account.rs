//! Endpoints that have something due, a page of them at a time, and what is claimed of each: every
//! account has the same share of a claim, and so has every endpoint of an account, as far as it
//! owes so much. One account with a thousand endpoints that owe for long has another one with a
//! single endpoint wait for no more than the next page.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use dovecast_notification::EndpointId;

use super::found::{DueRow, Found};
use super::{Looking, number};
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::{Statement, first_due};

/// Endpoints of a page. Some milliseconds' worth.
pub(super) const PAGE: i64 = 2_000;
/// Endpoints that one statement looks at for what is due: SQLite joins no more than 500 of them.
const ENDPOINTS_AT_A_TIME: usize = 100;
/// How often it is looked for more where endpoints have owed less than their shares.
const ROUNDS: usize = 8;
/// How often pages are looked at at least while more is due than is claimed at once.
const LOOK_EVERY_MS: i64 = 500;

/// From one endpoint to the next: the rows in between are not read.
pub(super) const ENDPOINTS: &str = concat!(
    "WITH RECURSIVE step (id, number) AS (\
    SELECT MIN(endpoint_id), CAST(1 AS BIGINT) FROM owed WHERE claimed_by IS NULL AND endpoint_id > $1 \
    UNION ALL \
    SELECT (SELECT MIN(endpoint_id) FROM owed WHERE claimed_by IS NULL AND endpoint_id > step.id), step.number + 1 \
    FROM step WHERE step.id IS NOT NULL AND step.number < $2) \
    SELECT step.id AS id, (SELECT account_id FROM endpoint WHERE endpoint.id = step.id) AS account_id, ",
    first_due!("step.id"),
    " AS due_ms FROM step WHERE step.id IS NOT NULL"
);

/// The page that was looked at last.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// The last endpoint of it, unless it was the last one of all.
    after: String,
    /// When it was looked at, by the steady clock.
    looked_ms: Option<i64>,
}

/// An endpoint that has something due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    since_ms: i64,
    endpoint: EndpointId,
    /// How much of it was found.
    found: usize,
}

/// How many deliveries of an endpoint to look for, behind those that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Number of the account.
    pub(super) account: usize,
    pub(super) endpoint: EndpointId,
    pub(super) skipped: usize,
    pub(super) most: usize,
}

/// What one endpoint was asked for, and what was found of it.
struct Asked {
    account: usize,
    most: usize,
    found: usize,
    has_order: bool,
}

fn asked(parts: &[Part]) -> BTreeMap<EndpointId, Asked> {
    let asked = |part: &Part| Asked {
        account: part.account,
        most: part.most,
        found: 0,
        has_order: false,
    };
    let parts = parts.iter().map(|part| (part.endpoint, asked(part)));
    parts.collect()
}

/// What is due of each account, by its number here: who has waited longest comes first.
#[derive(Debug)]
struct Accounts(BTreeMap<usize, Vec<Due>>);

impl Accounts {
    fn new(all: impl IntoIterator<Item = (usize, Due)>) -> Self {
        let mut accounts: BTreeMap<usize, Vec<Due>> = BTreeMap::new();
        for (account, due) in all {
            accounts.entry(account).or_default().push(due);
        }
        for endpoints in accounts.values_mut() {
            endpoints.sort_unstable();
        }
        Self(accounts)
    }

    /// Divides so many deliveries. Who has waited longest comes first.
    fn divide(&self, most: usize) -> Vec<Part> {
        let mut accounts: Vec<(&usize, &Vec<Due>)> = self.0.iter().collect();
        accounts.sort_unstable_by_key(|(_, endpoints)| endpoints.first().map(|due| due.since_ms));
        let mut parts = Vec::new();
        let mut left = most;
        for (before, (account, endpoints)) in accounts.iter().enumerate() {
            let mut of_account = left.div_ceil(accounts.len() - before);
            left -= of_account;
            for (before, due) in endpoints.iter().enumerate() {
                let most = of_account.div_ceil(endpoints.len() - before);
                if most == 0 {
                    break;
                }
                of_account -= most;
                parts.push(Part {
                    account: **account,
                    endpoint: due.endpoint,
                    skipped: due.found,
                    most,
                });
            }
        }
        parts
    }

    /// Takes in what was found of those that were asked. Endpoints that had less than they were
    /// asked for are not asked again.
    fn found(&mut self, asked: &BTreeMap<EndpointId, Asked>) {
        self.0.retain(|_, endpoints| {
            endpoints.retain_mut(|due| {
                let asked = asked.get(&due.endpoint);
                due.found += asked.map_or(0, |asked| asked.found);
                asked.is_none_or(|asked| asked.found == asked.most)
            });
            !endpoints.is_empty()
        });
    }
}

impl Store {
    /// Whether it is time to look at a page, whatever is due first.
    pub(super) fn is_time_for_a_page(&self) -> bool {
        let now_ms = self.clock.steady_ms();
        let looked_ms = self.page().looked_ms;
        looked_ms.is_none_or(|looked_ms| now_ms.saturating_sub(looked_ms) >= LOOK_EVERY_MS)
    }

    /// What is due of the endpoints of the next page, divided among their accounts. What follows
    /// the first of a key is not due, and has its part of the share.
    pub(super) async fn find_by_account(&self, looking: &Looking<'_>) -> Result<Found> {
        let mut accounts = self.next_page(looking).await?;
        let mut found = Found::new(looking);
        let mut rows = Vec::new();
        for _ in 0..ROUNDS {
            let parts = accounts.divide(found.left);
            if parts.is_empty() {
                break;
            }
            let mut asked = asked(&parts);
            for parts in parts.chunks(ENDPOINTS_AT_A_TIME) {
                for row in self.due_of(parts, looking).await? {
                    if let Some(asked) = asked.get_mut(&row.id.0) {
                        asked.found += 1;
                        asked.has_order |= row.has_order;
                        rows.push((asked.account, row));
                    }
                }
            }
            for (endpoint, asked) in &asked {
                found.left -= if asked.has_order {
                    *found.rooms.entry(*endpoint).or_default() += asked.most;
                    asked.most
                } else {
                    asked.found
                };
            }
            accounts.found(&asked);
        }
        found.add_all(rows);
        Ok(found)
    }

    /// The endpoints of the next page that are due and need not wait.
    async fn next_page(&self, looking: &Looking<'_>) -> Result<Accounts> {
        let after = self.page().after.clone();
        let rows = sqlx::query(ENDPOINTS)
            .bind(after)
            .bind(PAGE)
            .fetch_all(&self.database.pool)
            .await?;
        let is_last = rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        let after = match rows.last() {
            Some(last) if !is_last => row::text(last, "id")?,
            _ => String::new(),
        };
        *self.page() = Page {
            after,
            looked_ms: Some(self.clock.steady_ms()),
        };
        let mut all = Vec::new();
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for found in &rows {
            let endpoint = row::id(found, "id")?;
            // Claimed by another dispatcher meanwhile it has none.
            let since = row::optional_number(found, "due_ms")?;
            let since = since.filter(|since| *since <= looking.now_ms);
            if let Some(since_ms) = since
                && !looking.except.contains(&endpoint)
            {
                // An endpoint that was deleted has none any more.
                let account = row::optional_text(found, "account_id")?;
                let due = Due {
                    since_ms,
                    endpoint,
                    found: 0,
                };
                let next = numbers.len();
                let number = numbers.entry(account.unwrap_or_default()).or_insert(next);
                all.push((*number, due));
            }
        }
        Ok(Accounts::new(all))
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn due_of(&self, parts: &[Part], looking: &Looking<'_>) -> Result<Vec<DueRow>> {
        let mut connection = self.database.pool.acquire().await?;
        let rows = of_endpoints(parts, looking.now_ms);
        let rows = rows.fetch_all(&mut connection).await?;
        self.ours(looking, &rows)
    }
}

/// Finds one range of an index for each endpoint, as in [`first_due`].
pub(super) fn of_endpoints(parts: &[Part], now_ms: i64) -> Statement {
    let mut of = Statement::new("");
    let mut before = "SELECT * FROM (";
    for part in parts {
        of.push(before).push(
            "SELECT endpoint_id, notification_id, due_ms, log, topic, part, octet_length(content) AS bytes FROM owed \
             WHERE claimed_by IS NULL AND endpoint_id >= ",
        );
        let endpoint = part.endpoint.to_string();
        of.bind(endpoint.clone());
        of.push(" AND (endpoint_id, due_ms) <= (").bind(endpoint);
        of.bind_next(now_ms);
        of.push(") ORDER BY endpoint_id, due_ms LIMIT ")
            .bind(number(part.most));
        of.push(" OFFSET ").bind(number(part.skipped));
        before = ") AS due UNION ALL SELECT * FROM (";
    }
    of.push(") AS due");
    of
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn due(endpoint: u128, since_ms: i64) -> Due {
        Due {
            since_ms,
            endpoint: EndpointId(Uuid::from_u128(endpoint)),
            found: 0,
        }
    }

    /// What is found of endpoints that owe so much each, given as `(account, endpoint, owes)`, the
    /// longest due first.
    fn found(most: usize, owing: &[(usize, u128, usize)]) -> BTreeMap<u128, usize> {
        let all = (0..).zip(owing);
        let mut accounts = Accounts::new(
            all.map(|(since_ms, (account, endpoint, _))| (*account, due(*endpoint, since_ms))),
        );
        let owes: BTreeMap<_, _> = owing
            .iter()
            .map(|(_, endpoint, owed)| (EndpointId(Uuid::from_u128(*endpoint)), *owed))
            .collect();
        let mut of_all: BTreeMap<u128, usize> = BTreeMap::new();
        loop {
            let parts = accounts.divide(most - of_all.values().sum::<usize>());
            if parts.is_empty() {
                return of_all;
            }
            let mut asked = asked(&parts);
            for part in &parts {
                let there = owes[&part.endpoint].saturating_sub(part.skipped);
                let found = there.min(part.most);
                if let Some(asked) = asked.get_mut(&part.endpoint) {
                    asked.found = found;
                }
                *of_all.entry(part.endpoint.0.as_u128()).or_default() += found;
            }
            accounts.found(&asked);
        }
    }

    #[test]
    fn accounts_have_the_same_share_however_many_endpoints_they_have() {
        let many = (1..=1000).map(|endpoint| (1, endpoint, 1000));
        let owing: Vec<_> = many.chain([(2, 2000, 1000)]).collect();
        let found = found(100, &owing);
        assert_eq!(found[&2000], 50);
        let of_many = found.iter().filter(|(endpoint, _)| **endpoint < 2000);
        let longest: Vec<_> = of_many
            .map(|(endpoint, found)| (*endpoint, *found))
            .collect();
        assert_eq!(
            longest,
            (1..=50).map(|endpoint| (endpoint, 1)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_one_does_not_owe_others_have() {
        for (most, owing, expected) in [
            (20, &[(1, 1, 40), (1, 2, 1)][..], &[(1, 19), (2, 1)][..]),
            (
                20,
                &[(1, 1, 40), (2, 2, 1), (2, 3, 2)],
                &[(1, 17), (2, 1), (3, 2)],
            ),
            (20, &[(1, 1, 0), (2, 2, 3)], &[(1, 0), (2, 3)]),
            (1, &[(1, 1, 5), (2, 2, 5)], &[(1, 1)]),
            (0, &[(1, 1, 5)], &[]),
            (5, &[], &[]),
        ] {
            let expected: BTreeMap<u128, usize> = expected.iter().copied().collect();
            assert_eq!(found(most, owing), expected, "{most} of {owing:?}");
        }
    }
}

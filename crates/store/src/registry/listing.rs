//! Lists of endpoints: search, order, pages.

use super::AccountId;
use super::endpoints::{Endpoint, SELECT};
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The part.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: i64,
}

/// Which endpoints, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointQuery {
    /// What they must contain.
    pub search: Search,
    /// By what they are sorted.
    pub order: EndpointOrder,
    /// Whether the last comes first.
    pub descending: bool,
    /// At most so many.
    pub limit: i64,
    /// After so many.
    pub offset: i64,
}

/// What names and URLs must contain; upper and lower case are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// Anything.
    #[default]
    All,
    /// The text, in the name or in the URL.
    Either(String),
    /// Each of these texts.
    Each {
        /// In the name.
        name: Vec<String>,
        /// In the URL.
        url: Vec<String>,
    },
}

/// By what endpoints are sorted; equal ones in the order in which they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointOrder {
    /// Their names, by code point.
    #[default]
    Name,
    /// Their URLs, by code point.
    Url,
    /// Inactive ones first.
    Active,
}

impl Store {
    /// Some endpoints of an account.
    pub async fn endpoints(
        &self,
        account: AccountId,
        query: &EndpointQuery,
    ) -> Result<Page<Endpoint>> {
        let mut tx = self.database.begin_reading().await?;
        let mut count = Statement::new("SELECT COUNT(*) AS total FROM endpoint");
        restrict(&mut count, account, &query.search);
        let counted = count.fetch_all(&mut tx).await?;
        let total = counted.first().ok_or(sqlx::Error::RowNotFound)?;
        let mut list = Statement::new(SELECT);
        list.push(" FROM endpoint");
        restrict(&mut list, account, &query.search);
        list.push(" ORDER BY ").push(self.order(query.order));
        list.push(if query.descending { " DESC" } else { " ASC" });
        list.push(", endpoint.id LIMIT ").bind(query.limit);
        list.push(" OFFSET ").bind(query.offset);
        let rows = list.fetch_all(&mut tx).await?;
        tx.commit().await?;
        let items: Result<Vec<_>> = rows.iter().map(Endpoint::from_row).collect();
        Ok(Page {
            items: items?,
            total: row::number(total, "total")?,
        })
    }

    /// PostgreSQL sorts text as its locale says, if nobody says otherwise.
    fn order(&self, order: EndpointOrder) -> &'static str {
        match (order, self.database.is_postgres) {
            (EndpointOrder::Name, false) => "name",
            (EndpointOrder::Name, true) => "name COLLATE \"C\"",
            (EndpointOrder::Url, false) => "url",
            (EndpointOrder::Url, true) => "url COLLATE \"C\"",
            (EndpointOrder::Active, _) => "active",
        }
    }
}

fn restrict(query: &mut Statement, account: AccountId, search: &Search) {
    query.push(" WHERE account_id = ");
    query.bind(account.to_string());
    match search {
        Search::All => {}
        Search::Either(text) => {
            query.push(" AND (");
            contains(query, "search_name", text);
            query.push(" OR ");
            contains(query, "search_url", text);
            query.push(")");
        }
        Search::Each { name, url } => {
            let names = name.iter().map(|text| ("search_name", text));
            for (column, text) in names.chain(url.iter().map(|text| ("search_url", text))) {
                query.push(" AND ");
                contains(query, column, text);
            }
        }
    }
}

fn contains(query: &mut Statement, column: &'static str, text: &str) {
    query.push(column).push(" LIKE ");
    query.bind(format!("%{}%", literal(&text.to_lowercase())));
    query.push(" ESCAPE '!'");
}

/// The text as a pattern that matches nothing else.
fn literal(text: &str) -> String {
    text.replace('!', "!!")
        .replace('%', "!%")
        .replace('_', "!_")
}

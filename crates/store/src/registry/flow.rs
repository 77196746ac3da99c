//! How deliveries flow to an endpoint: whether, how fast, how often again, and to whom instead.
//!
//! One column holds all of it as JSON, with the names of these fields: a further attribute is a
//! field here, and no column. What is missing in it is as if nobody had said anything.

use std::num::NonZeroU32;

use dovecast_notification::Content;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Any, query};

use super::{AccountId, EndpointId};
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::row;

/// How deliveries flow to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// Whether deliveries wait until the endpoint is not paused any more.
    pub paused: bool,
    /// Deliveries in a second at most, from each node.
    pub rate_limit: Option<NonZeroU32>,
    /// Seconds until each further attempt; without it as the retry policy says.
    pub retry_delays: Option<Vec<u32>>,
    /// Which deliveries go one after the other.
    pub ordering: DeliveryOrder,
    /// What the endpoint may see of a mail.
    pub content: Content,
    /// Gets what cannot be delivered here; an endpoint of the same account that has none itself. A
    /// column of its own.
    #[serde(skip)]
    pub fallback: Option<EndpointId>,
}

/// Which deliveries to an endpoint go one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryOrder {
    /// None: each goes when it can.
    #[default]
    None,
    /// Deliveries of one key, in the order of the log.
    Key,
}

impl DeliveryOrder {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key => "key",
        }
    }
}

/// What is to be different; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowEdit {
    /// See [`Flow`].
    pub paused: Option<bool>,
    /// See [`Flow`].
    pub rate_limit: Option<Option<NonZeroU32>>,
    /// See [`Flow`].
    pub retry_delays: Option<Option<Vec<u32>>>,
    /// See [`Flow`].
    pub ordering: Option<DeliveryOrder>,
    /// See [`Flow`].
    pub content: Option<Content>,
    /// See [`Flow`].
    pub fallback: Option<Option<EndpointId>>,
}

impl Flow {
    pub(super) fn from_row(found: &AnyRow) -> Result<Self> {
        let json = row::text(found, "flow")?;
        let read: Self = serde_json::from_str(&json).map_err(|error| row::wrong("flow", error))?;
        let fallback = match row::optional_text(found, "fallback_id")? {
            Some(_) => Some(row::id(found, "fallback_id")?),
            None => None,
        };
        Ok(Self { fallback, ..read })
    }

    /// As it is after a change.
    pub(super) fn edited(&mut self, edit: &FlowEdit) {
        let edit = edit.clone();
        self.paused = edit.paused.unwrap_or(self.paused);
        self.rate_limit = edit.rate_limit.unwrap_or(self.rate_limit);
        self.ordering = edit.ordering.unwrap_or(self.ordering);
        self.fallback = edit.fallback.unwrap_or(self.fallback);
        if let Some(delays) = edit.retry_delays {
            self.retry_delays = delays;
        }
        if let Some(content) = edit.content {
            self.content = content;
        }
    }
}

/// Writes what is to be, if its fallback can be one.
pub(super) async fn put(
    change: &mut Change<'_>,
    account: AccountId,
    id: EndpointId,
    flow: &Flow,
) -> Result<()> {
    if let Some(fallback) = flow.fallback {
        check(change, account, id, fallback).await?;
    }
    let json = serde_json::to_string(flow).map_err(|error| row::wrong("flow", error))?;
    query::<Any>("UPDATE endpoint SET flow = $1, fallback_id = $2 WHERE id = $3")
        .bind(json)
        .bind(flow.fallback.map(|id| id.to_string()))
        .bind(id.to_string())
        .execute(&mut *change.tx)
        .await?;
    Ok(())
}

/// Whether nothing goes round: an endpoint that is a fallback has none.
async fn check(
    change: &mut Change<'_>,
    account: AccountId,
    id: EndpointId,
    fallback: EndpointId,
) -> Result<()> {
    let found = query::<Any>("SELECT fallback_id FROM endpoint WHERE id = $1 AND account_id = $2")
        .bind(fallback.to_string())
        .bind(account.to_string())
        .fetch_optional(&mut *change.tx)
        .await?;
    let Some(found) = found.filter(|_| fallback != id) else {
        return Err(StoreError::Fallback(
            "is not another endpoint of the account",
        ));
    };
    if row::optional_text(&found, "fallback_id")?.is_some() {
        return Err(StoreError::Fallback("has a fallback itself"));
    }
    let used = query::<Any>("SELECT id FROM endpoint WHERE fallback_id = $1 LIMIT 1")
        .bind(id.to_string())
        .fetch_optional(&mut *change.tx)
        .await?;
    match used {
        Some(_) => Err(StoreError::Fallback(
            "cannot be: this endpoint is the fallback of another",
        )),
        None => Ok(()),
    }
}

//! How deliveries flow to an endpoint: whether, how fast, how often again, and to whom instead.

use std::num::NonZeroU32;

use sqlx::any::AnyRow;
use sqlx::{Any, query};

use super::{AccountId, EndpointId};
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::row;

/// How deliveries flow to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Whether deliveries wait until the endpoint is not paused any more.
    pub paused: bool,
    /// Deliveries in a second at most, from each node.
    pub rate_limit: Option<NonZeroU32>,
    /// Seconds until each further attempt; without it as the retry policy says.
    pub retry_delays: Option<Vec<u32>>,
    /// Gets what cannot be delivered here; an endpoint of the same account that has none itself.
    pub fallback: Option<EndpointId>,
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
    pub fallback: Option<Option<EndpointId>>,
}

impl Flow {
    pub(super) fn from_row(found: &AnyRow) -> Result<Self> {
        let limit = row::optional_number(found, "rate_limit")?;
        let limit = limit.map(|limit| u32::try_from(limit).and_then(NonZeroU32::try_from));
        let delays = row::optional_text(found, "retry_delays")?;
        let delays = delays.map(|json| serde_json::from_str(&json)).transpose();
        let fallback = row::optional_text(found, "fallback_id")?;
        Ok(Self {
            paused: row::truth(found, "paused")?,
            rate_limit: limit
                .transpose()
                .map_err(|error| row::wrong("rate_limit", error))?,
            retry_delays: delays.map_err(|error| row::wrong("retry_delays", error))?,
            fallback: match fallback {
                Some(_) => Some(row::id(found, "fallback_id")?),
                None => None,
            },
        })
    }

    /// As it is after a change.
    pub(super) fn edited(&mut self, edit: &FlowEdit) {
        let edit = edit.clone();
        self.paused = edit.paused.unwrap_or(self.paused);
        self.rate_limit = edit.rate_limit.unwrap_or(self.rate_limit);
        self.fallback = edit.fallback.unwrap_or(self.fallback);
        if let Some(delays) = edit.retry_delays {
            self.retry_delays = delays;
        }
    }
}

/// Writes what is to be, if its fallback can be one.
pub(super) async fn put(
    change: &mut Change<'_>,
    (account, id): (AccountId, EndpointId),
    flow: &Flow,
) -> Result<()> {
    if let Some(fallback) = flow.fallback {
        check(change, (account, id), fallback).await?;
    }
    let delays = flow.retry_delays.as_ref().map(serde_json::to_string);
    // Numbers can always be written.
    let delays = delays.transpose().ok().flatten();
    query::<Any>(
        "UPDATE endpoint SET paused = $1, rate_limit = $2, retry_delays = $3, fallback_id = $4 WHERE id = $5",
    )
    .bind(i64::from(flow.paused))
    .bind(flow.rate_limit.map(|limit| i64::from(limit.get())))
    .bind(delays)
    .bind(flow.fallback.map(|id| id.to_string()))
    .bind(id.to_string())
    .execute(&mut *change.tx)
    .await?;
    Ok(())
}

/// Whether nothing goes round: an endpoint that is a fallback has none.
async fn check(
    change: &mut Change<'_>,
    (account, id): (AccountId, EndpointId),
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

//! Drivers of the configuration file, as endpoints of the dispatcher: ordered, of all accounts, and
//! of events of mail only.
//!
//! A block that is not in the configuration of this node any more leaves its endpoint in the store:
//! what it is owed stays owed, for a node that has the block, or for a block that is put back.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use dovecast_dispatch::Endpoint;
use dovecast_dispatch::schedule::Schedule;
use dovecast_drivers::configured::{ConfiguredDriver, Events, Serving};
use dovecast_notification::filter::{EVERY_ACCOUNT, EventType};
use dovecast_notification::{Choice, Condition, DOVECOT, EndpointId, Filter};
use dovecast_store::{EndpointRecord, Store};

use super::unusable::Unusable;

/// What a driver is told of that is told of mails in INBOX.
const IN_INBOX: &str = "message.mailbox == \"INBOX\"";
const NOT_CONFIGURED: &str = "the driver is not in the configuration of this node";

/// Drivers by the endpoints that they have in the store.
#[derive(Default)]
pub(super) struct Configured(BTreeMap<EndpointId, ConfiguredDriver>);

impl Configured {
    /// Makes what is not in the store yet.
    pub(super) async fn load(store: &Store, drivers: Vec<ConfiguredDriver>) -> Result<Self> {
        if drivers.is_empty() && store.account(EVERY_ACCOUNT).await?.is_none() {
            return Ok(Self::default());
        }
        let blocks: Vec<_> = drivers.iter().map(|driver| &*driver.name).collect();
        let endpoints = store.configured_endpoints(&blocks).await;
        let endpoints =
            endpoints.context("the drivers of the configuration are not in the store")?;
        let mut drivers: BTreeMap<_, _> = drivers
            .into_iter()
            .map(|driver| (driver.name.clone(), driver))
            .collect();
        let mut configured = BTreeMap::new();
        for (name, id) in endpoints {
            if let Some(driver) = drivers.remove(&name) {
                tracing::info!(
                    block = name, driver = driver.kind, endpoint.id = %id,
                    "a driver of the configuration runs"
                );
                configured.insert(id, driver);
            } else {
                tracing::warn!(
                    block = name, endpoint.id = %id,
                    "a block of [push_notification] is gone from the configuration; what its driver is owed stays, see `dovecast dead-letters`"
                );
            }
        }
        Ok(Self(configured))
    }

    /// The endpoint of a record, and what it wants; `None`: it is an account's.
    pub(super) fn route(
        &self,
        record: &EndpointRecord,
        concurrency: usize,
    ) -> Option<(Endpoint, Option<Filter>)> {
        if record.account_number != EVERY_ACCOUNT {
            return None;
        }
        let (id, account) = (record.endpoint.id, Arc::from(EVERY_ACCOUNT));
        let Some(driver) = self.0.get(&id) else {
            let target = Unusable::target(NOT_CONFIGURED);
            let endpoint = Endpoint {
                is_paused: true,
                is_ordered: true,
                ..Endpoint::new(id, account, target)
            };
            return Some((endpoint, None));
        };
        let serving = driver.serving.clone().unwrap_or_else(|| Serving {
            concurrency,
            schedule: Schedule::default(),
        });
        let endpoint = Endpoint {
            is_ordered: true,
            concurrency: serving.concurrency,
            schedule: serving.schedule,
            saved_ms: record.endpoint.updated_ms,
            ..Endpoint::new(id, account, Arc::clone(&driver.target))
        };
        Some((endpoint, Some(filter(id, driver.events))))
    }
}

/// What a driver is told of.
fn filter(endpoint: EndpointId, events: Events) -> Filter {
    let new = EventType {
        application: DOVECOT.into(),
        name: "MessageNew".into(),
    };
    let (event_types, condition) = match events {
        Events::All => (Choice::Any, None),
        // The expression is ours: it is checked by a test.
        Events::NewInInbox => (Choice::These(vec![new]), Condition::new(IN_INBOX).ok()),
    };
    Filter {
        endpoint,
        account: EVERY_ACCOUNT.into(),
        mail_account: None,
        enabled: true,
        applications: Choice::These(vec![DOVECOT.into()]),
        event_types,
        levels: Choice::Any,
        condition: condition.map(Arc::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_mails_in_inbox_are_told_by_is_an_expression() {
        let id = EndpointId(uuid::Uuid::nil());
        assert!(filter(id, Events::NewInInbox).condition.is_some());
        assert!(filter(id, Events::All).condition.is_none());
    }
}

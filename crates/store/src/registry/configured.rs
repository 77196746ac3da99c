//! Endpoints of drivers of the configuration file: rows without settings, so that what is owed to
//! such a driver has an endpoint by whose id it is found after a restart and on each node.
//!
//! They belong to an account whose number no door takes and no list shows. What a driver does, and
//! how it is reached, stands in the configuration only.

use dovecast_notification::filter::EVERY_ACCOUNT;

use super::edit::NewEndpoint;
use super::flow::{DeliveryOrder, FlowEdit};
use super::receiver::{DriverSettings, Receiver};
use super::stored_words::RetryPolicy;
use super::{AccountId, EndpointId};
use crate::error::{Result, StoreError};
use crate::open::Store;
use crate::row;

/// Driver of these endpoints: no endpoint of an account has it.
pub(super) const DRIVER: &str = "push_notification";

impl Store {
    /// The endpoint of each block of the configuration, made if it is not there; and those of
    /// blocks that there were before.
    pub async fn configured_endpoints(&self, blocks: &[&str]) -> Result<Vec<(String, EndpointId)>> {
        // Whatever has closed it: without it nothing starts.
        self.reopen_account(EVERY_ACCOUNT).await?;
        let account = self.account_seen(EVERY_ACCOUNT).await?.id;
        let found = self.names_of(account).await?;
        for block in blocks {
            if found.iter().any(|(name, _)| name == block) {
                continue;
            }
            let new = endpoint(block);
            match self.create_endpoint(account, &new, u64::MAX).await {
                // Another node may have been faster.
                Ok(_) | Err(StoreError::NameTaken(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.names_of(account).await
    }

    async fn names_of(&self, account: AccountId) -> Result<Vec<(String, EndpointId)>> {
        let rows = sqlx::query("SELECT id, name FROM endpoint WHERE account_id = $1 ORDER BY name")
            .bind(account.to_string())
            .fetch_all(&self.database.pool)
            .await?;
        let named = rows.iter();
        let named = named.map(|found| Ok((row::text(found, "name")?, row::id(found, "id")?)));
        named.collect()
    }
}

fn endpoint(block: &str) -> NewEndpoint {
    NewEndpoint {
        name: block.to_owned(),
        receiver: Receiver::Driver(DriverSettings {
            driver: DRIVER.to_owned(),
            ..DriverSettings::default()
        }),
        active: true,
        server_ca_certificate: None,
        headers: None,
        credentials: None,
        retry_policy: RetryPolicy::Default,
        timeout_seconds: None,
        body: None,
        flow: FlowEdit {
            ordering: Some(DeliveryOrder::Key),
            ..FlowEdit::default()
        },
        filter: None,
    }
}

//! Endpoints of the store as the workers know them.

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::{Settings, Target};
use dovecast_dispatch::schedule::Schedule;
use dovecast_dispatch::{AccountPace, AccountPaces, Endpoint};
use dovecast_drivers::Drivers;
use dovecast_notification::{Content, EventAccount, Filter};
use dovecast_store::{DeliveryOrder, EndpointRecord, RetryPolicy};

use super::configured::Configured;
use super::unusable::Unusable;
use crate::config::Dispatch;

/// Jitter of the delays that an endpoint has of its own, in percent: that of the usual ones.
const JITTER_PERCENT: u32 = 20;

/// What an account is told of an endpoint whose secrets cannot be opened.
const LOCKED: &str = "the settings of the endpoint cannot be read at the moment: whoever runs this server has to put a key back";

/// Makes of what the store knows of an endpoint what the dispatcher delivers to.
pub(crate) struct Routes {
    drivers: Drivers,
    defaults: Dispatch,
    configured: Configured,
    /// `None`: nothing is delivered by these routes but tests.
    paces: Option<AccountPaces>,
}

impl Routes {
    pub(crate) fn new(drivers: &Drivers, config: &Dispatch) -> Self {
        Self {
            drivers: drivers.clone(),
            defaults: config.clone(),
            configured: Configured::default(),
            paces: None,
        }
    }

    /// Bounds the attempts of each account.
    pub(super) fn paced(self, paces: AccountPaces) -> Self {
        Self {
            paces: Some(paces),
            ..self
        }
    }

    /// Adds the drivers of the configuration.
    pub(super) fn with_configured(self, configured: Configured) -> Self {
        Self { configured, ..self }
    }

    /// The receiver that the endpoint's settings say; where its driver cannot use them, why.
    pub(super) fn target(&self, record: &EndpointRecord) -> Result<Arc<dyn Target>, String> {
        self.target_of(record, &Arc::from(record.account_number.as_str()))
    }

    fn target_of(
        &self,
        record: &EndpointRecord,
        account: &Arc<str>,
    ) -> Result<Arc<dyn Target>, String> {
        let driver = self.drivers.get(&record.endpoint.driver);
        let driver = driver.map_err(|error| error.to_string())?;
        // Why stands in the log: it is the operator's business, and accounts read this.
        let secrets = record.secrets.as_ref().map_err(|_| LOCKED.to_owned())?;
        let target = driver.target(&Settings {
            account,
            open: &record.endpoint.settings,
            secret: secrets.expose(),
        });
        target.map_err(|error| error.to_string())
    }

    /// How fast endpoints of an account are served together. Accounts of our own, which nobody else
    /// can have, are served as fast as they can be.
    fn pace(&self, account: &Arc<str>) -> Option<Arc<AccountPace>> {
        let is_own = account.starts_with(char::is_control);
        let paces = self.paces.as_ref().filter(|_| !is_own);
        paces.and_then(|paces| paces.of(account))
    }

    /// What an endpoint wants. The number of an account may have capitals, a domain in an event has
    /// none.
    fn filter(&self, record: &EndpointRecord) -> Option<Filter> {
        let mut filter = record.matched_filter()?;
        if self.defaults.event_account == EventAccount::Domain {
            let domain = record.account_number.to_lowercase();
            let is_another = domain != record.account_number;
            filter.mail_account = is_another.then(|| domain.into());
        }
        Some(filter)
    }

    /// How it is reached, and what it wants.
    pub(super) fn route(&self, record: &EndpointRecord) -> (Endpoint, Option<Filter>) {
        let concurrency = self.defaults.concurrency.get_usize();
        if let Some(route) = self.configured.route(record, concurrency) {
            return route;
        }
        let id = record.endpoint.id;
        let is_locked = record.secrets.is_err();
        let account = Arc::from(record.account_number.as_str());
        let target = self.target_of(record, &account).unwrap_or_else(|error| {
            if !is_locked {
                tracing::warn!(endpoint.id = %id, error, "an endpoint receives nothing: its settings cannot be used; deliveries are retried");
            }
            Unusable::target(&error)
        });
        let is_hooks = record.endpoint.retry_policy == RetryPolicy::Hooks;
        let flow = &record.endpoint.flow;
        let endpoint = Endpoint {
            is_active: record.endpoint.active,
            // An attempt would fail, and neither the receiver nor the account can help it.
            is_paused: flow.paused || is_locked,
            schedule: match &flow.retry_delays {
                Some(delays) => {
                    let delays = delays
                        .iter()
                        .map(|delay| Duration::from_secs((*delay).into()));
                    Schedule::new(delays.collect(), JITTER_PERCENT)
                }
                None if is_hooks => Schedule::hooks(),
                None => Schedule::default(),
            },
            concurrency,
            rate_limit: flow.rate_limit.or_else(|| target.rate()),
            account_pace: self.pace(&account),
            is_ordered: flow.ordering == DeliveryOrder::Key,
            content: (flow.content != Content::All).then(|| Arc::new(flow.content.clone())),
            fallback: flow.fallback,
            is_switched_off_by_failure: is_hooks,
            saved_ms: record.endpoint.updated_ms,
            ..Endpoint::new(id, account, target)
        };
        (endpoint, self.filter(record))
    }
}

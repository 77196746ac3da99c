//! Endpoints of the store as the workers know them.

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::Endpoint;
use dovecast_dispatch::driver::{Settings, Target};
use dovecast_dispatch::schedule::Schedule;
use dovecast_drivers::Drivers;
use dovecast_drivers::guard::Guard;
use dovecast_notification::Filter;
use dovecast_store::{EndpointRecord, RetryPolicy};

use super::unopened::Unopened;
use crate::config::Dispatch;

/// Jitter of the delays that an endpoint has of its own, in percent: that of the usual ones.
const JITTER_PERCENT: u32 = 20;

/// Makes of what the store knows of an endpoint what the dispatcher delivers to.
pub(crate) struct Routes {
    drivers: Drivers,
    defaults: Dispatch,
}

impl Routes {
    pub(crate) fn new(config: &Dispatch) -> Self {
        let timeout = Duration::from_secs(config.timeout_seconds.get());
        Self {
            drivers: Drivers::new(&Guard::new(&config.allowed_networks), timeout),
            defaults: config.clone(),
        }
    }

    /// What is reached: the endpoint's settings, as its driver takes them.
    pub(super) fn target(&self, record: &EndpointRecord) -> Result<Arc<dyn Target>, String> {
        let driver = self.drivers.get(&record.driver);
        let driver = driver.ok_or_else(|| "its driver is not known".to_owned())?;
        let secrets = match &record.secrets {
            Ok(secrets) => secrets,
            // A key that is missing may come back: what is owed waits for it.
            Err(why) => return Ok(Unopened::target(why)),
        };
        let target = driver.target(&Settings {
            account: &Arc::from(record.account_number.as_str()),
            open: &record.settings,
            secret: secrets.expose(),
        });
        target.map_err(|error| error.to_string())
    }

    /// How it is reached, and what it wants.
    pub(super) fn route(&self, record: &EndpointRecord) -> (Endpoint, Option<Filter>) {
        let id = record.endpoint.id;
        let target = self.target(record);
        let wrong = target.as_ref().err().or(record.secrets.as_ref().err());
        if let Some(error) = wrong {
            tracing::warn!(endpoint.id = %id, %error, "an endpoint receives nothing: its settings cannot be used");
        }
        let is_hooks = record.endpoint.retry_policy == RetryPolicy::Hooks;
        let flow = &record.endpoint.flow;
        let endpoint = Endpoint {
            id,
            account: record.account_number.as_str().into(),
            target,
            is_active: record.endpoint.active,
            is_paused: flow.paused,
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
            concurrency: self.defaults.concurrency.get_usize(),
            rate_limit: flow.rate_limit,
            fallback: flow.fallback,
            is_switched_off_by_failure: is_hooks,
        };
        (endpoint, record.matched_filter())
    }
}

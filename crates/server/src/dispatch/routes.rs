//! Endpoints of the store as the workers know them.

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::Endpoint;
use dovecast_dispatch::driver::{Settings, Target};
use dovecast_dispatch::schedule::Schedule;
use dovecast_drivers::Drivers;
use dovecast_drivers::webhook::Authorization;
use dovecast_notification::filter::{EventType, Level};
use dovecast_notification::{Choice, Condition, EndpointId, Filter};
use dovecast_store::{Credentials, EndpointRecord, FilterRecord, Members, RetryPolicy};

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
}

impl Routes {
    pub(crate) fn new(drivers: &Drivers, config: &Dispatch) -> Self {
        Self {
            drivers: drivers.clone(),
            defaults: config.clone(),
        }
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

    /// How it is reached, and what it wants.
    pub(super) fn route(&self, record: &EndpointRecord) -> (Endpoint, Option<Filter>) {
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
            id,
            account,
            target: Ok(target),
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
            concurrency: self.defaults.concurrency.get_usize(),
            rate_limit: flow.rate_limit,
            fallback: flow.fallback,
            is_switched_off_by_failure: is_hooks,
        };
        (endpoint, filter_of(record))
    }
}

/// As the driver takes it.
pub(crate) fn authorization(credentials: &Credentials) -> Authorization {
    match credentials.clone() {
        Credentials::Basic { username, password } => Authorization::Basic(username, password),
        Credentials::Bearer { token } => Authorization::Bearer(token),
    }
}

/// What an endpoint wants; `None`: nothing.
pub(crate) fn filter_of(record: &EndpointRecord) -> Option<Filter> {
    let endpoint = record.endpoint.id;
    let found = record.filter.as_ref()?;
    Some(read(endpoint, record, found))
}

fn read(endpoint: EndpointId, record: &EndpointRecord, found: &FilterRecord) -> Filter {
    let event_type = |application: &str, name: &str| EventType {
        application: application.into(),
        name: name.into(),
    };
    let mut enabled = found.enabled;
    let condition = found.condition.as_deref().map(Condition::new);
    let condition = match condition.transpose() {
        Ok(condition) => condition.map(Arc::new),
        Err(error) => {
            // It was checked when it was saved; a filter never widens because of what cannot be
            // read.
            tracing::error!(endpoint.id = %endpoint, %error, "the condition of a filter cannot be read; the filter matches nothing");
            enabled = false;
            None
        }
    };
    Filter {
        endpoint,
        account: record.account_number.as_str().into(),
        enabled,
        applications: choice(&found.applications, |name| name.as_str().into()),
        event_types: choice(&found.event_types, |of| {
            event_type(&of.application, &of.event_type)
        }),
        levels: choice(&found.levels, |of| Level {
            event_type: event_type(&of.application, &of.event_type),
            name: of.level.as_str().into(),
        }),
        condition,
    }
}

fn choice<T, U>(members: &Members<T>, of: impl Fn(&T) -> U) -> Choice<U> {
    match members {
        Members::Any => Choice::Any,
        Members::These(list) => Choice::These(list.iter().map(of).collect()),
    }
}

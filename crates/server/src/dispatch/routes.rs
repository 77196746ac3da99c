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
            is_disabled_by_failure: is_hooks,
            saved_ms: record.endpoint.updated_ms,
            ..Endpoint::new(id, account, target)
        };
        let is_by_domain = self.defaults.event_account == EventAccount::Domain;
        (endpoint, record.matched_filter(is_by_domain))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::num::NonZeroU32;

    use dovecast_drivers::DriverOptions;
    use dovecast_drivers::guard::Guard;
    use dovecast_drivers::http::sockets::Sockets;
    use dovecast_drivers::template::Templates;
    use dovecast_drivers::webhook::presets::PRESETS;
    use dovecast_drivers::webhook::{PresetUrls, WebhookDriver};
    use dovecast_store::{
        AccountId, DatabasePlace, DriverSettings, FlowEdit, NewEndpoint, Receiver, SecretSettings,
        Store, StoreOptions,
    };
    use dovecast_testkit::services::{example, service};
    use serde_json::{Value, json};

    use super::*;

    /// A store with an account, and the routes to its endpoints.
    pub(in crate::dispatch) struct World {
        store: Store,
        account: AccountId,
        pub(in crate::dispatch) routes: Routes,
        _dir: tempfile::TempDir,
    }

    impl World {
        pub(in crate::dispatch) async fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let options = StoreOptions::new(DatabasePlace::Sqlite(dir.path().join("store.db")));
            let store = Store::open(&options).await.expect("a store");
            let account = store.account_seen("Example.org").await;
            let account = account.expect("an account").id;
            let at = |name: &str| {
                (
                    name.to_owned(),
                    vec!["http://a.example/".parse().expect("a URL")],
                )
            };
            let drivers = Drivers::new(&DriverOptions {
                guard: Guard::new(&[]),
                sockets: Sockets::new(1),
                timeout: Duration::from_secs(1),
                preset_urls: PRESETS
                    .iter()
                    .map(|preset| at(preset.name))
                    .collect::<PresetUrls>(),
                templates: Templates::Trusted,
                mail: None,
                #[cfg(feature = "kafka")]
                kafka_clusters: Vec::new(),
            });
            Self {
                store,
                account,
                routes: Routes::new(&drivers.expect("drivers"), &Dispatch::default()),
                _dir: dir,
            }
        }

        /// A webhook that has nothing of its own.
        pub(in crate::dispatch) fn webhook(name: &str, url: &str) -> NewEndpoint {
            NewEndpoint {
                name: name.to_owned(),
                receiver: Receiver::Webhook(url.to_owned()),
                active: true,
                server_ca_certificate: None,
                headers: None,
                credentials: None,
                retry_policy: RetryPolicy::default(),
                timeout_seconds: None,
                body: None,
                flow: FlowEdit::default(),
                filter: None,
            }
        }

        /// An endpoint as the store knows it.
        pub(in crate::dispatch) async fn saved(&self, new: NewEndpoint) -> EndpointRecord {
            let made = self.store.create_endpoint(self.account, &new, 100).await;
            let id = made.expect("an endpoint").endpoint.id;
            let mut loaded = self.store.load_endpoints(&[id]).await.expect("a store");
            assert_eq!(loaded.len(), 1, "{loaded:?}");
            loaded.remove(0)
        }
    }

    /// The endpoint of the example of a preset's page, saved with a rate of its own or none.
    fn by_example(preset: &str, rate: Option<NonZeroU32>) -> NewEndpoint {
        let path = service(preset).expect(preset).path;
        let mut endpoint = example(preset, "").expect(preset);
        let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let data = &mut endpoint["data"];
        let secret = json!({
            "parameters": data["parameters"].take(), "authorization": data["authorization"].take(),
        });
        let mut secret = object(&secret);
        secret.retain(|_, value| !value.is_null());
        let flow = FlowEdit {
            rate_limit: Some(rate),
            ..FlowEdit::default()
        };
        NewEndpoint {
            body: Some(DriverSettings {
                driver: WebhookDriver::NAME.to_owned(),
                open: object(&json!({"preset": preset})),
                secret: SecretSettings::new(secret),
            }),
            flow,
            ..World::webhook(
                &format!("{preset} {rate:?}"),
                &format!("http://a.example{path}"),
            )
        }
    }

    #[tokio::test]
    async fn an_endpoint_without_a_rate_has_that_of_its_preset() {
        let world = World::new().await;
        let seven = NonZeroU32::new(7);
        for preset in &PRESETS {
            for (own, expected) in [(None, preset.rate), (seven, seven)] {
                let record = world.saved(by_example(preset.name, own)).await;
                world.routes.target(&record).expect(preset.name);
                let (route, _) = world.routes.route(&record);
                assert_eq!(route.rate_limit, expected, "{}: {own:?}", preset.name);
            }
        }
    }
}

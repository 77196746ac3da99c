//! Receivers as a person names them: the URL of a webhook, or what another driver takes.

use std::fmt;

use serde_json::{Map, Value};

use super::secret_settings::SecretSettings;
use super::settings::{WEBHOOK, debug_url};

/// Receiver of an endpoint, in a request to make or to change it. [`fmt::Debug`] shows neither the
/// user nor the password of a URL.
#[derive(Clone, PartialEq, Eq)]
pub enum Receiver {
    /// URL of a webhook, `http://` or `https://`.
    Webhook(String),
    /// Settings for another driver.
    Driver(DriverSettings),
}

/// Settings for a driver that is not `webhook`. Where they change an endpoint, a key that is not
/// there stays as it was, and one that is null goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverSettings {
    /// Name of the driver; that of an endpoint cannot be changed.
    pub driver: String,
    /// Shown to whoever may see the endpoint.
    pub open: Map<String, Value>,
    /// Never shown.
    pub secret: SecretSettings,
}

impl Receiver {
    /// Name of the driver.
    pub fn driver(&self) -> &str {
        match self {
            Self::Webhook(_) => WEBHOOK,
            Self::Driver(settings) => &settings.driver,
        }
    }

    /// URL of a webhook.
    pub(super) fn url(&self) -> Option<&str> {
        match self {
            Self::Webhook(url) => Some(url),
            Self::Driver(_) => None,
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(url) => f.debug_tuple("Webhook").field(&debug_url(url)).finish(),
            Self::Driver(settings) => f.debug_tuple("Driver").field(settings).finish(),
        }
    }
}

impl DriverSettings {
    /// Puts these settings over those that were there.
    pub fn apply(&self, open: &mut Map<String, Value>, secret: &mut SecretSettings) {
        for (key, value) in &self.open {
            match value {
                Value::Null => drop(open.remove(key)),
                value => drop(open.insert(key.clone(), value.clone())),
            }
        }
        for (key, value) in self.secret.expose() {
            secret.put(key, (!value.is_null()).then(|| value.clone()));
        }
    }
}

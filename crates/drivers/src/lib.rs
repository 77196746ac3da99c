//! Drivers: the code for one kind of destination each.
//!
//! Each implements the port of the dispatcher (`dovecast_dispatch::driver`). Secrets and contents
//! of mails pass through here, so a line of the log names none of them. The exceptions are the
//! operator's: the driver `dlog` writes events into the log, which is what it is for, and what a
//! script logs, prints or fails with is written as it is.

#![forbid(unsafe_code)]

mod by_account;
pub mod configured;
pub mod guard;
pub mod headers;
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
mod log_line;
#[cfg(feature = "lua")]
pub mod lua;
pub mod mail;
pub mod names;
pub mod push;
pub mod signature;
pub mod template;
pub mod tls;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::Driver;

use guard::Guard;
use http::sockets::Sockets;
#[cfg(feature = "kafka")]
use kafka::KafkaDriver;
use mail::MailDriver;
use template::Templates;
use webhook::{PresetUrls, WebhookDriver};

/// How drivers are run, from the configuration.
pub struct DriverOptions {
    /// Decides where requests may go.
    pub guard: Guard,
    /// Longest time of an attempt, where an endpoint does not say another.
    pub timeout: Duration,
    /// What URLs of presets may begin with besides what the services say.
    pub preset_urls: PresetUrls,
    /// Where templates of accounts are rendered.
    pub templates: Templates,
    /// The server of the driver `mail`, if there is one.
    pub mail: Option<mail::MailOptions>,
    /// Places of connections that speak HTTP.
    pub sockets: Sockets,
    /// Clusters of the driver `kafka`.
    #[cfg(feature = "kafka")]
    pub kafka_clusters: Vec<kafka::ClusterOptions>,
}

/// All drivers, by their names; clones are the same.
#[derive(Clone)]
pub struct Drivers {
    all: Arc<[Arc<dyn Driver>]>,
    guard: Guard,
    templates: Templates,
}

/// Why there is no driver of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownDriver {
    /// A driver that this build has not.
    #[error("this dovecast was built without the driver `{0}`")]
    NotBuilt(String),
    /// No driver at all.
    #[error("`{0}` is not a driver of this dovecast")]
    NoDriver(String),
}

/// Why a driver cannot be run as the configuration says. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DriverError(String);

/// Drivers that need a feature of this crate.
const OPTIONAL: [&str; 1] = ["kafka"];

impl FromIterator<Arc<dyn Driver>> for Drivers {
    fn from_iter<T: IntoIterator<Item = Arc<dyn Driver>>>(drivers: T) -> Self {
        Self {
            all: drivers.into_iter().collect(),
            guard: Guard::new(&[]),
            templates: Templates::Refused,
        }
    }
}

impl Drivers {
    /// Makes the drivers.
    pub fn new(options: &DriverOptions) -> Result<Self, DriverError> {
        let webhook = WebhookDriver::new(
            options.guard.clone(),
            options.timeout,
            options.preset_urls.clone(),
            options.sockets.clone(),
            options.templates.clone(),
        );
        let mail = MailDriver::new(options.mail.as_ref(), options.templates.clone());
        Ok(Self {
            all: Arc::new([
                Arc::new(webhook),
                Arc::new(mail.map_err(|error| DriverError(error.to_string()))?),
                #[cfg(feature = "kafka")]
                Arc::new(
                    KafkaDriver::new(&options.kafka_clusters, options.timeout)
                        .map_err(|error| DriverError(error.to_string()))?,
                ),
            ]),
            guard: options.guard.clone(),
            templates: options.templates.clone(),
        })
    }

    /// Decides where requests of drivers that speak HTTP may go.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// How many processes have died of templates of accounts.
    pub fn template_deaths(&self) -> u64 {
        match &self.templates {
            Templates::Hosted(host) => host.died(),
            Templates::Refused | Templates::Trusted => 0,
        }
    }

    /// The driver of this name.
    pub fn get(&self, name: &str) -> Result<&dyn Driver, UnknownDriver> {
        let found = self.all.iter().find(|driver| driver.name() == name);
        let found = found.map(|driver| &**driver);
        found.ok_or_else(|| {
            if OPTIONAL.contains(&name) {
                UnknownDriver::NotBuilt(name.to_owned())
            } else {
                UnknownDriver::NoDriver(name.to_owned())
            }
        })
    }

    /// Ends what drivers have kept open, one after the other.
    pub async fn close(&self) {
        for driver in &*self.all {
            driver.close().await;
        }
    }
}

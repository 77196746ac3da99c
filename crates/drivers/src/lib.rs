//! Drivers: the code for one kind of destination each.
//!
//! Each implements the port of the dispatcher (`dovecast_dispatch::driver`). Nothing here logs:
//! secrets and mail contents pass through.

#![forbid(unsafe_code)]

pub mod guard;
pub mod headers;
pub mod http;
pub mod names;
pub mod signature;
pub mod tls;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::Driver;

use guard::Guard;
use webhook::WebhookDriver;

/// How drivers are run, from the configuration.
pub struct DriverOptions {
    /// Decides where requests may go.
    pub guard: Guard,
    /// Longest time of an attempt, where an endpoint does not say another.
    pub timeout: Duration,
}

/// All drivers, by their names; clones are the same.
#[derive(Clone)]
pub struct Drivers(Arc<[Arc<dyn Driver>]>);

/// Why there is no driver of a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a driver of this dovecast")]
pub struct UnknownDriver(String);

/// Why a driver cannot be run as the configuration says. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DriverError(String);

impl FromIterator<Arc<dyn Driver>> for Drivers {
    fn from_iter<T: IntoIterator<Item = Arc<dyn Driver>>>(drivers: T) -> Self {
        Self(drivers.into_iter().collect())
    }
}

impl Drivers {
    /// Makes the drivers.
    pub fn new(options: &DriverOptions) -> Result<Self, DriverError> {
        let webhook = WebhookDriver::new(options.guard.clone(), options.timeout);
        Ok(Self(Arc::new([Arc::new(webhook)])))
    }

    /// The driver of this name.
    pub fn get(&self, name: &str) -> Result<&dyn Driver, UnknownDriver> {
        let found = self.0.iter().find(|driver| driver.name() == name);
        let found = found.map(|driver| &**driver);
        found.ok_or_else(|| UnknownDriver(name.to_owned()))
    }

    /// Ends what drivers have kept open, one after the other.
    pub async fn close(&self) {
        for driver in &*self.0 {
            driver.close().await;
        }
    }
}

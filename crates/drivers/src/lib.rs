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

/// All drivers, by their names.
#[derive(Clone)]
pub struct Drivers(Arc<[Arc<dyn Driver>]>);

impl Drivers {
    /// `guard`: where requests may go; `timeout`: how long an attempt may take where an endpoint
    /// does not say.
    pub fn new(guard: &Guard, timeout: Duration) -> Self {
        Self(Arc::new([Arc::new(WebhookDriver::new(
            guard.clone(),
            timeout,
        ))]))
    }

    /// The driver of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Driver>> {
        self.0.iter().find(|driver| driver.name() == name)
    }
}

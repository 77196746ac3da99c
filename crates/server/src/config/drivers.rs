//! What drivers have of the configuration.

use std::time::Duration;

use dovecast_drivers::DriverOptions;
use dovecast_drivers::guard::Guard;

use super::Config;

impl Config {
    /// How drivers are run.
    pub(crate) fn driver_options(&self) -> anyhow::Result<DriverOptions> {
        Ok(DriverOptions {
            guard: Guard::new(&self.dispatch.allowed_networks),
            timeout: Duration::from_secs(self.dispatch.timeout_seconds.get()),
            mail: self.mail_options()?,
            account_templates: self.dispatch.account_templates,
            preset_urls: self.presets.urls().clone(),
            #[cfg(feature = "kafka")]
            kafka_clusters: super::clusters::options(&self.kafka_clusters),
        })
    }
}

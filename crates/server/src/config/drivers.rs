//! What drivers have of the configuration.

use std::time::Duration;

use dovecast_drivers::DriverOptions;
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;

use super::Config;
use crate::key_file::KEY_BYTES;

impl Config {
    /// How drivers are run.
    pub(crate) fn driver_options(
        &self,
        sockets: Sockets,
        mail_key: [u8; KEY_BYTES],
    ) -> anyhow::Result<DriverOptions> {
        Ok(DriverOptions {
            sockets,
            guard: Guard::new(&self.dispatch.allowed_networks),
            timeout: Duration::from_secs(self.dispatch.timeout_seconds.get()),
            mail: self.mail_options(mail_key)?,
            account_templates: self.dispatch.account_templates,
            preset_urls: self.presets.urls().clone(),
            #[cfg(feature = "kafka")]
            kafka_clusters: super::clusters::options(&self.kafka_clusters),
        })
    }
}

//! What drivers have of the configuration.

use std::ffi::OsString;
use std::time::Duration;

use dovecast_drivers::DriverOptions;
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::template::Templates;
use dovecast_drivers::template::host::TemplateHost;

use super::Config;
use super::elsewhere::Absent;
use crate::cli::TEMPLATE_HOST;
use crate::key_file::KEY_BYTES;

/// The running program, also after an upgrade has put another file in its place.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

impl Config {
    /// Where templates of accounts are rendered.
    fn templates(&self) -> Templates {
        if self.dispatch.account_templates {
            let command = [OWN_PROGRAM, TEMPLATE_HOST].map(OsString::from);
            Templates::Hosted(TemplateHost::new(command.into()))
        } else {
            Templates::Refused
        }
    }

    /// How drivers are run; what stands in files is read from there.
    pub(crate) fn driver_options(
        &self,
        sockets: Sockets,
        mail_key: [u8; KEY_BYTES],
    ) -> anyhow::Result<DriverOptions> {
        self.driver_options_with(sockets, mail_key, Absent::Refused)
    }

    /// As [`Config::driver_options`].
    pub(super) fn driver_options_with(
        &self,
        sockets: Sockets,
        mail_key: [u8; KEY_BYTES],
        absent: Absent,
    ) -> anyhow::Result<DriverOptions> {
        Ok(DriverOptions {
            sockets,
            guard: Guard::new(&self.dispatch.allowed_networks),
            timeout: Duration::from_secs(self.dispatch.timeout_seconds.get()),
            mail: self.mail_options(mail_key, absent)?,
            templates: self.templates(),
            preset_urls: self.presets.urls().clone(),
            #[cfg(feature = "kafka")]
            kafka_clusters: super::clusters::options(&self.kafka_clusters, absent)?,
        })
    }
}

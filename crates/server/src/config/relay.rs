//! `[relay]`: who may send what, and within which bounds.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use dovecast_relay::server::{RelayOptions, UserNames};
use serde::Deserialize;

use super::{Allowed, Bounded, Config, users};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Relay {
    #[serde(deserialize_with = "super::paths::socket")]
    pub(super) socket: Option<PathBuf>,
    #[serde(deserialize_with = "super::paths::optional")]
    pub(super) spill_dir: Option<PathBuf>,
    pub(crate) allow: Vec<Allowed>,
    #[serde(deserialize_with = "super::topics::optional")]
    pub(super) topics: Option<Vec<String>>,
    pub(crate) bind_user: bool,
    pub(crate) max_clients: Bounded<1, 1_000_000>,
    pub(crate) spill_interval_seconds: Bounded<1, 3600>,
    pub(crate) max_client_kb: Bounded<64, 65_536>,
    pub(crate) commit_interval_ms: Bounded<0, 100>,
    pub(crate) hello_timeout_seconds: Bounded<1, 3600>,
    pub(crate) unread_timeout_seconds: Bounded<1, 3600>,
}

impl Default for Relay {
    fn default() -> Self {
        Self {
            socket: None,
            spill_dir: None,
            allow: ["root", "vmail"].map(Allowed::name).to_vec(),
            topics: None,
            bind_user: false,
            max_clients: Bounded::new(20_000),
            spill_interval_seconds: Bounded::new(5),
            max_client_kb: Bounded::new(256),
            commit_interval_ms: Bounded::new(2),
            hello_timeout_seconds: Bounded::new(5),
            unread_timeout_seconds: Bounded::new(30),
        }
    }
}

impl Config {
    /// How the relay takes records in.
    pub(crate) fn relay_options(&self) -> Result<RelayOptions> {
        Ok(RelayOptions {
            allow: self.relay.allowed_uids()?,
            topics: self.relay_topics(),
            bind_user: self.relay.bind_user.then(|| UserNames::new(users::name_of)),
            max_clients: self.relay.max_clients.get_usize(),
            spill_dir: self.spill_dir(),
            spill_interval: Duration::from_secs(self.relay.spill_interval_seconds.get()),
            max_client_bytes: self.relay.max_client_kb.get_usize() * 1024,
            user_rate: self.quota.relay(),
            user_burst: self.quota.burst(),
            hello_time: Duration::from_secs(self.relay.hello_timeout_seconds.get()),
            unread_time: Duration::from_secs(self.relay.unread_timeout_seconds.get()),
            commit_interval: Duration::from_millis(self.relay.commit_interval_ms.get()),
        })
    }
}

impl Relay {
    /// The user ids of `allow`.
    pub(crate) fn allowed_uids(&self) -> Result<Vec<RangeInclusive<u32>>> {
        let ids: Result<Vec<_>> = self.allow.iter().map(Allowed::ids).collect();
        Ok(ids?.into_iter().flatten().collect())
    }

    /// What of `allow` this host does not know.
    pub(crate) fn unknown_users(&self) -> Result<Vec<String>> {
        let mut unknown = Vec::new();
        for entry in &self.allow {
            if entry.ids()?.is_none() {
                unknown.push(entry.to_string());
            }
        }
        Ok(unknown)
    }
}

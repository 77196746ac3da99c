//! What the transport `relay` needs: a relay that answers, a spill directory that mail processes
//! may write to.

use std::os::unix::net::UnixStream;

use crate::Finding;
use crate::cluster::{is_allowed, our_settings};
use crate::configuration::Section;
use crate::installation::Installation;

const DEFAULT_SOCKET: &str = "/run/dovecast/relay.sock";
const DEFAULT_SPILL_DIR: &str = "/var/lib/dovecast/spill";

/// Which transports the configuration names.
pub(crate) struct Transports {
    pub(crate) relay: bool,
    pub(crate) kafka: bool,
}

impl Transports {
    /// Without a word about it the transport is `kafka`; who names only `relay` has no other.
    pub(crate) fn of(configuration: &Section) -> Self {
        let all: Vec<String> = our_settings(configuration)
            .into_iter()
            .filter(|(name, _)| name == "transport")
            .map(|(_, value)| value.to_ascii_lowercase())
            .collect();
        Self {
            relay: all.iter().any(|transport| transport == "relay"),
            kafka: all.is_empty() || all.iter().any(|transport| transport == "kafka"),
        }
    }
}

/// Does the relay answer, and can be spilled while it does not?
pub(crate) fn relay(
    installation: &Installation,
    configuration: &Section,
    findings: &mut Vec<Finding>,
) {
    for socket in values(configuration, "relay_socket", DEFAULT_SOCKET) {
        if let Err(error) = UnixStream::connect(installation.path(&socket)) {
            findings.push(Finding::problem(format!(
                "no relay answers at `{socket}`: {error}; is `dovecast serve` running?"
            )));
        }
    }
    let uid = configuration
        .get("mail_uid")
        .and_then(|uid| uid.parse::<u32>().ok());
    for dir in values(configuration, "relay_spill_dir", DEFAULT_SPILL_DIR) {
        let seen = installation.path(&dir);
        if !seen.is_dir() {
            findings.push(Finding::problem(format!(
                "the spill directory `{dir}` is not there: events are lost while the relay is away; `dovecast serve` makes it"
            )));
        } else if let Some(uid) = uid.filter(|uid| !is_allowed(*uid, "-w", &seen)) {
            findings.push(Finding::problem(format!(
                "the spill directory `{dir}` is not writable by mail_uid {uid}, and mail processes write to it as that user"
            )));
        }
    }
}

/// Every value of a setting, or its default.
fn values(configuration: &Section, name: &str, default: &str) -> Vec<String> {
    let mut values: Vec<String> = our_settings(configuration)
        .into_iter()
        .filter(|(known, _)| known == name)
        .map(|(_, value)| value)
        .collect();
    values.sort();
    values.dedup();
    if values.is_empty() {
        values.push(default.to_owned());
    }
    values
}

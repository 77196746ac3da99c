//! What the transport `relay` needs: a relay that answers, a spill directory that mail processes
//! may write to.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;

use dovecast_options::TransportKind;

use crate::cluster::{is_allowed, our_settings};
use crate::configuration::Section;
use crate::installation::Installation;
use crate::instances::Instance;
use crate::{Finding, MailUser};

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

/// Topics of the driver instances that send to a relay.
pub(crate) fn topics(instances: &[Instance]) -> Vec<String> {
    let relayed = instances.iter();
    let relayed = relayed.filter(|instance| instance.settings.transport == TransportKind::Relay);
    let topics: BTreeSet<&String> = relayed.map(|instance| &instance.options.topic).collect();
    topics.into_iter().cloned().collect()
}

/// Does the relay answer, do mail processes get to it, and can they spill while it does not?
pub(crate) fn relay(
    installation: &Installation,
    configuration: &Section,
    users: &[MailUser],
    findings: &mut Vec<Finding>,
) {
    for socket in values(configuration, "relay_socket", DEFAULT_SOCKET) {
        let seen = installation.path(&socket);
        if let Err(error) = UnixStream::connect(&seen) {
            findings.push(Finding::problem(format!(
                "no relay answers at `{socket}`: {error}; is `dovecast serve` running?"
            )));
        } else {
            findings.extend(users.iter().filter_map(|user| unreachable(user, &seen)));
        }
    }
    for dir in values(configuration, "relay_spill_dir", DEFAULT_SPILL_DIR) {
        let seen = installation.path(&dir);
        if !seen.is_dir() {
            findings.push(Finding::problem(format!(
                "the spill directory `{dir}` is not there: events are lost while the relay is away; `dovecast serve` makes it"
            )));
            continue;
        }
        for user in users {
            if let Some(finding) = unreachable(user, &seen) {
                findings.push(finding);
            } else if !is_allowed(user.uid, "-w", &seen) {
                findings.push(Finding::problem(format!(
                    "the spill directory `{dir}` is not writable by user id {} ({}), and mail processes write to it as that user",
                    user.uid, user.source
                )));
            }
        }
    }
}

/// Says which directory keeps a user from a path.
fn unreachable(user: &MailUser, path: &Path) -> Option<Finding> {
    let MailUser { uid, source } = user;
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let wall = above.into_iter().find(|dir| !is_allowed(*uid, "-x", dir))?;
    let (wall, path) = (wall.display(), path.display());
    Some(Finding::problem(format!(
        "mail processes run as user id {uid} ({source}), and do not get to `{path}`: `{wall}` lets that user not through. \
         Allow it (`chmod o+x {wall}`), or have dovecast put it elsewhere (`data_dir`, `socket` and `spill_dir` of [relay])"
    )))
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

//! Open files: as many as the system lets this process have, and what of them is for what.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Role};

/// Descriptors that are asked for where the system allows so many: several times what the largest
/// bounds together come to. Tables of the kernel grow with the ones that are used.
const OPEN_FILES_WANTED: u64 = 262_144;
/// Part of the descriptors that connections to endpoints take at most: one in so many.
const OUTGOING_SHARE: u64 = 2;
/// Part of the descriptors that listeners have at least: one in so many.
const LISTENERS_SHARE: u64 = 4;
/// Descriptors of what is bounded by nothing else: the log and the store, sockets that are listened
/// on, readers.
const OTHERS: u64 = 200;

/// Raises the limit of open files to what is allowed, and returns it. Many systems set a low one
/// that old programs need, and a process raises by itself (systemd's `DefaultLimitNOFILESoft`).
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (now, most) = (
        limit.current.unwrap_or(OPEN_FILES_WANTED),
        limit.maximum.unwrap_or(OPEN_FILES_WANTED),
    );
    let wanted = most.min(OPEN_FILES_WANTED);
    if now >= wanted {
        return now;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, open_files = now, "the limit of open files cannot be raised");
            now
        }
    }
}

/// Most connections to endpoints: what the configuration says, or what of the open files there is
/// for them. Warns where everything together may need more open files than there may be.
pub(super) fn outgoing(config: &Config, open_files: u64) -> usize {
    let wanted = config.dispatch.max_connections.get();
    let outgoing = to_endpoints(config, open_files);
    let needed = needed(config, open_files);
    if config.has(Role::Dispatch) && outgoing < wanted {
        tracing::warn!(
            open_files,
            max_connections = wanted,
            connections = outgoing,
            "there are fewer connections to endpoints than `max_connections` of [dispatch] says: this process may not open more files"
        );
    }
    if needed > open_files {
        tracing::warn!(
            open_files,
            needed,
            "this process may not open as many files as its configuration allows connections: raise the limit (LimitNOFILE= of systemd)"
        );
    }
    usize::try_from(outgoing).unwrap_or(usize::MAX)
}

/// Most connections that listen to mailboxes: what all others leave, or a part of all where those
/// may take everything.
pub(crate) fn for_listeners(config: &Config) -> usize {
    let open_files = getrlimit(Resource::Nofile).current;
    let open_files = open_files.unwrap_or(OPEN_FILES_WANTED);
    let left = open_files.saturating_sub(needed(config, open_files));
    let left = left.max(open_files / LISTENERS_SHARE);
    usize::try_from(left).unwrap_or(usize::MAX)
}

fn to_endpoints(config: &Config, open_files: u64) -> u64 {
    let wanted = config.dispatch.max_connections.get();
    wanted.min((open_files / OUTGOING_SHARE).max(1))
}

/// Open files of all that the configuration bounds.
fn needed(config: &Config, open_files: u64) -> u64 {
    let mut needed = OTHERS + config.http.max_connections.get();
    if config.has(Role::Relay) {
        needed += config.relay.max_clients.get();
    }
    if config.has(Role::Dispatch) {
        needed += to_endpoints(config, open_files) + config.mail_push.max_streams_total.get();
    }
    needed
}

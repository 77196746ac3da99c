//! Open files: as many as the system lets this process have, and what of them is for what.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Role};

/// Descriptors that are asked for where the system allows so many: several times what the largest
/// bounds together come to. Tables of the kernel grow with the ones that are used.
const OPEN_FILES_WANTED: u64 = 262_144;
/// Part of the descriptors that connections to endpoints take at most: one in so many.
const OUTGOING_SHARE: u64 = 2;
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
    let outgoing = wanted.min((open_files / OUTGOING_SHARE).max(1));
    let mut needed = OTHERS + config.http.max_connections.get();
    if config.has(Role::Relay) {
        needed += config.relay.max_clients.get();
    }
    if config.has(Role::Dispatch) {
        needed += outgoing + config.mail_push.max_streams_total.get();
        if outgoing < wanted {
            tracing::warn!(
                open_files,
                max_connections = wanted,
                connections = outgoing,
                "there are fewer connections to endpoints than `max_connections` of [dispatch] says: this process may not open more files"
            );
        }
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

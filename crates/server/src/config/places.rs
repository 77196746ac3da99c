//! Where the server listens: each door at a place of its own, and no path longer than a socket's.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};

use super::{Config, Role, paths};

/// Which doors systemd has opened already: what the configuration says of their places is not used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opened {
    pub(crate) relay: bool,
    pub(crate) http: bool,
    pub(crate) monitor: bool,
}

impl Config {
    /// Refuses places at which nothing could listen. Opens nothing.
    pub(crate) fn check_places(&self, opened: Opened) -> Result<()> {
        let control = self.control_socket();
        paths::check_socket(&control, "[control] socket")?;
        if self.has(Role::Relay) && !opened.relay {
            let relay = self.relay_socket();
            paths::check_socket(&relay, "[relay] socket")?;
            ensure!(
                control != relay,
                "[control] socket and [relay] socket are both `{}`: each needs a path of its own",
                relay.display()
            );
        }
        let (listen, monitor) = (self.http.listen, self.http.monitor_listen());
        ensure!(
            opened.http || opened.monitor || !is_taken(listen, monitor),
            "[http] listen is `{listen}`, and [http] monitor_listen is `{monitor}`: each needs a port of its own"
        );
        Ok(())
    }
}

/// Whether who listens on one address leaves nothing of the other.
fn is_taken(one: SocketAddr, other: SocketAddr) -> bool {
    // Connections of IPv4 come to `[::]`, too.
    let covers = |all: IpAddr, of: IpAddr| all.is_unspecified() && (all.is_ipv6() || of.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    let is_chosen = one.port() != 0;
    is_chosen && one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_doors_at_one_place_and_paths_that_are_too_long_are_refused() {
        let long = format!("/{}", "d".repeat(119));
        let long = format!("data_dir = '{long}'\n[control]\nsocket = '/run/c.sock'");
        let same = "[control]\nsocket = '/run/a.sock'\n[relay]\nsocket = '/run/a.sock'";
        let http = |listen: &str, monitor: &str| {
            format!("[http]\nlisten = '{listen}'\nmonitor_listen = '{monitor}'")
        };
        let relay = Opened {
            relay: true,
            ..Opened::default()
        };
        let web = Opened {
            http: true,
            ..Opened::default()
        };
        let none = Opened::default();
        for (text, opened, expected) in [
            ("", none, None),
            (&long, none, Some("set [relay] socket")),
            (&long, relay, None),
            (
                same,
                none,
                Some("[control] socket and [relay] socket are both `/run/a.sock`"),
            ),
            (same, relay, None),
            (&format!("roles = ['dispatch']\n{same}"), none, None),
            (
                &http("127.0.0.1:87", "127.0.0.1:87"),
                none,
                Some("each needs a port of its own"),
            ),
            (
                &http("0.0.0.0:87", "127.0.0.1:87"),
                none,
                Some("each needs a port of its own"),
            ),
            (
                &http("127.0.0.1:87", "[::]:87"),
                none,
                Some("each needs a port of its own"),
            ),
            (&http("127.0.0.1:87", "127.0.0.1:87"), web, None),
            (&http("0.0.0.0:87", "[::1]:87"), none, None),
            (&http("127.0.0.1:0", "127.0.0.1:0"), none, None),
            (&http("127.0.0.1:87", "127.0.0.2:87"), none, None),
        ] {
            let config = Config::parse(text).expect(text);
            let refused = config
                .check_places(opened)
                .err()
                .map(|error| error.to_string());
            match expected {
                None => assert_eq!(refused, None, "{text}"),
                Some(expected) => {
                    let refused = refused.expect(text);
                    assert!(refused.contains(expected), "{text}: {refused}");
                }
            }
        }
    }
}

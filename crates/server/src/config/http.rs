//! `[http]`: where HTTP is answered, and who is believed there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::limits::Bounded;

/// What is answered beside the API.
const OTHERS: [&str; 7] = [
    "/healthz",
    "/metrics",
    "/readyz",
    crate::sources::ox::PATH,
    super::mail_push::PREFIX,
    crate::push::page::PATH,
    "/socket.io",
];
/// What is answered below these paths is not the API either.
const TREES: [&str; 3] = ["/api/push/v1/", "/push/", "/socket.io/"];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Http {
    #[serde(deserialize_with = "address")]
    pub(crate) listen: SocketAddr,
    /// Where health and metrics are answered; see [`Http::monitor_listen`].
    #[serde(deserialize_with = "monitor_address")]
    monitor_listen: Option<SocketAddr>,
    #[serde(deserialize_with = "prefix")]
    pub(crate) api_prefix: String,
    #[serde(deserialize_with = "networks")]
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Most endpoints of one account.
    pub(crate) max_endpoints: Bounded<1, 1_000_000>,
    /// Most notifications of one array.
    pub(crate) max_messages: Bounded<1, 100_000>,
    /// Longest body with an array of notifications.
    pub(crate) max_messages_bytes: Bounded<1_048_576, 268_435_456>,
    pub(crate) max_connections: Bounded<10, 100_000>,
    /// Most connections from one address; 0: no bound besides that of all.
    pub(crate) max_connections_per_address: Bounded<0, 100_000>,
    /// Longest time for the head of a request, from its first byte or from the connection.
    pub(crate) header_timeout_seconds: Bounded<1, 3600>,
    /// Longest time between two requests of a connection.
    pub(crate) idle_timeout_seconds: Bounded<1, 3600>,
    pub(crate) request_timeout_seconds: Bounded<1, 3600>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8087).into(),
            monitor_listen: None,
            api_prefix: "/api/hooks".to_owned(),
            trusted_proxies: Vec::new(),
            max_endpoints: Bounded::new(1000),
            max_messages: Bounded::new(10_000),
            max_messages_bytes: Bounded::new(16 * 1024 * 1024),
            max_connections: Bounded::new(1000),
            max_connections_per_address: Bounded::new(200),
            header_timeout_seconds: Bounded::new(5),
            idle_timeout_seconds: Bounded::new(75),
            request_timeout_seconds: Bounded::new(60),
        }
    }
}

impl Http {
    /// Where health and metrics are answered: on the loopback address and the port after that of
    /// `listen` unless it is set, so that two servers of one host do not meet there.
    pub(crate) fn monitor_listen(&self) -> SocketAddr {
        let port = match self.listen.port() {
            0 => 0,
            port => port.checked_add(1).unwrap_or(port - 1),
        };
        let beside = || (Ipv4Addr::LOCALHOST, port).into();
        self.monitor_listen.unwrap_or_else(beside)
    }
}

fn monitor_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        de::Error::custom(format!(
            "`{text}` is not an address to listen on, expected one such as `127.0.0.1:8087` or `[::1]:8087`"
        ))
    })
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_segment = |segment: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        // Clients resolve the dots before they ask.
        let is_step = matches!(segment, "." | "..");
        !segment.is_empty() && !is_step && segment.chars().all(allowed)
    };
    let segments = text.strip_prefix('/');
    let is_prefix = segments.is_some_and(|segments| segments.split('/').all(is_segment))
        && !OTHERS.contains(&&*text)
        && !TREES.iter().any(|tree| text.starts_with(tree));
    if is_prefix {
        Ok(text)
    } else {
        Err(de::Error::custom(format!(
            "`{text}` is not a prefix of paths, expected one such as `/api/hooks`"
        )))
    }
}

pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts: Vec<String> = Vec::deserialize(deserializer)?;
    let networks = texts.iter().map(|text| {
        let network = text.parse::<IpNet>().ok();
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        network.or_else(address).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is not an address or network, expected one such as `127.0.0.1` or `10.1.0.0/16`"
            ))
        })
    });
    networks.collect()
}

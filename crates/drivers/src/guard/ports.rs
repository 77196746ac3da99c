//! Ports at which nothing listens that takes webhooks, but much that does what it is told.

/// What browsers send no requests to, above 1023 (WHATWG Fetch, section 2.9: "bad port").
const OF_BROWSERS: [u16; 19] = [
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669,
    6679, 6697, 10080,
];
/// What does as anybody says by default: Docker, Redis, Elasticsearch, memcached.
const OF_OPEN_SERVICES: [u16; 6] = [2375, 2376, 6379, 9200, 9300, 11211];

/// Whether endpoints may be at this port, where the configuration does not name it.
pub(super) fn is_usual(port: u16) -> bool {
    match port {
        80 | 443 => true,
        0..=1023 => false,
        _ => !OF_BROWSERS.contains(&port) && !OF_OPEN_SERVICES.contains(&port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_other_services_are_not_usual() {
        for (port, expected) in [
            (80, true),
            (443, true),
            (1024, true),
            (8080, true),
            (8443, true),
            (65535, true),
            (0, false),
            (22, false),
            (25, false),
            (81, false),
            (993, false),
            (1023, false),
            (2375, false),
            (6379, false),
            (6667, false),
            (9200, false),
            (10080, false),
        ] {
            assert_eq!(is_usual(port), expected, "{port}");
        }
    }
}

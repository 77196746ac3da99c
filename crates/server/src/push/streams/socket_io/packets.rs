//! Packets of Engine.IO 3 and 4, and of Socket.IO in them. Pure: texts in, texts out.

use std::time::Duration;

use serde_json::json;

use super::{PING_TIMEOUT, Version};

/// Divides packets of a payload of Engine.IO 4.
const SEPARATOR: char = '\u{1e}';

pub(super) const PING: &str = "2";
pub(super) const NOOP: &str = "6";
/// The client is connected to the default name space, in Engine.IO 3.
pub(super) const CONNECTED: &str = "40";

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The client closes the connection, or leaves the name space.
    Close,
    /// A ping, with what is to be said again.
    Ping(String),
    /// The client wants to be told.
    Connect,
    /// Whatever else, which means nothing here.
    Nothing,
}

/// The first packet of a connection.
pub(super) fn open(version: Version, sid: &str, ping: Duration) -> String {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut data = json!({
        "sid": sid, "upgrades": [], "pingInterval": millis(ping), "pingTimeout": millis(PING_TIMEOUT),
    });
    if version == Version::Four {
        data["maxPayload"] = json!(super::MAX_BODY_BYTES);
    }
    format!("0{data}")
}

/// The answer to [`Said::Connect`].
pub(super) fn connected(version: Version, sid: &str) -> String {
    match version {
        Version::Three => CONNECTED.to_owned(),
        Version::Four => format!("{CONNECTED}{}", json!({ "sid": sid })),
    }
}

/// What a packet of a client says.
pub(super) fn said(packet: &str) -> Said {
    match (packet.get(..1), packet.get(1..2)) {
        (Some("1"), _) | (Some("4"), Some("1")) => Said::Close,
        (Some("2"), _) => Said::Ping(packet[1..].chars().take(20).collect()),
        // Another name space begins with a slash; there is none.
        (Some("4"), Some("0")) if packet.get(2..3) != Some("/") => Said::Connect,
        _ => Said::Nothing,
    }
}

/// Packets as one payload.
pub(super) fn join(version: Version, packets: &[String]) -> String {
    match version {
        Version::Four => packets.join(&SEPARATOR.to_string()),
        Version::Three => {
            // Lengths are those of texts of JavaScript.
            let framed = |packet: &String| format!("{}:{packet}", packet.encode_utf16().count());
            packets.iter().map(framed).collect()
        }
    }
}

/// The packets of a payload; `None`: it is none.
pub(super) fn split(version: Version, payload: &str) -> Option<Vec<&str>> {
    if version == Version::Four {
        return Some(payload.split(SEPARATOR).collect());
    }
    let mut packets = Vec::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let (length, after) = rest.split_once(':')?;
        let mut units: usize = length.parse().ok()?;
        let mut end = 0;
        for character in after.chars() {
            if units == 0 {
                break;
            }
            units = units.checked_sub(character.len_utf16())?;
            end += character.len_utf8();
        }
        if units > 0 {
            return None;
        }
        packets.push(&after[..end]);
        rest = &after[end..];
    }
    Some(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_read_as_they_were_written() {
        let packets = ["0{}", "42[\"x\",\"ä🐦\"]", "2"].map(ToOwned::to_owned);
        for version in [Version::Three, Version::Four] {
            let payload = join(version, &packets);
            let read = split(version, &payload).expect("packets");
            assert_eq!(read, packets, "{payload}");
        }
        assert_eq!(join(Version::Three, &packets[..1]), "3:0{}");
        for bad in ["3", "x:2", "9:2", "1:🐦", ":", "-1:2"] {
            assert_eq!(split(Version::Three, bad), None, "{bad}");
        }
    }

    #[test]
    fn what_means_nothing_is_passed_over() {
        for (packet, expected) in [
            ("1", Said::Close),
            ("41", Said::Close),
            ("2probe", Said::Ping("probe".to_owned())),
            ("40", Said::Connect),
            ("40{\"token\":1}", Said::Connect),
            ("40/other,", Said::Nothing),
            ("3", Said::Nothing),
            ("42[\"x\"]", Said::Nothing),
            ("", Said::Nothing),
            ("🐦", Said::Nothing),
        ] {
            assert_eq!(said(packet), expected, "{packet}");
        }
    }

    #[test]
    fn the_first_packet_says_that_nothing_is_upgraded() {
        let packet = open(Version::Three, "s", Duration::from_secs(25));
        assert_eq!(
            packet,
            r#"0{"pingInterval":25000,"pingTimeout":5000,"sid":"s","upgrades":[]}"#
        );
    }
}

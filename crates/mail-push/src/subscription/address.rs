//! Addresses of devices, by transport: what is secret of a subscription.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// What brings pushes to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// Web Push (RFC 8030), UnifiedPush included.
    WebPush,
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple's push service.
    Apns,
    /// A webhook in the form of Open-Xchange.
    Webhook,
}

/// Where a device is reached. [`fmt::Debug`] shows the transport alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceAddress {
    /// A resource of a Web Push service, with the keys of RFC 8291 in base64url.
    WebPush {
        /// Where pushes are posted to.
        endpoint: String,
        /// Public key of the browser, an uncompressed point of P-256.
        p256dh: String,
        /// Authentication secret, 16 bytes.
        auth: String,
    },
    /// A registration token of FCM.
    Fcm {
        /// The token.
        token: String,
    },
    /// A device token of APNs.
    Apns {
        /// The token.
        token: String,
    },
    /// A webhook.
    Webhook {
        /// Where pushes are posted to.
        url: String,
        /// What they are signed with.
        signing_secret: String,
    },
}

impl TransportKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WebPush, Self::Fcm, Self::Apns, Self::Webhook];

    /// Name of the transport in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebPush => "webpush",
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::Webhook => "webhook",
        }
    }

    /// What the name stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the address is a token that belongs to one person at a time. A webhook's URL is
    /// none: several persons may have the same.
    pub const fn has_token(self) -> bool {
        !matches!(self, Self::Webhook)
    }
}

impl DeviceAddress {
    /// What brings pushes there.
    pub const fn kind(&self) -> TransportKind {
        match self {
            Self::WebPush { .. } => TransportKind::WebPush,
            Self::Fcm { .. } => TransportKind::Fcm,
            Self::Apns { .. } => TransportKind::Apns,
            Self::Webhook { .. } => TransportKind::Webhook,
        }
    }

    /// What the device is known by: an end-point, a token or a URL.
    pub fn token(&self) -> &str {
        match self {
            Self::WebPush { endpoint: text, .. }
            | Self::Fcm { token: text }
            | Self::Apns { token: text }
            | Self::Webhook { url: text, .. } => text,
        }
    }

    /// Whose queue pushes of the device are in: scheme, host and port of its service, or the name
    /// of the transport where one service has all devices.
    pub fn lane(&self) -> String {
        let kind = self.kind();
        match self {
            Self::WebPush { endpoint: url, .. } | Self::Webhook { url, .. } => origin(url),
            Self::Fcm { .. } | Self::Apns { .. } => None,
        }
        .unwrap_or_else(|| kind.name().to_owned())
    }

    /// The end of the token, to tell devices apart.
    pub fn last_four(&self) -> String {
        let token = self.token();
        // What is short is not shown whole.
        let shown = token.chars().count().saturating_sub(1).min(4);
        let start = token.char_indices().rev().take(shown).last();
        start.map_or(String::new(), |(at, _)| token[at..].to_owned())
    }
}

/// Scheme, host and port of a URL, in one spelling; what is none was refused before.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let place = authority
        .rsplit_once('@')
        .map_or(authority, |(_, place)| place);
    let (scheme, place) = (scheme.to_ascii_lowercase(), place.to_ascii_lowercase());
    let usual = if scheme == "http" { ":80" } else { ":443" };
    let place = place.strip_suffix(usual).unwrap_or(&place);
    Some(format!("{scheme}://{place}"))
}

impl Drop for DeviceAddress {
    fn drop(&mut self) {
        match self {
            Self::WebPush {
                endpoint,
                p256dh,
                auth,
            } => {
                endpoint.zeroize();
                p256dh.zeroize();
                auth.zeroize();
            }
            Self::Fcm { token } | Self::Apns { token } => token.zeroize(),
            Self::Webhook {
                url,
                signing_secret,
            } => {
                url.zeroize();
                signing_secret.zeroize();
            }
        }
    }
}

impl fmt::Debug for DeviceAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "DeviceAddress({})", self.kind().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_its_end_only() {
        for (token, expected) in [
            ("abcdefgh", "efgh"),
            ("abc", "bc"),
            ("a", ""),
            ("äöüß€", "öüß€"),
        ] {
            let address = DeviceAddress::Fcm {
                token: token.to_owned(),
            };
            assert_eq!(address.last_four(), expected);
            assert_eq!(format!("{address:?}"), "DeviceAddress(fcm)");
        }
    }
}

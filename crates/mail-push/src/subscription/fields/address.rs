//! Addresses of devices in requests: tokens, end-points with their keys, URLs.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use url::Url;

use super::Reading;
use crate::subscription::{DeviceAddress, TransportKind};

/// Longest end-point, token or URL, in bytes: those of all services are shorter by far.
const MAX_TOKEN_BYTES: usize = 2048;
/// Bytes of an uncompressed point of P-256, and the byte it begins with (RFC 8291 section 3.1).
const POINT_BYTES: usize = 65;
const UNCOMPRESSED: u8 = 4;
/// Bytes of the authentication secret (RFC 8291 section 3.2).
const AUTH_BYTES: usize = 16;

impl Reading {
    /// The address below the name of its transport; what stands below another's name is refused.
    pub(super) fn address(
        &mut self,
        body: &Map<String, Value>,
        transport: Option<TransportKind>,
        is_new: bool,
    ) -> Option<DeviceAddress> {
        let given: Vec<TransportKind> = TransportKind::ALL
            .into_iter()
            .filter(|kind| body.contains_key(kind.name()))
            .collect();
        let kind = match (transport, &*given) {
            (Some(transport), _) => transport,
            (None, [kind]) if !is_new => *kind,
            _ => return None,
        };
        for other in given.iter().filter(|other| **other != kind) {
            let detail = format!("does not go with the transport `{}`", kind.name());
            self.refuse(&format!("/{}", other.name()), detail);
        }
        let pointer = format!("/{}", kind.name());
        let Some(value) = body.get(kind.name()) else {
            if is_new {
                self.refuse(&pointer, "is missing");
            }
            return None;
        };
        if !value.is_object() {
            self.refuse(&pointer, "is not an object");
            return None;
        }
        match kind {
            TransportKind::WebPush => self.web_push(value),
            TransportKind::Fcm => Some(DeviceAddress::Fcm {
                token: self.token(value, &pointer)?,
            }),
            TransportKind::Apns => {
                let token = self.token(value, &pointer)?;
                if !token.len().is_multiple_of(2) || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
                    self.refuse(&format!("{pointer}/token"), "is not hexadecimal");
                }
                // Letters of either case are the same device.
                Some(DeviceAddress::Apns {
                    token: token.to_lowercase(),
                })
            }
            TransportKind::Webhook => Some(DeviceAddress::Webhook {
                url: self.url(value, "/webhook", "url")?,
                signing_secret: String::new(),
            }),
        }
    }

    fn web_push(&mut self, value: &Value) -> Option<DeviceAddress> {
        let endpoint = self.url(value, "/webpush", "endpoint");
        let keys = value.get("keys").unwrap_or(&Value::Null);
        let p256dh = self.field(keys, "/webpush/keys", "p256dh");
        let auth = self.field(keys, "/webpush/keys", "auth");
        if let Some(key) = &p256dh {
            let is_point =
                bytes_of(key).is_some_and(|key| key.len() == POINT_BYTES && key[0] == UNCOMPRESSED);
            if !is_point {
                self.refuse(
                    "/webpush/keys/p256dh",
                    "is not an uncompressed point of P-256 in base64url",
                );
            }
        }
        if let Some(key) = &auth
            && bytes_of(key).is_none_or(|key| key.len() != AUTH_BYTES)
        {
            self.refuse("/webpush/keys/auth", "is not 16 bytes in base64url");
        }
        Some(DeviceAddress::WebPush {
            endpoint: endpoint?,
            p256dh: p256dh?,
            auth: auth?,
        })
    }

    fn url(&mut self, value: &Value, below: &str, name: &str) -> Option<String> {
        let text = self.field(value, below, name)?;
        let pointer = format!("{below}/{name}");
        match Url::parse(&text) {
            Ok(url) if !url.has_host() => self.refuse(&pointer, "has no host"),
            // Whether `http` will do depends on the address: the transport looks at it.
            Ok(url) if matches!(url.scheme(), "https" | "http") => {}
            Ok(_) => self.refuse(&pointer, "does not begin with `https://` or `http://`"),
            Err(error) => self.refuse(&pointer, format!("is not a URL: {error}")),
        }
        Some(text)
    }

    fn token(&mut self, value: &Value, below: &str) -> Option<String> {
        self.field(value, below, "token")
    }

    fn field(&mut self, value: &Value, below: &str, name: &str) -> Option<String> {
        let pointer = format!("{below}/{name}");
        let Some(value) = value.get(name) else {
            self.refuse(&pointer, "is missing");
            return None;
        };
        let text = self.text(&pointer, value)?;
        if text.is_empty() {
            self.refuse(&pointer, "is empty");
        } else if text.len() > MAX_TOKEN_BYTES {
            self.refuse(&pointer, format!("is longer than {MAX_TOKEN_BYTES} bytes"));
        } else if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            self.refuse(&pointer, "has blanks or control characters in it");
        }
        Some(text.to_owned())
    }
}

/// Bytes in base64url, with or without padding.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

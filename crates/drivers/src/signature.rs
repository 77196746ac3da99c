//! Signatures as the Standard Webhooks specification has them (symmetric, `v1`).
//!
//! What is signed: `webhook-id`, `webhook-timestamp` and the body, joined by dots, with
//! HMAC-SHA256. While a secret is being replaced there are two, and a signature of each.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What secrets begin with when they are shown.
pub const PREFIX: &str = "whsec_";
/// What the specification allows, in bytes.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret, ready to sign with.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// Why a text is no secret; it does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a signing secret is `{PREFIX}` and the base64 of {} to {} bytes",
    LENGTH.start(),
    LENGTH.end()
)]
pub struct BadSecret;

impl Secret {
    /// Reads `whsec_...`.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(BadSecret)?;
        let key = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| BadSecret)?);
        if !LENGTH.contains(&key.len()) {
            return Err(BadSecret);
        }
        // It takes keys of any length.
        Hmac::new_from_slice(&key).map(Self).map_err(|_| BadSecret)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// The value of `webhook-signature`.
pub fn sign(secrets: &[Secret], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut value = String::with_capacity(secrets.len() * 48);
    for secret in secrets {
        let mut mac = secret.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        let separator = if value.is_empty() { "" } else { " " };
        // Writing into a String cannot fail.
        let _ = write!(value, "{separator}v1,");
        BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), &mut value);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's libraries test with.
    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature = sign(
            std::slice::from_ref(&secret),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = sign(&[secret.clone(), secret], "a", "1", b"{}");
        let (first, second) = both.split_once(' ').expect("two");
        assert_eq!(first, second);
    }

    #[test]
    fn what_is_no_secret_is_refused_without_being_shown() {
        for text in [
            "",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS?",
        ] {
            let error = Secret::parse(text).expect_err(text).to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        assert_eq!(format!("{secret:?}"), "Secret(not shown)");
    }
}

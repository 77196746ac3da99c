//! Basic authentication by one user and password that the configuration says.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// What a request has to say, as SHA-256 of `user:password`.
#[derive(Clone)]
pub(crate) struct Expected([u8; 32]);

impl Expected {
    pub(crate) fn new(user: &str, password: &str) -> Self {
        Self(Sha256::digest(format!("{user}:{password}").as_bytes()).into())
    }

    /// Whether a request says it. All bytes are compared, so that the time does not say which one
    /// differs.
    pub(crate) fn is_said(&self, headers: &HeaderMap) -> bool {
        let Some(said) = said(headers) else {
            return false;
        };
        let said: [u8; 32] = Sha256::digest(&said).into();
        let pairs = said.iter().zip(self.0);
        let difference = pairs.fold(0, |found, (said, expected)| {
            std::hint::black_box(found | (said ^ expected))
        });
        difference == 0
    }
}

/// The value of the header `Authorization` for a user and a password.
pub(crate) fn header(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// `user:password`.
fn said(headers: &HeaderMap) -> Option<Vec<u8>> {
    let (scheme, said) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("basic")
        .then(|| STANDARD.decode(said.trim()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_and_password_together_are_right() {
        let expected = Expected::new("joe", "a:b");
        let is_said = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            expected.is_said(&headers)
        };
        assert!(is_said(&header("joe", "a:b")));
        assert!(is_said(&header("joe", "a:b").replace("Basic", "bAsIc")));
        for wrong in [
            &*header("joe", "a:c"),
            &header("ann", "a:b"),
            &header("", ""),
            "Basic",
            "Basic ?",
            "Bearer am9lOmE6Yg==",
        ] {
            assert!(!is_said(wrong), "{wrong}");
        }
        assert!(!expected.is_said(&HeaderMap::new()));
    }
}

//! Random secrets: what webhooks are signed with, and API tokens.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::error::{Result, StoreError};

/// Random bytes of a signing secret: Standard Webhooks asks for 24 to 64.
const SIGNING_BYTES: usize = 24;
/// Random bytes of a token: too many to be guessed, so that a hash without a salt keeps it.
const TOKEN_BYTES: usize = 32;
/// What tokens begin with, so that scanners of leaked secrets know them.
const TOKEN_PREFIX: &str = "dct_";
/// What tokens of sessions of mail push begin with.
const SESSION_PREFIX: &str = "dps_";

/// A secret of an endpoint: `whsec_` and base64, as Standard Webhooks writes it. Never shown by
/// [`fmt::Debug`].
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(String);

impl SigningSecret {
    /// A new one.
    pub(crate) fn generate() -> Result<Self> {
        let bytes = random::<SIGNING_BYTES>()?;
        Ok(Self(format!("whsec_{}", STANDARD.encode(bytes))))
    }

    pub(crate) fn from_row(text: String) -> Self {
        Self(text)
    }

    /// The text, for who signs and for the one answer that shows it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whsec_...")
    }
}

/// A new API token.
pub(crate) fn token() -> Result<String> {
    let bytes = random::<TOKEN_BYTES>()?;
    Ok(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// A new token of a session.
pub(crate) fn session() -> Result<String> {
    let bytes = random::<TOKEN_BYTES>()?;
    Ok(format!("{SESSION_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is kept of a token. It is random enough that no salt is needed.
pub(crate) fn hash(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    STANDARD.encode(digest)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StoreError::Random)?;
    Ok(bytes)
}

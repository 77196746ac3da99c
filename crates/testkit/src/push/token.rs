//! JSON Web Tokens as services read them: the parts, the claims, the signature.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use ring::signature::UnparsedPublicKey;
use serde_json::Value;

/// A token whose signature was not looked at yet.
pub(super) struct Token {
    pub(super) header: Value,
    pub(super) claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Token {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split('.');
        let mut part = || parts.next().context("a token of less than three parts");
        let (header, claims, signature) = (part()?, part()?, part()?);
        ensure!(parts.next().is_none(), "a token of more than three parts");
        Ok(Self {
            header: serde_json::from_slice(&decode(header)?).context("the header")?,
            claims: serde_json::from_slice(&decode(claims)?).context("the claims")?,
            signed: format!("{header}.{claims}"),
            signature: decode(signature)?,
        })
    }

    /// Checks a signature of `ES256` by a public key, an uncompressed point.
    pub(super) fn verify_es256(&self, public: &[u8]) -> Result<()> {
        ensure!(
            self.header["alg"] == "ES256",
            "another algorithm than ES256"
        );
        let key = VerifyingKey::from_sec1_bytes(public)
            .ok()
            .context("no key")?;
        let signature = Signature::from_slice(&self.signature).ok();
        let signature = signature.context("a signature of another length")?;
        let verified = key.verify(self.signed.as_bytes(), &signature);
        verified.ok().context("the signature is not of the key")
    }

    /// Checks a signature of `RS256`.
    pub(super) fn verify_rs256(&self, key: &UnparsedPublicKey<Vec<u8>>) -> Result<()> {
        ensure!(
            self.header["alg"] == "RS256",
            "another algorithm than RS256"
        );
        let verified = key.verify(self.signed.as_bytes(), &self.signature);
        verified.ok().context("the signature is not of the key")
    }

    /// A claim that is a time, in seconds since 1970.
    pub(super) fn time(&self, claim: &str) -> Result<u64> {
        let time = self.claims[claim].as_u64();
        time.with_context(|| format!("no `{claim}`"))
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// Base64url without padding.
pub(super) fn decode(text: &str) -> Result<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).context("no base64url")
}

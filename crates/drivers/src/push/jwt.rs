//! Tokens that services know us by: JSON Web Tokens (RFC 7519) in the compact form of RFC 7515.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

/// A token: its header and its claims, signed.
pub(super) fn token(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unspecified>,
) -> Result<String, Unspecified> {
    let mut token = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// Signs as `ES256` has it.
pub(super) fn es256(key: &EcdsaKeyPair, text: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let signature = key.sign(&SystemRandom::new(), text)?;
    Ok(signature.as_ref().to_vec())
}

/// A private key of P-256 in PEM (PKCS #8); the text says what is wrong, and shows nothing of it.
pub(super) fn es256_key(pem: &str) -> Result<EcdsaKeyPair, String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "has no private key in PEM (`-----BEGIN PRIVATE KEY-----`)".to_owned())?;
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let read = EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &SystemRandom::new());
    read.map_err(|error| {
        format!("has no key of the curve P-256 with its public key beside it ({error})")
    })
}

//! A sealed value: `dcs1:KEY:BASE64`, where BASE64 is the nonce and what XChaCha20-Poly1305 has
//! made of the value.
//!
//! The nonce has 24 random bytes, so that none comes twice however often one key is used, without
//! anybody counting. The place (table, row, field) is authenticated with the value: a sealed value
//! that is copied into another row cannot be opened there.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::error::SecretsError;
use super::key::{Key, KeyId};

/// What sealed values of this version begin with.
const PREFIX: &str = "dcs1:";
/// Bytes of a nonce of XChaCha20-Poly1305.
const NONCE_BYTES: usize = 24;

/// Place of a value: it can be opened nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) table: &'static str,
    /// Key of the row.
    pub(crate) row: &'a str,
    pub(crate) name: &'static str,
}

impl Field<'_> {
    /// What is authenticated besides the value. No name of a table or a column, and no id of a
    /// row, has a NUL in it.
    fn associated(&self) -> String {
        let Self { table, row, name } = self;
        format!("{PREFIX}\0{table}\0{row}\0{name}")
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, row, name } = self;
        write!(f, "`{name}` of the {table} `{row}`")
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose().into())
}

/// Seals a value for its place.
pub(super) fn seal(key: &Key, field: Field<'_>, value: &[u8]) -> Result<String, SecretsError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(SecretsError::Random)?;
    let associated = field.associated();
    let payload = Payload {
        msg: value,
        aad: associated.as_bytes(),
    };
    let too_long = |_| SecretsError::TooLong {
        field: field.to_string(),
    };
    let sealed = cipher(key).encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.map_err(too_long)?;
    let all = [&nonce[..], &sealed].concat();
    Ok(format!("{PREFIX}{}:{}", key.id(), STANDARD.encode(all)))
}

/// The key that a sealed value names, and the rest of it.
fn split(sealed: &str) -> Option<(KeyId, &str)> {
    let (id, base64) = sealed.strip_prefix(PREFIX)?.split_once(':')?;
    Some((id.parse().ok()?, base64))
}

/// The key that a value names, if it is sealed.
pub(super) fn key_of(sealed: &str) -> Option<KeyId> {
    split(sealed).map(|(key, _)| key)
}

/// Opens a value in its place, with whichever key it names.
pub(super) fn open<'k>(
    key: impl FnOnce(KeyId) -> Result<&'k Key, SecretsError>,
    field: Field<'_>,
    sealed: &str,
) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
    let (id, base64) = split(sealed).ok_or_else(|| SecretsError::NotSealed {
        field: field.to_string(),
    })?;
    let key = key(id)?;
    let damaged = || SecretsError::Damaged {
        field: field.to_string(),
        key: id,
    };
    let all = STANDARD.decode(base64).map_err(|_| damaged())?;
    let (nonce, sealed) = all.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?;
    let nonce = XNonce::try_from(nonce).map_err(|_| damaged())?;
    let associated = field.associated();
    let payload = Payload {
        msg: sealed,
        aad: associated.as_bytes(),
    };
    let opened = cipher(key).decrypt(&nonce, payload);
    opened.map(Zeroizing::new).map_err(|_| damaged())
}

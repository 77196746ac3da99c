//! A key and its id.
//!
//! The id is made of the key, so that two nodes never mean different keys by one id; it is shown
//! and logged, and tells nothing of the key.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::SecretsError;

/// Bytes of a key, as XChaCha20-Poly1305 has it.
pub(super) const KEY_BYTES: usize = 32;
/// Bytes of an id: enough to tell the few keys of an installation apart.
const ID_BYTES: usize = 8;
/// What is hashed before a key, so that its id is no hash of it that somebody else may show.
const ID_OF: &[u8] = b"dovecast: id of a key\0";
/// Room for the base64 of a key: what a line may hold besides is too long for one.
const DECODED_BYTES: usize = KEY_BYTES + 16;

/// Name of a key: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; ID_BYTES]);

/// A text that is no id of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of a key has {} hexadecimal digits", ID_BYTES * 2)]
pub struct BadKeyId;

/// What secrets are sealed with.
pub(crate) struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl KeyId {
    fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        let digest = Sha256::new().chain_update(ID_OF).chain_update(bytes);
        let digest = digest.finalize();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for KeyId {
    type Err = BadKeyId;

    fn from_str(text: &str) -> Result<Self, BadKeyId> {
        let is_id = text.len() == 2 * ID_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_id);
        Ok(Self(number.ok_or(BadKeyId)?.to_be_bytes()))
    }
}

impl Key {
    /// A new one.
    pub(super) fn generate() -> Result<Self, SecretsError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(SecretsError::Random)?;
        Ok(Self::new(bytes))
    }

    pub(super) fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let id = KeyId::of(&bytes);
        Self { id, bytes }
    }

    /// Reads `BASE64`, or `ID:BASE64` as it is written; the error says what is wrong.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (id, base64) = match text.split_once(':') {
            None => (None, text),
            Some((id, base64)) => {
                let id: KeyId = id.parse().map_err(|_| "the id before the key is none")?;
                (Some(id), base64)
            }
        };
        let mut decoded = Zeroizing::new([0; DECODED_BYTES]);
        let length = STANDARD.decode_slice(base64, &mut *decoded);
        if length != Ok(KEY_BYTES) {
            return Err("a key is the base64 of 32 bytes");
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes.copy_from_slice(&decoded[..KEY_BYTES]);
        let key = Self::new(bytes);
        if id.is_some_and(|id| id != key.id) {
            return Err("the id before the key is another key's");
        }
        Ok(key)
    }

    /// Line of a file of keys.
    pub(super) fn line(&self) -> Zeroizing<String> {
        let base64 = Zeroizing::new(STANDARD.encode(*self.bytes));
        Zeroizing::new(format!("{}:{}\n", self.id, *base64))
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

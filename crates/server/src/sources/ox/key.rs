//! The key that ids of mails are made with, so that nobody can know one before: whoever may write
//! to the log could have it there already, and the mail would be taken for one that is told of
//! again.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::key_file::KEY_BYTES;

/// Makes ids.
#[derive(Clone)]
pub(crate) struct IdKey(Hmac<Sha256>);

impl IdKey {
    pub(crate) fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        // A short key is filled up to a block with zeros (RFC 2104 section 2).
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(bytes);
        Self(Hmac::new(&block.into()))
    }

    /// The id of what these parts name together, of version 8 (RFC 9562): clients of the relay
    /// cannot use such.
    pub(crate) fn id(&self, parts: &[&[u8]]) -> Uuid {
        let mut hash = self.0.clone();
        for part in parts {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize().into_bytes()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_its_key_and_of_its_parts() {
        let id = |key: u8, parts: &[&[u8]]| IdKey::of(&[key; KEY_BYTES]).id(parts);
        let made = id(1, &[b"alice", b"INBOX"]);
        assert_eq!(made, id(1, &[b"alice", b"INBOX"]));
        assert_ne!(made, id(2, &[b"alice", b"INBOX"]));
        assert_ne!(made, id(1, &[b"aliceI", b"NBOX"]));
        assert_eq!(made.get_version_num(), 8);
    }
}

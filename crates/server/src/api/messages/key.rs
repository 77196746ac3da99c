//! The header `Idempotency-Key`: a request that is sent again makes no second notification.
//!
//! Nothing is kept of a key: the ids of notifications are made of it, and the log drops an id that
//! is among the last it has taken. What is sent is part of the id as well, so a key that is used
//! again for something else hides nothing.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::api::Api;
use crate::api::error::ApiError;
use dovecast_operations::Sender;

/// Name of the header (draft-ietf-httpapi-idempotency-key-header).
const NAME: &str = "idempotency-key";
/// Longest key, in bytes: more than the UUIDs and hashes that keys are have.
const MAX_BYTES: usize = 255;

/// Key of a request, if it has one.
pub(crate) struct IdempotencyKey(Option<Vec<u8>>);

impl FromRequestParts<Api> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all(NAME).iter();
        let Some(key) = keys.next() else {
            return Ok(Self(None));
        };
        let key = key.as_bytes();
        let is_text = key.iter().all(|byte| (0x20..0x7f).contains(byte));
        if keys.next().is_some() || !is_text || !(1..=MAX_BYTES).contains(&key.len()) {
            return Err(ApiError::bad_request(format!(
                "the header Idempotency-Key is not one text of 1 to {MAX_BYTES} ASCII characters"
            )));
        }
        Ok(Self(Some(key.to_vec())))
    }
}

impl IdempotencyKey {
    /// Id of the notification at a place of a request, which has that JSON.
    pub(super) fn id(&self, sender: &Sender, place: usize, json: &[u8]) -> Uuid {
        let Some(key) = &self.0 else {
            return Uuid::now_v7();
        };
        // Whose key it is: two that send must not meet, whatever they call their requests.
        let (kind, whose) = match sender {
            Sender::Anybody => (0, Vec::new()),
            Sender::Account(account) => (1, account.number.clone().into_bytes()),
            Sender::Applications(token, _) => (2, token.to_string().into_bytes()),
        };
        let mut hash = Sha256::new_with_prefix(b"dovecast idempotency key\0");
        hash.update([kind]);
        let place = u64::try_from(place).unwrap_or(u64::MAX).to_be_bytes();
        for part in [&*whose, key, &place, json] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

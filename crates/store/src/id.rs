//! Ids: UUIDs that know what they name, so that the id of a level is never taken for that of an
//! event type.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Names one `Of`. In the database, in JSON and in logs it is the text of the UUID.
pub struct Id<Of> {
    uuid: Uuid,
    of: PhantomData<fn() -> Of>,
}

impl<Of> Id<Of> {
    /// A new one. Later ones are greater, to the millisecond.
    pub(crate) fn new() -> Self {
        Self::from(Uuid::now_v7())
    }

    /// The id as others know it.
    pub fn uuid(self) -> Uuid {
        self.uuid
    }
}

/// An id that is the same whenever the same is written, so that what is written again is known.
/// Later ones are greater, and of one millisecond those with a greater place among what is written
/// together (the first 4096 of it).
pub(crate) fn repeatable(time_ms: i64, place: usize, what: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in what {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&hash[..10]);
    let [_, _, .., high, low] = place.min(0xfff).to_be_bytes();
    (bytes[0], bytes[1]) = (high, low);
    let time_ms = u64::try_from(time_ms).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(time_ms, &bytes).into_uuid()
}

impl<Of> From<Uuid> for Id<Of> {
    fn from(uuid: Uuid) -> Self {
        Self {
            uuid,
            of: PhantomData,
        }
    }
}

impl<Of> FromStr for Id<Of> {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Ok(Self::from(Uuid::try_parse(text)?))
    }
}

impl<Of> fmt::Display for Id<Of> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}

impl<Of> fmt::Debug for Id<Of> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}

impl<Of> Clone for Id<Of> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Of> Copy for Id<Of> {}

impl<Of> PartialEq for Id<Of> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}

impl<Of> Eq for Id<Of> {}

impl<Of> PartialOrd for Id<Of> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<Of> Ord for Id<Of> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}

impl<Of> Hash for Id<Of> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}

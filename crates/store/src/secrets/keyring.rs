//! The keys that are there: in a file a line each, the newest last.
//!
//! A line is `ID:BASE64`, or the base64 of 32 bytes alone; empty lines and those that begin with
//! `#` are skipped. Where there is no room for lines, as in an environment variable, spaces or
//! commas separate keys.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::envelope::{self, Field};
use super::error::SecretsError;
use super::key::{Key, KeyId};

/// Most keys in one place: a rotation leaves one, and needs two.
const MAX_KEYS: usize = 100;

/// Keys in the order of their source, and where they are from.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    keys: Vec<Arc<Key>>,
    place: Arc<str>,
}

impl Keyring {
    /// Reads what a source holds.
    pub(super) fn parse(text: &str, place: &str) -> Result<Self, SecretsError> {
        let mut ring = Self::empty(place);
        for (number, line) in text.lines().enumerate() {
            let wrong = |reason| SecretsError::Line {
                place: place.to_owned(),
                line: number + 1,
                reason,
            };
            if line.trim_start().starts_with('#') {
                continue;
            }
            let words = line.split([' ', '\t', ',', '\r']);
            for word in words.filter(|word| !word.is_empty()) {
                let key = Key::parse(word).map_err(wrong)?;
                if ring.add(Arc::new(key)).is_err() {
                    return Err(wrong("there are more than 100 keys"));
                }
            }
        }
        if ring.keys.is_empty() {
            let place = place.to_owned();
            return Err(SecretsError::Empty { place });
        }
        Ok(ring)
    }

    /// No keys.
    pub(super) fn empty(place: &str) -> Self {
        Self {
            keys: Vec::new(),
            place: place.into(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A ring of one new key.
    pub(super) fn generate(place: &str) -> Result<Self, SecretsError> {
        Ok(Self {
            keys: vec![Arc::new(Key::generate()?)],
            place: place.into(),
        })
    }

    /// What a file holds that has these keys.
    pub(super) fn text(&self) -> Zeroizing<String> {
        let lines: Vec<_> = self.keys.iter().map(|key| key.line()).collect();
        let length = lines.iter().map(|line| line.len()).sum();
        // All of it at once: what a text leaves behind when it grows is not overwritten.
        let mut text = Zeroizing::new(String::with_capacity(length));
        for line in &lines {
            text.push_str(line);
        }
        text
    }

    /// Takes a key as the newest, unless it is there.
    pub(super) fn add(&mut self, key: Arc<Key>) -> Result<(), SecretsError> {
        if self.has(key.id()) {
            return Ok(());
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(SecretsError::TooMany {
                place: self.place.to_string(),
                most: MAX_KEYS,
            });
        }
        self.keys.push(key);
        Ok(())
    }

    /// Keeps the keys of another ring, as older ones.
    pub(super) fn keep(&mut self, other: &Self) {
        let older = other.keys.iter().filter(|key| !self.has(key.id()));
        let older: Vec<_> = older.cloned().collect();
        self.keys.splice(0..0, older);
    }

    /// Takes these out.
    pub(super) fn remove(&mut self, ids: &[KeyId]) {
        self.keys.retain(|key| !ids.contains(&key.id()));
    }

    pub(crate) fn has(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id() == id)
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.iter().find(|key| key.id() == id)
    }

    /// Ids, the newest last.
    pub(crate) fn ids(&self) -> impl DoubleEndedIterator<Item = KeyId> + '_ {
        self.keys.iter().map(|key| key.id())
    }

    /// Seals a value for its place.
    pub(crate) fn seal(
        &self,
        key: KeyId,
        field: Field<'_>,
        value: &[u8],
    ) -> Result<String, SecretsError> {
        envelope::seal(self.needed(key, field)?, field, value)
    }

    /// Opens a value in its place.
    pub(crate) fn open(
        &self,
        field: Field<'_>,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
        envelope::open(|key| self.needed(key, field), field, sealed)
    }

    /// Whether a value names a key that is not here.
    pub(crate) fn lacks_key_of(&self, sealed: &str) -> bool {
        envelope::key_of(sealed).is_some_and(|key| !self.has(key))
    }

    fn needed(&self, key: KeyId, field: Field<'_>) -> Result<&Key, SecretsError> {
        let found = self.find(key).map(|key| &**key);
        found.ok_or_else(|| SecretsError::UnknownKey {
            field: field.to_string(),
            key,
            place: self.place.to_string(),
        })
    }
}

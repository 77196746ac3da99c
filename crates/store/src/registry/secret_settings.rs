//! What of an endpoint's settings is secret: never shown, and overwritten when it is dropped.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroize;

/// The secret settings of an endpoint, by their keys. [`fmt::Debug`] shows the keys alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretSettings(Map<String, Value>);

impl SecretSettings {
    /// Secret settings, as a person has written them.
    pub fn new(settings: Map<String, Value>) -> Self {
        Self(settings)
    }

    /// Keys and values, for the driver.
    pub fn expose(&self) -> &Map<String, Value> {
        &self.0
    }

    #[cfg(test)]
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// The names of a list of pairs.
    pub(super) fn pairs(&self, key: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.get(key).and_then(Value::as_array);
        pairs
            .into_iter()
            .flatten()
            .filter_map(|pair| pair[0].as_str())
    }

    pub(super) fn put(&mut self, key: &str, value: Option<Value>) {
        let before = match value {
            Some(value) => self.0.insert(key.to_owned(), value),
            None => self.0.remove(key),
        };
        if let Some(mut before) = before {
            overwrite(&mut before);
        }
    }

    /// Puts a text before the others of a list.
    pub(super) fn put_first(&mut self, key: &str, text: &str) {
        let list = self
            .0
            .entry(key)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.insert(0, text.into());
        }
    }

    /// Drops of a list what stands at places that are not kept.
    pub(super) fn keep(&mut self, key: &str, keeps: impl Fn(usize) -> bool) {
        let Some(Value::Array(list)) = self.0.get_mut(key) else {
            return;
        };
        let mut place = 0;
        list.retain_mut(|value| {
            let is_kept = keeps(place);
            place += 1;
            if !is_kept {
                overwrite(value);
            }
            is_kept
        });
    }
}

fn overwrite(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(overwrite),
        Value::Object(map) => map.values_mut().for_each(overwrite),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Drop for SecretSettings {
    fn drop(&mut self) {
        self.0.values_mut().for_each(overwrite);
    }
}

impl fmt::Debug for SecretSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

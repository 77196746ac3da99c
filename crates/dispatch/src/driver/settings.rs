//! What an endpoint says of its receiver, and what is wrong with that.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

/// What an endpoint says of its receiver.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// Number of the account: what it may take of what all share is bounded.
    pub account: &'a Arc<str>,
    /// What is shown to all who may see the endpoint.
    pub open: &'a Map<String, Value>,
    /// What is never shown, and never part of an error.
    pub secret: &'a Map<String, Value>,
}

/// Why a driver cannot use the settings of an endpoint. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {reason}")]
pub struct SettingsError {
    /// Key of the setting.
    pub key: String,
    /// What is wrong with it, to be read behind the key.
    pub reason: String,
}

impl SettingsError {
    /// What is wrong with a key.
    pub fn new(key: &str, reason: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

impl<'a> Settings<'a> {
    /// Refuses keys that the driver does not know.
    pub fn known(&self, open: &[&str], secret: &[&str]) -> Result<(), SettingsError> {
        let unknown = |all: &'a Map<String, Value>, known: &[&str]| {
            all.keys().find(|key| !known.contains(&key.as_str()))
        };
        match unknown(self.open, open).or_else(|| unknown(self.secret, secret)) {
            Some(key) => Err(SettingsError::new(key, "is not known to this driver")),
            None => Ok(()),
        }
    }

    /// A text that must be there.
    pub fn text(&self, key: &str) -> Result<&'a str, SettingsError> {
        let found = self.optional_text(key)?;
        found.ok_or_else(|| SettingsError::new(key, "is missing"))
    }

    /// A text that may be there.
    pub fn optional_text(&self, key: &str) -> Result<Option<&'a str>, SettingsError> {
        match self.open.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(SettingsError::new(key, "is not a text")),
        }
    }

    /// A number of seconds that may be there.
    pub fn seconds(&self, key: &str) -> Result<Option<Duration>, SettingsError> {
        match self.open.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
                _ => Err(SettingsError::new(key, "is not a number of seconds")),
            },
        }
    }
}

/// Shows keys, and no values.
impl fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |of: &Map<String, Value>| of.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Settings")
            .field("account", self.account)
            .field("open", &keys(self.open))
            .field("secret", &keys(self.secret))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_no_secret_is_shown() {
        let (open, secret) = (
            map(json!({"url": 1, "name": "n", "wait": 3, "never": 0})),
            map(json!({"token": "s3cret"})),
        );
        let account = Arc::from("7");
        let settings = Settings {
            account: &account,
            open: &open,
            secret: &secret,
        };
        let told = |error: Result<(), SettingsError>| error.expect_err("wrong").to_string();
        assert_eq!(told(settings.text("url").map(drop)), "`url` is not a text");
        assert_eq!(told(settings.text("to").map(drop)), "`to` is missing");
        assert_eq!(settings.text("name"), Ok("n"));
        assert_eq!(settings.optional_text("to"), Ok(None));
        assert_eq!(settings.seconds("wait"), Ok(Some(Duration::from_secs(3))));
        assert_eq!(
            told(settings.seconds("never").map(drop)),
            "`never` is not a number of seconds"
        );
        let known = ["url", "name", "wait", "never"];
        assert_eq!(settings.known(&known, &["token"]), Ok(()));
        assert_eq!(
            told(settings.known(&known[1..], &["token"])),
            "`url` is not known to this driver"
        );
        let unknown = told(settings.known(&known, &[]));
        assert_eq!(unknown, "`token` is not known to this driver");
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}

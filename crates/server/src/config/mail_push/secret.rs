//! Secrets of `[mail_push]`: written here, or the place where they stand.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Deserializer, de};

use crate::config::elsewhere::{self, Absent, Elsewhere};

/// A secret, or where it stands. [`fmt::Debug`] shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Here(String),
    At(Elsewhere),
}

impl Secret {
    /// The secret.
    #[allow(dead_code, reason = "read when what needs it begins")]
    pub(crate) fn read(&self) -> Result<String> {
        self.read_or(Absent::Refused, "")
    }

    /// The secret, or `stand_in` where it may be absent and is.
    pub(super) fn read_or(&self, absent: Absent, stand_in: &str) -> Result<String> {
        match self {
            Self::Here(text) => Ok(text.clone()),
            Self::At(place) => place.read_or(absent, stand_in),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is no text is not shown either.
        let text = String::deserialize(deserializer)
            .map_err(|_| de::Error::custom("this is not a secret, expected a text"))?;
        if text.is_empty() {
            return Err(de::Error::custom("the secret is empty"));
        }
        Ok(Self::Here(text))
    }
}

/// The place of a secret.
pub(super) fn place<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    Ok(elsewhere::place(deserializer)?.map(Secret::At))
}

//! `[secrets]`: where the keys are that secrets in the store are sealed with.

use dovecast_store::KeySource;
use serde::{Deserialize, Deserializer, de};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Secrets {
    #[serde(deserialize_with = "source")]
    pub(crate) keys: Option<KeySource>,
}

fn source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<KeySource>, D::Error> {
    // Whoever writes a key here instead of its place does not see it in an error.
    let text = String::deserialize(deserializer)
        .map_err(|_| de::Error::custom(dovecast_store::KeySourceError))?;
    text.parse().map(Some).map_err(de::Error::custom)
}

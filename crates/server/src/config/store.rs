//! `[store]`: where the database is. Nothing of the value is ever shown: a password may be in it.

use dovecast_store::{BadDatabasePlace, DatabasePlace};
use serde::{Deserialize, Deserializer, de};

use super::limits::Bounded;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSection {
    #[serde(deserialize_with = "place")]
    pub(crate) url: Option<DatabasePlace>,
    pub(crate) timeout_seconds: Bounded<1, 300>,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: None,
            timeout_seconds: Bounded::new(10),
        }
    }
}

fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DatabasePlace>, D::Error> {
    // What is no text is not shown either.
    let text =
        String::deserialize(deserializer).map_err(|_| de::Error::custom(BadDatabasePlace))?;
    text.parse().map(Some).map_err(de::Error::custom)
}

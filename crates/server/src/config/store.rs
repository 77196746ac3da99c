//! `[store]`: where the database is. Nothing of the value is ever shown: a password may be in it.

use anyhow::{Context, Result, ensure};
use dovecast_store::{BadDatabasePlace, DatabasePlace};
use serde::{Deserialize, Deserializer, de};

use super::elsewhere::{self, Absent, Elsewhere};
use super::limits::Bounded;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSection {
    #[serde(deserialize_with = "place")]
    pub(super) url: Option<DatabasePlace>,
    #[serde(deserialize_with = "elsewhere::place")]
    url_file: Option<Elsewhere>,
    pub(crate) timeout_seconds: Bounded<1, 300>,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            timeout_seconds: Bounded::new(10),
        }
    }
}

impl StoreSection {
    /// Where the database is; `None`: nothing is said, or what is said may be absent and is.
    pub(super) fn place(&self, absent: Absent) -> Result<Option<DatabasePlace>> {
        let Some(elsewhere) = &self.url_file else {
            return Ok(self.url.clone());
        };
        ensure!(
            self.url.is_none(),
            "`url` and `url_file` of [store] are both there: one of them is enough"
        );
        match elsewhere.read() {
            Err(_) if absent == Absent::Replaced => Ok(None),
            read => {
                let parsed = read.context("`url_file` of [store]")?.parse();
                Ok(Some(parsed.context("`url_file` of [store]")?))
            }
        }
    }
}

fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DatabasePlace>, D::Error> {
    // What is no text is not shown either.
    let text =
        String::deserialize(deserializer).map_err(|_| de::Error::custom(BadDatabasePlace))?;
    text.parse().map(Some).map_err(de::Error::custom)
}

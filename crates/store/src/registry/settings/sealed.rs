//! What of an endpoint's settings is sealed, as JSON.

use serde::{Deserialize, Serialize};

use super::field;
use crate::registry::secret_settings::SecretSettings;
use crate::secrets::{Keyring, SecretsError};

/// Secret settings, and when signing secrets among them end.
#[derive(Serialize, Deserialize)]
pub(super) struct Secret {
    pub(super) settings: SecretSettings,
    /// When the second signing secret ends: all that an older dovecast knows of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous_until_ms: Option<i64>,
    /// When each of them ends but the newest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ends_ms: Vec<i64>,
}

impl Secret {
    /// Ends of the signing secrets; of one that an older dovecast has written, of the second.
    pub(super) fn ends_ms(&self) -> Vec<i64> {
        if self.ends_ms.is_empty() {
            return self.previous_until_ms.into_iter().collect();
        }
        self.ends_ms.clone()
    }
}

/// Opens what is sealed of an endpoint.
pub(super) fn opened(ring: &Keyring, endpoint: &str, sealed: &str) -> Result<Secret, SecretsError> {
    let field = field(endpoint);
    let json = ring.open(field, sealed)?;
    // An error of serde cites what it has read.
    serde_json::from_slice(&json).map_err(|_| SecretsError::NotUnderstood {
        field: field.to_string(),
    })
}

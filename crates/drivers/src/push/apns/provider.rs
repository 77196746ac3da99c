//! The token by which Apple knows us: signed with the team's key, renewed neither more often than
//! every 20 minutes nor less often than every hour, which Apple both refuses.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderValue;
use ring::error::Unspecified;
use ring::signature::EcdsaKeyPair;
use serde_json::json;

use crate::push::{ServiceKey, jwt};

/// Age at which a token is renewed.
const RENEWED_AFTER: Duration = Duration::from_mins(40);
/// Age before which a token is not renewed, whatever APNs says of it.
const KEPT_FOR: Duration = Duration::from_mins(20);
/// Digits and letters of the ids of keys and teams.
const ID_CHARS: usize = 10;
/// Most bytes of the file of a key.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// Key of a team.
pub(crate) struct ProviderKey {
    key: EcdsaKeyPair,
    key_id: String,
    team_id: String,
}

/// Makes tokens.
pub(super) struct Provider {
    key: ProviderKey,
    made: Mutex<Option<Made>>,
}

/// A token.
struct Made {
    /// Value of `Authorization`.
    header: HeaderValue,
    /// When it was made, whatever becomes of the time of day.
    since: Instant,
    /// Time of day that it names.
    issued: SystemTime,
}

impl ProviderKey {
    /// Reads the key that Apple gives out; the name of the setting and what is wrong with it.
    pub(crate) fn of(
        key: &ServiceKey,
        key_id: &str,
        team_id: &str,
    ) -> Result<Self, (&'static str, String)> {
        Self::check(key_id, team_id)?;
        let failed = |text| ("mail_push.apns.key_file", text);
        let pem = key.read(MAX_FILE_BYTES).map_err(failed)?;
        let read = jwt::es256_key(&pem);
        Ok(Self {
            key: read.map_err(|error| failed(format!("names {key}: it {error}")))?,
            key_id: key_id.to_owned(),
            team_id: team_id.to_owned(),
        })
    }

    /// Refuses what are no ids.
    pub(crate) fn check(key_id: &str, team_id: &str) -> Result<(), (&'static str, String)> {
        for (name, id) in [
            ("mail_push.apns.key_id", key_id),
            ("mail_push.apns.team_id", team_id),
        ] {
            if id.len() != ID_CHARS || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err((name, format!("is not {ID_CHARS} letters and digits")));
            }
        }
        Ok(())
    }
}

impl Provider {
    pub(super) fn new(key: ProviderKey) -> Self {
        Self {
            key,
            made: Mutex::default(),
        }
    }

    /// The value of `Authorization`.
    pub(super) fn authorization(&self, now: SystemTime) -> Result<HeaderValue, Unspecified> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made
            && made.since.elapsed() < RENEWED_AFTER
            // By a clock that was set meanwhile the token names another time.
            && now.duration_since(made.issued).is_ok_and(|age| age < RENEWED_AFTER)
        {
            return Ok(made.header.clone());
        }
        let header = self.sign(now)?;
        *made = Some(Made {
            header: header.clone(),
            since: Instant::now(),
            issued: now,
        });
        Ok(header)
    }

    /// Forgets a token that APNs takes for too old; `false`: it is too young for another one.
    pub(super) fn forget(&self, refused: &HeaderValue) -> bool {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(other) if other.header != *refused => true,
            Some(young) if young.since.elapsed() < KEPT_FOR => false,
            _ => {
                *made = None;
                true
            }
        }
    }

    fn sign(&self, now: SystemTime) -> Result<HeaderValue, Unspecified> {
        let now = now.duration_since(UNIX_EPOCH).map_err(|_| Unspecified)?;
        let header = json!({ "alg": "ES256", "kid": self.key.key_id });
        let claims = json!({ "iss": self.key.team_id, "iat": now.as_secs() });
        let token = jwt::token(&header, &claims, |text| jwt::es256(&self.key.key, text))?;
        let mut value =
            HeaderValue::try_from(format!("bearer {token}")).map_err(|_| Unspecified)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::VapidKey;

    fn provider() -> Provider {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.p8");
        // Of the same kind.
        std::fs::write(&path, &*VapidKey::generate().expect("a key")).expect("written");
        let key = ProviderKey::of(&path.into(), "ABCDE12345", "TEAM567890");
        Provider::new(key.map_err(|(_, error)| error).expect("a key"))
    }

    #[test]
    fn a_token_is_used_for_forty_minutes_and_never_replaced_before_twenty() {
        let provider = provider();
        let now = SystemTime::now();
        let first = provider.authorization(now).expect("a token");
        let used = |now| provider.authorization(now).expect("a token");
        assert_eq!(used(now + RENEWED_AFTER / 2), first);
        assert!(!provider.forget(&first), "it is young");
        assert_eq!(used(now), first);
        let second = used(now + RENEWED_AFTER);
        assert_ne!(second, first);
        assert!(provider.forget(&first), "there is another one already");
        assert_ne!(used(now - KEPT_FOR), second, "the clock was set back");
    }

    #[test]
    fn what_is_wrong_with_a_key_is_named_by_its_setting() {
        let missing = ServiceKey::File("/nonexistent/key.p8".into());
        for (key_id, team_id, expected) in [
            ("short", "TEAM567890", "mail_push.apns.key_id"),
            ("ABCDE12345", "TEAM56789!", "mail_push.apns.team_id"),
            ("ABCDE12345", "TEAM567890", "mail_push.apns.key_file"),
        ] {
            let error = ProviderKey::of(&missing, key_id, team_id).err();
            assert_eq!(error.map(|(name, _)| name), Some(expected));
        }
    }
}

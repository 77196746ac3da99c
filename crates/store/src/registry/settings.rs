//! Settings of an endpoint as columns hold them: `settings`, which anybody may see, and `sealed`,
//! what of them is secret.
//!
//! Both are JSON objects that the endpoint's driver takes as they are. Of a webhook, a URL with a
//! user or a password is secret as a whole; shown is the URL with [`HIDDEN`] in their place.
//! Signing secrets are a list, the newest first; when each of the others ends is kept beside them.

mod sealed;
mod shown_url;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use url::Url;
use zeroize::Zeroizing;

use super::EndpointId;
use super::credentials::{Credentials, CustomHeaders};
use super::edit::{EndpointEdit, NewEndpoint};
use super::receiver::Receiver;
use super::secret_settings::SecretSettings;
use super::secrets::SigningSecret;
use crate::error::{Result, StoreError, with_sources};
use crate::feed::Change;
use crate::row;
use crate::secrets::{Field, Keyring, Keys};
use sealed::{Secret, opened};
use shown_url::without_user;
pub(super) use shown_url::{debug_url, plain_url, shown_url};

/// Driver of the endpoints that have a URL.
pub(super) const WEBHOOK: &str = "webhook";
/// What is shown instead of the user and the password of a URL.
pub(super) const HIDDEN: &str = "***";

/// Most signing secrets of an endpoint: each is one signature more in every request. Who replaces
/// more within their time has to wait, because the oldest would end before it was to.
const MAX_SIGNING_SECRETS: usize = 8;

const URL: &str = "url";
const TIMEOUT: &str = "timeout_seconds";
const SERVER_CA: &str = "server_ca_certificate";
const SIGNING_SECRETS: &str = "signing_secrets";
const HEADERS: &str = "headers";
const AUTHORIZATION: &str = "authorization";

/// The settings of one endpoint, opened.
#[derive(Debug)]
pub(crate) struct StoredSettings {
    driver: String,
    pub(super) open: Map<String, Value>,
    pub(super) secret: SecretSettings,
    /// When the signing secrets before the newest one end, the youngest of them first.
    pub(super) ends_ms: Vec<i64>,
}

/// Place of the sealed settings of an endpoint.
pub(crate) fn field(endpoint: &str) -> Field<'_> {
    Field {
        table: "endpoint",
        row: endpoint,
        name: "sealed",
    }
}

/// What a row with the column `settings` shows.
pub(super) fn open_from_row(found: &AnyRow) -> Result<Map<String, Value>> {
    let json = row::text(found, "settings")?;
    let read = serde_json::from_str(&json);
    Ok(read.map_err(|error: serde_json::Error| row::wrong("settings", error))?)
}

/// The keys for rows with the column `sealed`, after a look into their place if one of theirs is
/// not there. Asked for after the rows were read: a key is known here before anything is sealed
/// with it.
pub(super) async fn ring_for(keys: &Arc<Keys>, rows: &[AnyRow]) -> Result<Arc<Keyring>> {
    let ring = keys.ring();
    for found in rows {
        if ring.lacks_key_of(&row::text(found, "sealed")?) {
            if let Err(error) = keys.refresh().await {
                // Who needs that key says so.
                let error = with_sources(&error);
                tracing::debug!(error, "the keys of secrets cannot be read again");
            }
            return Ok(keys.ring());
        }
    }
    Ok(ring)
}

pub(super) fn timeout_seconds(open: &Map<String, Value>) -> Option<u32> {
    let seconds = open.get(TIMEOUT).and_then(Value::as_u64);
    seconds.and_then(|seconds| u32::try_from(seconds).ok())
}

impl StoredSettings {
    /// Settings that say nothing yet.
    pub(super) fn of_driver(driver: &str) -> Self {
        Self {
            driver: driver.to_owned(),
            open: Map::new(),
            secret: SecretSettings::default(),
            ends_ms: Vec::new(),
        }
    }

    /// What a row with the columns `id`, `driver`, `settings` and `sealed` holds.
    pub(super) fn from_row(ring: &Keyring, found: &AnyRow) -> Result<Self> {
        let id = row::text(found, "id")?;
        let open = open_from_row(found)?;
        let secret = opened(ring, &id, &row::text(found, "sealed")?)?;
        Ok(Self {
            driver: row::text(found, "driver")?,
            open,
            ends_ms: secret.ends_ms(),
            secret: secret.settings,
        })
    }

    /// Reads what a change is about to change.
    pub(super) async fn find(change: &mut Change<'_>, id: EndpointId) -> Result<Self> {
        let found = sqlx::query("SELECT id, driver, settings, sealed FROM endpoint WHERE id = $1")
            .bind(id.to_string())
            .fetch_all(&mut *change.tx)
            .await?;
        let ring = ring_for(change.keys(), &found).await?;
        let found = found.first().ok_or(StoreError::NoEndpoint)?;
        Self::from_row(&ring, found)
    }

    pub(super) fn set_url(&mut self, url: &str) {
        let hidden = without_user(url).and_then(|mut shown| {
            shown.set_username(HIDDEN).ok()?;
            Some(shown.to_string())
        });
        self.secret.put(URL, hidden.as_ref().map(|_| url.into()));
        let shown = hidden.unwrap_or_else(|| url.to_owned());
        self.open.insert(URL.to_owned(), shown.into());
    }

    /// Takes the URL of a request. One that is as it is shown changes nothing; no other one may
    /// have what stands there for its user, which would be written over the real one.
    fn edit_url(&mut self, url: &str) -> Result<()> {
        if self.open.get(URL).and_then(Value::as_str) == Some(url) {
            return Ok(());
        }
        if Url::parse(url).is_ok_and(|url| url.username() == HIDDEN) {
            return Err(StoreError::HiddenUser);
        }
        self.set_url(url);
        Ok(())
    }

    pub(super) fn set_timeout(&mut self, seconds: Option<u32>) {
        set(&mut self.open, TIMEOUT, seconds.map(Value::from));
    }

    pub(super) fn set_server_ca(&mut self, pem: Option<&str>) {
        set(&mut self.open, SERVER_CA, pem.map(Value::from));
    }

    pub(super) fn set_headers(&mut self, headers: Option<&CustomHeaders>) {
        let headers = headers.filter(|headers| !headers.expose().is_empty());
        let pairs = headers.map(|headers| json!(headers.expose()));
        self.secret.put(HEADERS, pairs);
    }

    pub(super) fn set_credentials(&mut self, credentials: Option<&Credentials>) {
        self.secret
            .put(AUTHORIZATION, credentials.map(Credentials::setting));
    }

    /// The newest signing secret, and the one before it until when.
    pub(super) fn set_signing_secrets(
        &mut self,
        newest: &SigningSecret,
        previous: Option<(&str, i64)>,
    ) {
        let mut secrets = vec![newest.expose()];
        secrets.extend(previous.map(|(secret, _)| secret));
        self.ends_ms = previous.map(|(_, until_ms)| until_ms).into_iter().collect();
        self.secret.put(SIGNING_SECRETS, Some(json!(secrets)));
    }

    /// Makes a signing secret the newest; the one that was it is good until then, and those before
    /// as long as they were to be.
    pub(super) fn rotate(
        &mut self,
        newest: &SigningSecret,
        (now_ms, until_ms): (i64, i64),
    ) -> Result<()> {
        self.must_be(WEBHOOK)?;
        self.current(now_ms);
        if self.ends_ms.len() + 1 >= MAX_SIGNING_SECRETS {
            return Err(StoreError::TooManySecrets {
                most: MAX_SIGNING_SECRETS,
            });
        }
        self.secret.put_first(SIGNING_SECRETS, newest.expose());
        self.ends_ms.insert(0, until_ms);
        Ok(())
    }

    /// Refuses what is for another driver.
    fn must_be(&self, driver: &str) -> Result<()> {
        if self.driver == driver {
            return Ok(());
        }
        Err(StoreError::OtherDriver {
            driver: self.driver.clone(),
        })
    }

    /// What a driver takes now: signing secrets that have ended are not among it. Returns when the
    /// next one ends.
    pub(super) fn current(&mut self, now_ms: i64) -> Option<i64> {
        let ends_ms = std::mem::take(&mut self.ends_ms);
        let is_good = |place: usize| match place.checked_sub(1) {
            Some(before) => ends_ms.get(before).is_some_and(|end_ms| *end_ms > now_ms),
            None => true,
        };
        self.secret.keep(SIGNING_SECRETS, is_good);
        self.ends_ms = ends_ms
            .into_iter()
            .filter(|end_ms| *end_ms > now_ms)
            .collect();
        self.ends_ms.iter().min().copied()
    }

    /// Takes what an edit says.
    pub(super) fn edited(&mut self, edit: &EndpointEdit) -> Result<()> {
        match &edit.receiver {
            Some(Receiver::Driver(settings)) => {
                self.must_be(&settings.driver)?;
                settings.apply(&mut self.open, &mut self.secret);
            }
            Some(Receiver::Webhook(url)) => {
                self.must_be(WEBHOOK)?;
                self.edit_url(url)?;
            }
            None => {}
        }
        if edit.is_for_webhooks() {
            self.must_be(WEBHOOK)?;
        }
        if let Some(seconds) = edit.timeout_seconds {
            self.set_timeout(seconds);
        }
        if let Some(pem) = &edit.server_ca_certificate {
            self.set_server_ca(pem.as_deref());
        }
        if let Some(headers) = &edit.headers {
            self.set_headers(headers.as_ref());
        }
        if let Some(credentials) = &edit.credentials {
            self.set_credentials(credentials.as_ref());
        }
        if let Some(body) = &edit.body {
            body.apply(&mut self.open, &mut self.secret);
        }
        let is_authorization = |name: &str| name.eq_ignore_ascii_case("authorization");
        let has_header = self.secret.pairs(HEADERS).any(is_authorization);
        if has_header && self.secret.expose().contains_key(AUTHORIZATION) {
            return Err(StoreError::AuthorizationTwice);
        }
        Ok(())
    }

    /// The columns `settings` and `sealed`, the second as it is before it is sealed.
    pub(super) fn columns(self) -> Result<(String, Zeroizing<Vec<u8>>)> {
        let failed = |error: serde_json::Error| row::wrong("settings", error);
        let open = serde_json::to_string(&self.open).map_err(failed)?;
        let secret = Secret {
            settings: self.secret,
            previous_until_ms: self.ends_ms.first().copied(),
            ends_ms: self.ends_ms,
        };
        let secret = serde_json::to_vec(&secret).map_err(failed)?;
        Ok((open, Zeroizing::new(secret)))
    }

    /// Writes both columns.
    pub(super) async fn write(self, change: &mut Change<'_>, id: EndpointId) -> Result<()> {
        let (open, secret) = self.columns()?;
        let id = id.to_string();
        let sealed = change.seal(field(&id), &secret).await?;
        sqlx::query("UPDATE endpoint SET settings = $1, sealed = $2 WHERE id = $3")
            .bind(open)
            .bind(sealed)
            .bind(id)
            .execute(&mut *change.tx)
            .await?;
        Ok(())
    }
}

impl NewEndpoint {
    /// What its driver takes.
    pub(super) fn settings(&self) -> EndpointEdit {
        EndpointEdit {
            receiver: Some(self.receiver.clone()),
            server_ca_certificate: self.server_ca_certificate.clone().map(Some),
            headers: self.headers.clone().map(Some),
            credentials: self.credentials.clone().map(Some),
            timeout_seconds: self.timeout_seconds.map(Some),
            body: self.body.clone(),
            ..EndpointEdit::default()
        }
    }
}

impl EndpointEdit {
    /// Whether it changes what its driver takes.
    pub(super) fn has_settings(&self) -> bool {
        self.receiver.is_some() || self.is_for_webhooks()
    }

    /// Whether it changes what only webhooks have, besides their URL.
    fn is_for_webhooks(&self) -> bool {
        self.server_ca_certificate.is_some()
            || self.headers.is_some()
            || self.credentials.is_some()
            || self.timeout_seconds.is_some()
            || self.body.is_some()
    }
}

fn set(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => {
            map.insert(key.to_owned(), value);
        }
        None => {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A URL, what is shown of it, and what it is sorted by.
    #[test]
    fn a_user_and_a_password_are_not_in_what_is_shown_of_a_url() {
        for (url, shown, plain) in [
            ("https://example.org/a?b#c", None, None),
            ("HTTPS://Example.org", None, None),
            ("http://@example.org/", None, None),
            (
                "https://u:s3cret@example.org/a",
                Some("https://***@example.org/a"),
                Some("https://example.org/a"),
            ),
            (
                "http:\\\\s3cret@example.org",
                Some("http://***@example.org/"),
                Some("http://example.org/"),
            ),
            (
                "http://:s3cret@example.org:81/",
                Some("http://***@example.org:81/"),
                Some("http://example.org:81/"),
            ),
        ] {
            let mut settings = StoredSettings::of_driver(WEBHOOK);
            settings.set_url(url);
            assert_eq!(settings.open[URL], shown.unwrap_or(url));
            assert_eq!(settings.secret.text(URL), shown.map(|_| url));
            assert_eq!(plain_url(url), plain.unwrap_or(url));
            settings.set_url("http://example.org/");
            assert_eq!(settings.secret.text(URL), None);
        }
    }
}

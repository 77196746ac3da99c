//! URLs as they are shown: without the user and the password that one may have.

use dovecast_log::LineLimit;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use url::Url;

use super::{URL, opened};
use crate::error::Result;
use crate::row;
use crate::secrets::{Keyring, SecretsError};

/// About users of URLs that cannot be shown.
static LINES: LineLimit = LineLimit::a_minute(1);

/// A URL without user and password, if it has any.
pub(in crate::registry) fn without_user(url: &str) -> Option<Url> {
    let mut parsed = Url::parse(url).ok()?;
    if parsed.username().is_empty() && parsed.password().is_none() {
        return None;
    }
    // Whatever has a user can be without one.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    Some(parsed)
}

/// The URL by which an endpoint is sorted and searched.
pub(in crate::registry) fn plain_url(url: &str) -> String {
    without_user(url).map_or_else(|| url.to_owned(), Into::into)
}

/// The URL of a row with the columns `settings` and `sealed`; with `HIDDEN` in it where what is
/// secret of it cannot be opened.
pub(in crate::registry) fn url(
    open: &Map<String, Value>,
    ring: &Keyring,
    found: &AnyRow,
) -> Result<String> {
    let shown = open.get(URL).and_then(Value::as_str).unwrap_or_default();
    if without_user(shown).is_none() {
        return Ok(shown.to_owned());
    }
    let id = row::text(found, "id")?;
    match opened(ring, &id, &row::text(found, "sealed")?) {
        Ok(secret) => Ok(secret.settings.text(URL).unwrap_or(shown).to_owned()),
        Err(error) => {
            cannot_show(&id, &error);
            Ok(shown.to_owned())
        }
    }
}

/// Logs now and then that the user of a URL cannot be shown: a list may hold a thousand.
fn cannot_show(endpoint: &str, error: &SecretsError) {
    if LINES.take() {
        tracing::warn!(endpoint.id = endpoint, %error, "the user of a URL cannot be shown, nor may those of others");
    }
}

/// A URL for [`std::fmt::Debug`], without user and password.
pub(in crate::registry) fn debug_url(url: &str) -> String {
    match Url::parse(url) {
        Ok(_) => plain_url(url),
        Err(_) => "(no URL)".to_owned(),
    }
}

//! URLs as they are shown: without the user and the password that one may have.

use serde_json::{Map, Value};
use url::Url;

use super::URL;

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

/// The URL among the settings that anybody may see: with `HIDDEN` in place of a user and a
/// password.
pub(in crate::registry) fn shown_url(open: &Map<String, Value>) -> &str {
    open.get(URL).and_then(Value::as_str).unwrap_or_default()
}

/// A URL for [`std::fmt::Debug`], without user and password.
pub(in crate::registry) fn debug_url(url: &str) -> String {
    match Url::parse(url) {
        Ok(_) => plain_url(url),
        Err(_) => "(no URL)".to_owned(),
    }
}

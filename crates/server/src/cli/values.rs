//! Values of the command line that are told what they should be where they are something else.

use jiff::Timestamp;
use uuid::Uuid;

/// The id of an endpoint.
pub(super) fn endpoint(text: &str) -> Result<Uuid, String> {
    id(text, "an endpoint", "dovecast endpoints")
}

/// The id of a token of the API.
pub(super) fn token(text: &str) -> Result<Uuid, String> {
    id(text, "a token", "dovecast tokens")
}

fn id(text: &str, of: &str, list: &str) -> Result<Uuid, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no id of {of} (a UUID): `{list}` lists them"))
}

/// A time.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is no time, expected one of RFC 3339 such as `2026-01-31T12:00:00Z`")
    })
}

//! What requests to an endpoint carry besides the notification: headers of its own, and
//! credentials. Both are secrets.

use std::fmt;

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;

use super::EndpointId;
use super::endpoints::EndpointEdit;
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::row;

/// Headers by their names, in order. Values are never shown by [`fmt::Debug`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(String, String)>);

/// What `Authorization` is made of. Never shown by [`fmt::Debug`].
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User and password (RFC 7617).
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// A token (RFC 6750).
    Bearer {
        /// The token.
        token: String,
    },
}

/// [`Credentials`] in the database.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    Basic(String, String),
    Bearer(String),
}

impl CustomHeaders {
    /// Names and values; nobody has looked at them here.
    pub fn new(headers: Vec<(String, String)>) -> Self {
        Self(headers)
    }

    /// Names and values, for who sends them.
    pub fn expose(&self) -> &[(String, String)] {
        &self.0
    }

    fn has_authorization(&self) -> bool {
        let is_it = |(name, _): &(String, String)| name.eq_ignore_ascii_case("authorization");
        self.0.iter().any(is_it)
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(not shown)",
            Self::Bearer { .. } => "Bearer(not shown)",
        })
    }
}

/// What a row with the columns `headers` and `credentials` says.
pub(super) fn from_row(found: &AnyRow) -> Result<(CustomHeaders, Option<Credentials>)> {
    let headers = match row::optional_text(found, "headers")? {
        Some(json) => read("headers", &json)?,
        None => Vec::new(),
    };
    let credentials = match row::optional_text(found, "credentials")? {
        Some(json) => Some(match read("credentials", &json)? {
            Kept::Basic(username, password) => Credentials::Basic { username, password },
            Kept::Bearer(token) => Credentials::Bearer { token },
        }),
        None => None,
    };
    Ok((CustomHeaders(headers), credentials))
}

/// The error names the place in the JSON and nothing of it.
fn read<T: for<'de> Deserialize<'de>>(column: &str, json: &str) -> Result<T> {
    let read = serde_json::from_str(json);
    Ok(read.map_err(|error: serde_json::Error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        row::wrong(column, std::io::Error::other(place))
    })?)
}

/// Writes what an edit says, if both may be together then.
pub(super) async fn put(
    change: &mut Change<'_>,
    id: EndpointId,
    edit: &EndpointEdit,
) -> Result<()> {
    if edit.headers.is_none() && edit.credentials.is_none() {
        return Ok(());
    }
    if let Some(headers) = &edit.headers {
        let json = headers.as_ref().map(|headers| written(&headers.0));
        let statement = sqlx::query("UPDATE endpoint SET headers = $1 WHERE id = $2");
        let statement = statement.bind(json).bind(id.to_string());
        statement.execute(&mut *change.tx).await?;
    }
    if let Some(credentials) = &edit.credentials {
        let json = credentials.clone().map(|credentials| {
            written(&match credentials {
                Credentials::Basic { username, password } => Kept::Basic(username, password),
                Credentials::Bearer { token } => Kept::Bearer(token),
            })
        });
        let statement = sqlx::query("UPDATE endpoint SET credentials = $1 WHERE id = $2");
        let statement = statement.bind(json).bind(id.to_string());
        statement.execute(&mut *change.tx).await?;
    }
    let found = sqlx::query("SELECT headers, credentials FROM endpoint WHERE id = $1")
        .bind(id.to_string())
        .fetch_one(&mut *change.tx)
        .await?;
    match from_row(&found)? {
        (headers, Some(_)) if headers.has_authorization() => Err(StoreError::AuthorizationTwice),
        _ => Ok(()),
    }
}

fn written(value: &impl Serialize) -> String {
    // Strings can always be written.
    serde_json::to_string(value).unwrap_or_default()
}

//! What requests to an endpoint carry besides the notification: headers of its own, and
//! credentials. Both are secrets.

use std::fmt;

use serde_json::{Value, json};

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

impl CustomHeaders {
    /// Names and values; nobody has looked at them here.
    pub fn new(headers: Vec<(String, String)>) -> Self {
        Self(headers)
    }

    /// Names and values, for who sends them.
    pub fn expose(&self) -> &[(String, String)] {
        &self.0
    }
}

impl Credentials {
    /// As the secret setting `authorization` of the driver `webhook` has them.
    pub fn setting(&self) -> Value {
        match self {
            Self::Basic { username, password } => {
                json!({"type": "basic", "username": username, "password": password})
            }
            Self::Bearer { token } => json!({"type": "bearer", "token": token}),
        }
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

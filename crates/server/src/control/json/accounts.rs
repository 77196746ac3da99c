//! Accounts.

use serde::{Deserialize, Serialize};

use super::TokenLine;

/// An account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AccountLine {
    pub(crate) number: String,
    pub(crate) created_ms: i64,
    /// When it was closed, if it is.
    pub(crate) closed_ms: Option<i64>,
    pub(crate) endpoints: i64,
    pub(crate) tokens: i64,
    pub(crate) users: i64,
}

/// An account with what it has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AccountAnswer<Endpoint> {
    pub(crate) account: AccountLine,
    /// As the REST API shows them.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) tokens: Vec<TokenLine>,
}

/// What went with an account that was closed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AccountClosed {
    pub(crate) endpoints: u64,
    pub(crate) tokens: u64,
}

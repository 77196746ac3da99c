//! The keys of secrets.

use serde::{Deserialize, Serialize};

/// A key that is there, or was used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyLine {
    pub(crate) id: String,
    /// Whether everything is sealed with it from now on.
    pub(crate) current: bool,
    /// Whether the server has it.
    pub(crate) here: bool,
    pub(crate) retired_ms: Option<i64>,
    /// Values that are sealed with it.
    pub(crate) rows: u64,
}

/// What a rotation did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rotated {
    pub(crate) key: String,
    pub(crate) sealed: u64,
    /// Values that cannot be opened.
    pub(crate) damaged: u64,
    pub(crate) retired: Vec<String>,
    /// Why retired keys are still where the keys are.
    pub(crate) kept: Option<String>,
}

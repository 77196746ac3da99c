//! The keys of secrets.

use serde::{Deserialize, Serialize};

/// A key that is there, or was used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyLine {
    pub(crate) id: String,
    /// Whether everything is sealed with it from now on.
    pub(crate) current: bool,
    /// Whether it is in the place of the keys.
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
    /// Keys that seal nothing since; they stay in their place until the next rotation.
    pub(crate) retired: Vec<String>,
    /// Keys that were retired before, and are not in their place any more.
    pub(crate) taken_out: Vec<String>,
    /// Why such keys are still where the keys are.
    pub(crate) kept: Option<String>,
}

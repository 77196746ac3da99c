//! Why a test cannot have something on this machine. No failure: whoever meets it skips, loudly.

use std::fmt;

/// What this machine lacks, in words for whoever reads the test's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    reason: String,
}

impl Unavailable {
    /// What is missing, and why.
    pub fn new(reason: String) -> Unavailable {
        Unavailable { reason }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unavailable {}

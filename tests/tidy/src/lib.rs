//! Rules that hold this repository to its own words: ARCHITECTURE.md's map, arrows and glossary,
//! and the prose of CONTRIBUTING.md.
//!
//! A rule is a function of text; what it finds is counted per file. What the tree did not keep when
//! a rule came is in `allowed/`, a list that may only shrink. `tests/tidy.rs` runs the rules on the
//! tree. Nothing here compiles or runs other crates.

#![forbid(unsafe_code)]

pub mod absent;
pub mod allowed;
pub mod architecture;
pub mod floors;
pub mod glossary;
pub mod length;
pub mod locks;
pub mod members;
pub mod pages;
pub mod prose;
pub mod source;

/// A place where a rule is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// File, from the root of the workspace; or a name, where the rule is about names.
    pub place: String,
    /// Line, from 1; 0 where the rule is about all of it.
    pub line: usize,
    /// Sentence that says what to change.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.place, self.line, self.what)
    }
}

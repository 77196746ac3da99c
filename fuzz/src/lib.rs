//! Everything that reads bytes from outside, tried with any bytes: by libFuzzer (`scripts/fuzz`),
//! and by `cargo test` with the inputs that are kept in `inputs/`.
//!
//! A target says more than that nothing panics: what is read is written and read again, two ways to
//! read the same agree, an error is short and says where, and memory is bounded by the length of
//! the input. It does the same each time and touches no disk. What does not hold is a panic.

#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a panic is how a target speaks"
)]

pub mod condition;
pub mod endpoint;
pub mod event;
mod expect;
pub mod header;
pub mod identity;
pub mod imap;
mod json;
pub mod mailnotify;
pub mod message;
pub mod outbox;
pub mod ox;
pub mod query;
pub mod registration;
pub mod relay;
#[cfg(feature = "libfuzzer")]
mod running;
pub mod spill;

#[cfg(feature = "libfuzzer")]
pub use running::run;

/// A reader and what is true of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Name in that of its program (`fuzz-NAME`) and of the directory of its inputs.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]) -> Outcome,
}

/// What a reader made of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The input could be read.
    Read,
    /// The input was refused with an error.
    Refused,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    condition::TARGET,
    endpoint::TARGET,
    event::TARGET,
    header::TARGET,
    identity::TARGET,
    imap::TARGET,
    mailnotify::TARGET,
    message::TARGET,
    outbox::TARGET,
    ox::TARGET,
    query::TARGET,
    registration::TARGET,
    relay::TARGET,
    spill::TARGET,
];

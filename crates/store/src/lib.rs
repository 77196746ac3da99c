//! What dovecast knows besides its log: accounts, applications, endpoints with their filters, API
//! tokens.
//!
//! All SQL is in this crate. One set of statements serves SQLite (one machine, a file beside the
//! log) and PostgreSQL (several nodes); they keep to what both understand: text, 64-bit numbers,
//! `$1`. What is allowed to whom is decided elsewhere; what belongs to an account takes its id, and
//! finds nothing of others.
//!
//! Invariant: a filter only ever widens when a person widens it. See [`Members`].

#![forbid(unsafe_code)]

mod clean;
mod clock;
mod connection;
mod deliveries;
mod error;
mod feed;
mod id;
mod listen;
mod open;
mod place;
mod push;
mod registry;
mod row;
mod schema;
mod secrets;
mod statement;
#[cfg(test)]
mod steps;
mod waiting;

pub use clock::Clock;
pub use deliveries::{
    AccountPast, DeadLetterPage, Dropped, KeptAttempt, KeptDeadLetter, KeptPast, OwedCount, Trimmed,
};
pub use error::{MemberKind, Result, StoreError};
pub use feed::Changes;
pub use id::Id;
pub use open::{Store, StoreOptions};
pub use place::{BadDatabasePlace, DatabasePlace, PostgresUrl};
pub use push::*;
pub use registry::*;
pub use secrets::{KeyId, KeySource, KeySourceError, KeyUse, Passcrypt, Rotated, SecretsError};

//! Why a secret is neither sealed nor opened. Names keys by their ids, and shows no value.

use std::io;

use super::key::KeyId;

/// Why a secret is neither sealed nor opened, or keys are not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// Keys cannot be read.
    #[error("the keys of secrets cannot be read from {place}")]
    Read {
        /// The source of keys.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// Keys cannot be written.
    #[error("the keys of secrets cannot be written to {place}")]
    Write {
        /// The source of keys.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A line holds no key.
    #[error("{place}, line {line}: {reason}")]
    Line {
        /// The source of keys.
        place: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing is in the source of keys.
    #[error("there is no key in {place}: put one there, such as `openssl rand -base64 32` prints")]
    Empty {
        /// The source of keys.
        place: String,
    },
    /// Other users may read the file of keys, or its group may write it.
    #[error("others may read the keys in {place}, or change them: `chmod 600` it")]
    Exposed {
        /// The source of keys.
        place: String,
    },
    /// A PostgreSQL has no directory beside it.
    #[error("no place for the keys of secrets is configured ([secrets] keys)")]
    NoSource,
    /// The key with which a value is sealed is not there.
    #[error(
        "{field} is sealed with the key `{key}`, which is not in {place}: put that key there from the node or the backup that has it"
    )]
    UnknownKey {
        /// What is sealed.
        field: String,
        /// The key.
        key: KeyId,
        /// The source of keys.
        place: String,
    },
    /// The value was changed, or belongs elsewhere.
    #[error("{field} cannot be opened with its key `{key}`: it was changed, or is of another row")]
    Damaged {
        /// What is sealed.
        field: String,
        /// The key.
        key: KeyId,
    },
    /// The value is none that was sealed.
    #[error("{field} is not sealed")]
    NotSealed {
        /// Which value.
        field: String,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// The cipher takes no value as long as this.
    #[error("{field} is too long to be sealed")]
    TooLong {
        /// Which value.
        field: String,
    },
}

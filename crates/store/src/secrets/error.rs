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
    /// The key that the database is sealed with is not there.
    #[error(
        "secrets in the database are sealed with the key `{key}`, which is not in {place}: put it there from a node that has it or from a backup; dispatchers that share a database share their keys"
    )]
    NotOfDatabase {
        /// The key.
        key: KeyId,
        /// The source of keys.
        place: String,
    },
    /// What was sealed is nothing that this dovecast understands.
    #[error("{field} holds what this dovecast does not understand")]
    NotUnderstood {
        /// What is sealed.
        field: String,
    },
    /// A source that is somebody else's holds no key that was not used before.
    #[error(
        "there is no new key in {place}: put one behind the one that is there (`openssl rand -base64 32`), restart the server, then rotate"
    )]
    NoNewKey {
        /// The source of keys.
        place: String,
    },
    /// More keys are in one place than are read from it.
    #[error(
        "there are {most} keys in {place}, and there may be no more: take those out that `dovecast secrets list` calls retired or unused"
    )]
    TooMany {
        /// The source of keys.
        place: String,
        /// How many there may be.
        most: usize,
    },
    /// A key that is about to seal everything was taken out of its place.
    #[error(
        "the key `{key}` is not in {place} any more, so nothing is done with it: look who writes that place, then rotate again"
    )]
    NotInPlace {
        /// The key.
        key: KeyId,
        /// The source of keys.
        place: String,
    },
    /// Nodes that live do not know a new key.
    #[error(
        "not every dispatcher has the new key `{key}`: copy {place} to the nodes that have a copy of it, then rotate again; nothing is sealed with it yet. Without it, or ended a moment ago: {nodes}"
    )]
    NotEverywhere {
        /// The key.
        key: KeyId,
        /// The source of keys of this process.
        place: String,
        /// The ids of the dispatchers without it.
        nodes: String,
    },
    /// Another node rotates at the same time.
    #[error("the key is replaced by another node at the same time: rotate again when it is done")]
    AnotherRotation,
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

//! Secrets at rest: whatever of a row is secret stands in the database sealed, or not at all.
//!
//! A sealed value ([`envelope`]) names its key and is bound to its place (table, row, field). The
//! keys ([`keyring`]) are kept apart from the database ([`source`]), several at a time while one
//! replaces another. A value that cannot be opened is an error that names the key and the place,
//! never an empty secret; no error shows a key or a value.

mod adopt;
mod envelope;
mod error;
mod file;
mod key;
mod keyring;
mod keys;
mod passcrypt;
mod rotation;
mod source;

pub(crate) use adopt::{adopt, current, current_of};
pub(crate) use envelope::Field;
pub(crate) use keyring::Keyring;
pub(crate) use keys::{Keys, follow};

pub use error::SecretsError;
pub(crate) use key::BadKeyId;
pub use key::KeyId;
pub use passcrypt::Passcrypt;
pub use rotation::{KeyUse, Rotated};
pub use source::{KeySource, KeySourceError};

#[cfg(test)]
mod tests;

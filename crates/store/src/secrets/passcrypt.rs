//! The passphrase of the credential storage (`passcrypt`): what persons' passwords are sealed with
//! before anything else is done with them, in memory and in the database alike.
//!
//! In the database they are sealed once more, with the keys of all secrets: a copy of it and of
//! those keys is no password yet. Nodes that share credentials have the same passphrase.

use std::fmt;
use std::num::NonZeroU32;

use dovecast_mail_push::Person;
use zeroize::Zeroizing;

use super::envelope::{self, Field};
use super::error::SecretsError;
use super::key::{KEY_BYTES, Key};
use crate::push::MailboxCredentials;

/// Rounds of PBKDF2 with SHA-256: a tenth of a second once at the start, and as much for each guess
/// of whoever has a copy of the database.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(199_999);
/// Salt of all installations: nodes derive the same key from the same passphrase, and have nothing
/// else in common.
const SALT: &[u8] = b"dovecast: passcrypt of credentials";

/// A key that was made of a passphrase.
pub struct Passcrypt {
    key: Key,
    /// Whether nothing is sealed with it.
    is_broken: bool,
}

impl Passcrypt {
    /// The key of a passphrase; blanks around it do not count, as in a file.
    pub fn of(passphrase: &str) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let passphrase = passphrase.trim().as_bytes();
        ring::pbkdf2::derive(
            ring::pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            SALT,
            passphrase,
            &mut *bytes,
        );
        Self::with(Key::new(bytes))
    }

    /// A key that ends with the process, for passwords that do, too.
    pub fn random() -> Result<Self, SecretsError> {
        Key::generate().map(Self::with)
    }

    /// A key that seals nothing, as where the system gives no random bytes, for tests of what
    /// becomes of passwords then.
    pub fn broken() -> Result<Self, SecretsError> {
        let mut passcrypt = Self::random()?;
        passcrypt.is_broken = true;
        Ok(passcrypt)
    }

    fn with(key: Key) -> Self {
        Self {
            key,
            is_broken: false,
        }
    }

    /// Seals credentials of a person.
    pub fn seal(
        &self,
        person: &Person,
        credentials: &MailboxCredentials,
    ) -> Result<String, SecretsError> {
        if self.is_broken {
            return Err(SecretsError::Random(getrandom::Error::UNEXPECTED));
        }
        let row = row(person);
        let json = serde_json::to_vec(credentials).map_err(|_| SecretsError::NotUnderstood {
            field: field(&row).to_string(),
        })?;
        envelope::seal(&self.key, field(&row), &Zeroizing::new(json))
    }

    /// Opens credentials of a person. The error names the key, never what it opens.
    pub fn open(&self, person: &Person, sealed: &str) -> Result<MailboxCredentials, SecretsError> {
        let row = row(person);
        let key = |id| {
            if id == self.key.id() {
                return Ok(&self.key);
            }
            Err(SecretsError::UnknownKey {
                field: field(&row).to_string(),
                key: id,
                place: "`passcrypt` of [mail_push.credstorage]".to_owned(),
            })
        };
        let json = envelope::open(key, field(&row), sealed)?;
        serde_json::from_slice(&json).map_err(|_| SecretsError::NotUnderstood {
            field: field(&row).to_string(),
        })
    }
}

impl fmt::Debug for Passcrypt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Passcrypt({})", self.key.id())
    }
}

/// A person as the key of a row: the length keeps two names apart.
fn row(person: &Person) -> String {
    let (context, user) = (&person.context, &person.user);
    format!("{}:{context}{user}", context.len())
}

fn field(row: &str) -> Field<'_> {
    Field {
        table: "mailbox",
        row,
        name: "credentials",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_opened_by_their_passphrase_for_their_person_only() {
        let person = |context: &str, user: &str| Person::new(context, user, "x").expect("a person");
        let credentials = MailboxCredentials {
            login: "joe".to_owned(),
            password: "geheim".to_owned(),
        };
        let passcrypt = Passcrypt::of("passphrase");
        let sealed = passcrypt.seal(&person("3", "11"), &credentials);
        let sealed = sealed.expect("sealed");
        assert!(!sealed.contains("geheim") && !sealed.contains("joe"));
        let same = Passcrypt::of(" passphrase\n");
        let opened = same.open(&person("3", "11"), &sealed).expect("opened");
        assert_eq!(opened, credentials);
        assert!(same.open(&person("31", "1"), &sealed).is_err());
        let other = Passcrypt::of("another");
        let error = other
            .open(&person("3", "11"), &sealed)
            .expect_err("refused");
        let said = error.to_string();
        assert!(
            said.contains("passcrypt") && !said.contains("geheim"),
            "{said}"
        );
        assert!(
            Passcrypt::random()
                .expect("random")
                .open(&person("3", "11"), &sealed)
                .is_err()
        );
    }
}

//! Tags: the name of what a device shows of one mail, the same at each push about it.
//!
//! Tag, Topic of Web Push and collapse id are this text. It is a hash, so a push service learns
//! neither the person nor the mailbox from it.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::Person;

/// Bytes of the hash that are kept: 32 characters, as many as a Topic may have (RFC 8030 section
/// 5.4).
const HASH_BYTES: usize = 24;

/// Name of what is shown of one mail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag of a mail.
    pub fn of_mail(person: &Person, mailbox: &str, uidvalidity: u32, uid: u32) -> Self {
        let (uidvalidity, uid) = (uidvalidity.to_be_bytes(), uid.to_be_bytes());
        Self::of(person, &[b"mail", mailbox.as_bytes(), &uidvalidity, &uid])
    }

    /// The tag of a mailbox of which nothing else is known: that something is new in it.
    pub fn of_mailbox(person: &Person, mailbox: &str) -> Self {
        Self::of(person, &[b"mailbox", mailbox.as_bytes()])
    }

    /// The tag as it was written.
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// At most 32 characters of base64url.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(person: &Person, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        let person = [person.context.as_bytes(), person.user.as_bytes()];
        for part in person.iter().chain(parts) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(
            URL_SAFE_NO_PAD
                .encode(&hash.finalize()[..HASH_BYTES])
                .into(),
        )
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_one_mail_and_fits_into_a_topic() {
        let person = Person::new("3", "11", "11@3").expect("a person");
        let other = Person::new("31", "1", "1@31").expect("a person");
        let tag = Tag::of_mail(&person, "INBOX", 7, 9);
        assert_eq!(tag, Tag::of_mail(&person, "INBOX", 7, 9));
        for another in [
            Tag::of_mail(&other, "INBOX", 7, 9),
            Tag::of_mail(&person, "Inbox", 7, 9),
            Tag::of_mail(&person, "INBOX", 9, 7),
            Tag::of_mail(&person, "INBOX", 7, 10),
            Tag::of_mailbox(&person, "INBOX"),
        ] {
            assert_ne!(tag, another);
        }
        assert_eq!(tag.as_str().len(), 32);
        let is_safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(tag.as_str().chars().all(is_safe), "{tag}");
    }
}

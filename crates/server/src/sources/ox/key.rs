//! The key that ids of mails are made with, so that nobody can know one before: whoever may write
//! to the log could have it there already, and the mail would be taken for one that is told of
//! again.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::key_file::KEY_BYTES;

/// What names a mail among those of all users.
pub(crate) struct MailName<'a> {
    /// The user that its events name.
    pub(crate) user: &'a str,
    /// Whose mail it is, as Dovecot calls him, if that is known: the user may be a name that
    /// another one has given himself, whose mail would take the id of the user's own.
    pub(crate) owner: Option<&'a str>,
    pub(crate) mailbox: &'a str,
    pub(crate) uidvalidity: u32,
    pub(crate) uid: u32,
}

/// Makes ids.
#[derive(Clone)]
pub(crate) struct IdKey(Hmac<Sha256>);

impl IdKey {
    pub(crate) fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        // A short key is filled up to a block with zeros (RFC 2104 section 2).
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(bytes);
        Self(Hmac::new(&block.into()))
    }

    /// The id of a mail that came, or of `what` has become of it. A mail that is told of again has
    /// the id it had, whoever tells of it.
    pub(crate) fn of_mail(&self, mail: &MailName<'_>, what: Option<&str>) -> Uuid {
        let (uidvalidity, uid) = (mail.uidvalidity.to_be_bytes(), mail.uid.to_be_bytes());
        let mut parts: Vec<&[u8]> = vec![
            mail.user.as_bytes(),
            mail.mailbox.as_bytes(),
            &uidvalidity,
            &uid,
        ];
        let other = mail.owner.filter(|owner| *owner != mail.user);
        match (other, what) {
            (None, None) => {}
            (Some(owner), None) => parts.push(owner.as_bytes()),
            (owner, Some(what)) => {
                parts.extend([owner.unwrap_or_default().as_bytes(), what.as_bytes()]);
            }
        }
        self.id(&parts)
    }

    /// The id of what these parts name together, of version 8 (RFC 9562): clients of the relay
    /// cannot use such.
    fn id(&self, parts: &[&[u8]]) -> Uuid {
        let mut hash = self.0.clone();
        for part in parts {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize().into_bytes()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_of_its_key_and_of_its_parts() {
        let id = |key: u8, parts: &[&[u8]]| IdKey::of(&[key; KEY_BYTES]).id(parts);
        let made = id(1, &[b"alice", b"INBOX"]);
        assert_eq!(made, id(1, &[b"alice", b"INBOX"]));
        assert_ne!(made, id(2, &[b"alice", b"INBOX"]));
        assert_ne!(made, id(1, &[b"aliceI", b"NBOX"]));
        assert_eq!(made.get_version_num(), 8);
    }

    #[test]
    fn a_mail_has_one_id_whoever_tells_of_it_and_what_becomes_of_it_another() {
        let key = IdKey::of(&[1; KEY_BYTES]);
        let id = |owner: Option<&str>, what: Option<&str>| {
            let mail = MailName {
                user: "11@3",
                owner,
                mailbox: "INBOX",
                uidvalidity: 7,
                uid: 9,
            };
            key.of_mail(&mail, what)
        };
        let (own, alice) = (id(None, None), id(Some("alice"), None));
        assert_eq!(own, id(Some("11@3"), None));
        let others = [
            alice,
            id(None, Some("alice")),
            id(Some("alice"), Some("gone")),
            id(Some("gone"), None),
        ];
        let all = others.into_iter().chain([own]);
        assert_eq!(all.collect::<std::collections::BTreeSet<Uuid>>().len(), 5);
    }
}

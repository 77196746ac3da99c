//! A packet in the form of Cyrus' notifyd: fields that end with NUL, `method`, `class`, `priority`,
//! `user`, `mailbox`, then options and a message, which mean nothing here.

/// Longest packet in bytes: a user of 255 bytes, a mailbox of as many, and some text.
pub const MAX_PACKET_BYTES: usize = 1024;
/// Where the user stands, counted from 0; the mailbox is behind.
const USER: usize = 3;

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// User, in lower case.
    pub user: String,
    /// Mailbox; INBOX if the packet names none.
    pub mailbox: String,
}

/// Why a packet cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// The packet is longer than [`MAX_PACKET_BYTES`].
    #[error("the packet is longer than {MAX_PACKET_BYTES} bytes")]
    TooLong,
    /// The packet ends before the user.
    #[error("the packet has no user")]
    NoUser,
    /// User or mailbox are no text without control characters.
    #[error("the {0} is no text in UTF-8, or has control characters")]
    NoText(&'static str),
}

impl Packet {
    /// Reads a packet. A user that the end of the packet cuts is taken for whole, as senders leave
    /// out the last NUL.
    pub fn read(bytes: &[u8]) -> Result<Self, BadPacket> {
        if bytes.len() > MAX_PACKET_BYTES {
            return Err(BadPacket::TooLong);
        }
        let mut fields = bytes.split(|byte| *byte == 0).skip(USER);
        let user = text("user", fields.next().unwrap_or_default())?;
        if user.is_empty() {
            return Err(BadPacket::NoUser);
        }
        let mailbox = text("mailbox", fields.next().unwrap_or_default())?;
        let is_inbox = mailbox.is_empty() || mailbox.eq_ignore_ascii_case("INBOX");
        Ok(Self {
            user: user.to_lowercase(),
            mailbox: if is_inbox { "INBOX" } else { mailbox }.to_owned(),
        })
    }
}

fn text<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a str, BadPacket> {
    let text = std::str::from_utf8(bytes).map_err(|_| BadPacket::NoText(what))?;
    if text.chars().any(char::is_control) {
        return Err(BadPacket::NoText(what));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_names_a_user_and_a_mailbox() {
        let packet = |user: &str, mailbox: &str| {
            Ok(Packet {
                user: user.to_owned(),
                mailbox: mailbox.to_owned(),
            })
        };
        let long = vec![b'a'; MAX_PACKET_BYTES + 1];
        for (bytes, expected) in [
            (
                &b"log\0MAIL\0\0postmaster\0INBOX\x000\0\0"[..],
                packet("postmaster", "INBOX"),
            ),
            (
                b"a\0b\0c\0Alice@Example.ORG\0inbox\0",
                packet("alice@example.org", "INBOX"),
            ),
            ("a\0b\0c\0Ä\0Entwürfe\0".as_bytes(), packet("ä", "Entwürfe")),
            (b"a\0b\0c\0alice", packet("alice", "INBOX")),
            (b"", Err(BadPacket::NoUser)),
            (b"a\0b", Err(BadPacket::NoUser)),
            (b"a\0b\0c\0\0INBOX\0", Err(BadPacket::NoUser)),
            (b"a\0b\0c\0\xff\0INBOX\0", Err(BadPacket::NoText("user"))),
            (b"a\0b\0c\0a\nb\0INBOX\0", Err(BadPacket::NoText("user"))),
            (b"a\0b\0c\0a\0\x1b\0", Err(BadPacket::NoText("mailbox"))),
            (&long, Err(BadPacket::TooLong)),
        ] {
            assert_eq!(Packet::read(bytes), expected, "{bytes:?}");
        }
    }
}

//! What an IMAP server says, read as it comes.

use dovecast_mail_push::imap::{Reply, ReplyReader};

use crate::expect::{readable_error, within};
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target { name: "imap", run };

fn run(bytes: &[u8]) -> Outcome {
    let most = bytes.len() * 64 + 65_536;
    let (replies, is_read) = within(most, || read(bytes, bytes.len().max(1)));
    // In whatever pieces it comes.
    for piece in [1, 7] {
        assert_eq!(read(bytes, piece), (replies.clone(), is_read));
    }
    if is_read {
        Outcome::Read
    } else {
        Outcome::Refused
    }
}

/// The replies up to the first that cannot be read, and whether there is none.
fn read(bytes: &[u8], piece: usize) -> (Vec<Reply>, bool) {
    let mut reader = ReplyReader::default();
    let mut replies = Vec::new();
    for piece in bytes.chunks(piece) {
        reader.receive(piece);
        loop {
            match reader.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => {
                    readable_error(&error);
                    return (replies, false);
                }
            }
        }
    }
    (replies, true)
}

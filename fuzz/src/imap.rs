//! What an IMAP server says, read as it comes.

use dovecast_mail_push::imap::{Data, Reply, ReplyReader};
use dovecast_mail_push::sources::heard::snippet;
use dovecast_mail_push::sources::{Snapshot, What};

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
    follow(&replies);
    if is_read {
        Outcome::Read
    } else {
        Outcome::Refused
    }
}

/// What a listener makes of the replies, whose numbers need not fit.
fn follow(replies: &[Reply]) {
    let mut snapshot = Snapshot::new(1, 1);
    for reply in replies {
        let Reply::Data(data) = reply else {
            continue;
        };
        let mut told: Vec<What> = Vec::new();
        snapshot.apply(data, &mut |what| told.push(what));
        assert!(told.len() <= replies.len());
        if let Data::Fetch(fetched) = data {
            if let (Some(uid), Some(flags)) = (fetched.uid, fetched.flags) {
                snapshot.push(uid, flags);
            }
            let cut = fetched.body.as_deref().and_then(snippet);
            assert!(cut.is_none_or(|cut| cut.chars().count() <= 200 && !cut.contains('\0')));
        }
        snapshot.settle();
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

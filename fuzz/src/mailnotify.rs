//! Packets of the source `mailnotify`, which anybody may send.

use dovecast_mail_push::sources::mail_notify::{MAX_PACKET_BYTES, Packet};

use crate::expect::{readable_error, within};
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "mailnotify",
    run,
};

fn run(bytes: &[u8]) -> Outcome {
    let packet = match within(8 * MAX_PACKET_BYTES, || Packet::read(bytes)) {
        Ok(packet) => packet,
        Err(error) => {
            readable_error(&error);
            return Outcome::Refused;
        }
    };
    assert!(bytes.len() <= MAX_PACKET_BYTES);
    assert!(!packet.user.is_empty() && !packet.mailbox.is_empty());
    assert!(!format!("{}{}", packet.user, packet.mailbox).contains(char::is_control));
    // Written again it is the same.
    let again = format!("a\0b\0c\0{}\0{}\0", packet.user, packet.mailbox);
    if again.len() <= MAX_PACKET_BYTES {
        let read = Packet::read(again.as_bytes()).expect("a packet");
        assert_eq!(read.mailbox, packet.mailbox);
        assert_eq!(read.user, packet.user.to_lowercase());
    }
    Outcome::Read
}

//! What sessions hold while the log takes nothing.

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use uuid::Uuid;

use super::memory::WAITING_BYTES;
use super::*;
use crate::server::{self, RelayOptions};
use crate::wire::WireRecord;

/// Frames of a client that has much to send.
fn frames() -> Vec<u8> {
    let mut frames = Vec::new();
    for frame in 0..20 {
        let at = wire::begin_records(&mut frames);
        for number in 0..32 {
            let record = WireRecord {
                topic: "dovecot",
                key: b"alice",
                value: &[b' '; 1024],
                time_ms: 0,
                id: Uuid::from_u128(frame * 32 + number),
                txn: Uuid::nil(),
                txn_seq: 0,
                txn_last: true,
            };
            wire::write_record(&mut frames, &record);
        }
        wire::end_records(&mut frames, at, 32);
    }
    frames
}

#[tokio::test]
async fn all_clients_together_hold_no_more_than_there_is_while_the_log_takes_nothing() {
    const CLIENTS: u32 = 400;
    let dir = tempfile::tempdir().expect("a directory");
    let log = Embedded::open(&dir.path().join("log"), &EmbeddedOptions::default());
    let options = RelayOptions {
        spill_dir: dir.path().join("spill"),
        ..RelayOptions::default()
    };
    let relay = Arc::new(Relay::new(options, log.expect("a log")).expect("a relay"));
    let (stream, _client) = UnixStream::pair().expect("sockets");
    let socket = Socket::new(stream, None).expect("a socket");
    let frames = frames();
    let mut waiting = Vec::new();
    for uid in (1..=4).cycle().take(CLIENTS as usize) {
        let place = relay.places.share(uid);
        let mut session = Session::new(&relay, &socket, (None, Sender::unbound(uid)), place);
        session.inbox.extend(&frames);
        assert!(session.read_frames().is_ok());
        // An append that does not end.
        let appending = session.append(None);
        assert!(session.read_frames().is_ok());
        // The rest is in the socket as a rule.
        session.inbox = Inbox::default();
        waiting.push((session, appending));
    }
    let bytes = |(session, _): &(Session<'_>, Appending)| {
        (session.appending_bytes + session.batch.bytes()) as u64
    };
    let total: u64 = waiting.iter().map(bytes).sum();
    let most = server::WAITING_BYTES + u64::from(CLIENTS) * WAITING_BYTES as u64;
    assert!(total <= most, "{total} bytes wait, {most} may");
    assert!(waiting.iter().any(|(session, _)| session.lacks_memory));
    // Whoever has nothing waiting takes no more than a command has.
    drop(waiting);
    let place = relay.places.share(1);
    let mut session = Session::new(&relay, &socket, (None, Sender::unbound(1)), place);
    session.inbox.extend(&frames);
    assert!(session.read_frames().is_ok() && session.is_full());
}

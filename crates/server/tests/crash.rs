//! A server that is killed at full load loses nothing of what it has accepted.

use dovecast_testkit::crash::{CrashOptions, at_saturation};
use dovecast_testkit::server::Server;

const CONNECTIONS: usize = 32;

#[test]
fn what_was_accepted_before_a_kill_is_delivered_after_it() {
    check(1);
}

#[test]
fn what_was_accepted_in_arrays_before_a_kill_is_delivered_after_it() {
    check(25);
}

/// `batch`: notifications of each request.
#[track_caller]
fn check(batch: u64) {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let options = CrashOptions {
        connections: CONNECTIONS,
        batch,
        accepted: 5_000,
        message_bytes: 1000,
    };
    let crash = at_saturation(builder, options).expect("a crash");
    println!("{crash:?}");
    assert!(crash.accepted >= 5_000, "{crash:?}");
    // All of them sent until the end: that was full load.
    assert_eq!(crash.unanswered, CONNECTIONS, "{crash:?}");
    assert!(crash.delivered_before > 0, "{crash:?}");
    assert_eq!(crash.lost, 0, "{crash:?}");
    assert_eq!(crash.unrecognisable, 0, "{crash:?}");
}

//! Users who send more than they may: they are read more slowly, lose nothing, and others notice
//! nothing of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::time::Duration;

use dovecast_log::RateLimits;

use crate::{Host, check_in_order, finish, send};

/// Records of one mail process; then it is looked whether the user is held back.
const AT_A_TIME: u32 = 4_000;
/// More than any machine is too slow for.
const MOST_RECORDS: u32 = 100_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_sends_too_much_is_read_later_and_loses_nothing() {
    // What is more than ten seconds' worth waits. How much that is depends on how fast it is sent.
    let cases = [
        RateLimits {
            count: 1_000,
            bytes: 0,
        },
        RateLimits {
            count: 0,
            bytes: 80_000,
        },
    ];
    for user_rate in cases {
        let mut host = Host::new();
        host.options.user_rate = user_rate;
        host.start();
        let mut sent = 0;
        while host.relay().stats().held_back == 0 {
            assert!(sent < MOST_RECORDS, "{user_rate:?}");
            let mut client = host.client();
            let sending = tokio::task::spawn_blocking(move || {
                send(&mut client, "alice", sent..sent + AT_A_TIME);
                finish(client)
            });
            assert_eq!(sending.await.expect("sent"), []);
            sent += AT_A_TIME;
        }
        let records = host.arrived(sent as usize).await;
        check_in_order(&records);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_takes_what_a_user_has_sent_who_is_held_back() {
    let mut host = Host::new();
    host.options.user_rate = RateLimits { count: 1, bytes: 0 };
    host.start();
    let mut client = host.client();
    // All of it is sent, and most of it would have to wait for minutes.
    send(&mut client, "alice", 0..500);
    let held = async {
        while host.relay().stats().held_back == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::PATIENCE, held)
        .await
        .expect("held back");
    host.stop().await;
    host.options.user_rate = RateLimits::default();
    host.start();
    let finished = tokio::task::spawn_blocking(move || finish(client)).await;
    let lost = finished
        .expect("finished")
        .into_iter()
        .any(|news| matches!(news, dovecast_relay::client::News::Lost { .. }));
    assert!(!lost);
    check_in_order(&host.arrived(500).await);
}

/// A user who is not the one of the tests.
const BEN: u32 = 10_002;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_spills_counts_like_what_it_sends_and_waits() {
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        // Files can be given to another user by root only.
        return;
    }
    let mut host = Host::new();
    host.make_spill_dir();
    for (user, files) in [("alice", 3), ("ben", 1)] {
        for file in 0..files {
            let mut client = host.client();
            send(&mut client, user, file * 1_500..(file + 1) * 1_500);
            finish(client);
        }
    }
    let last = host.spill_files().pop().expect("a file");
    chown(host.spill_dir().join(last), Some(BEN), None).expect("given away");
    host.options.allow = vec![BEN..=BEN];
    // One slice of a file, of a thousand records, and then nothing for a quarter of an hour.
    host.options.user_rate = RateLimits { count: 1, bytes: 0 };
    host.start();
    let records = host.arrived(2_000).await;
    let next = check_in_order(&records);
    assert_eq!(next["alice"], 1_000);
    assert_eq!(next["ben"], 1_000, "of another user");
    // Held back at the door and in the directory, and nothing of it is gone.
    assert!(host.relay().stats().spill_held_back >= 2);
    assert_eq!(host.spill_files().len(), 4);
    host.stop().await;
    host.options.user_rate = RateLimits::default();
    host.start();
    check_in_order(&host.arrived(6_000).await);
}

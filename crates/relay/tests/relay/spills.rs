//! Spill files: written while the relay is away, taken in once and in order.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;
use std::time::Duration;

use dovecast_relay::client::{Client, News, Options};
use dovecast_relay::wire::WireRecord;
use uuid::Uuid;

use crate::{Host, PATIENCE, check_in_order, finish, id, is_aside, push, send};

/// Waits until no spill file is left.
async fn all_taken_in(host: &Host) {
    let taken = async {
        while !host.spill_files().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let taken = tokio::time::timeout(PATIENCE, taken).await;
    assert!(taken.is_ok(), "still there: {:?}", host.spill_files());
}

fn is_lost(news: &[News]) -> bool {
    news.iter().any(|news| matches!(news, News::Lost { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_never_there_gets_everything_when_it_comes() {
    let mut host = Host::new();
    host.make_spill_dir();
    for process in 0..3 {
        let mut client = host.client();
        let from = process * 10;
        send(&mut client, "alice", from..from + 10);
        let news = finish(client);
        assert!(!is_lost(&news), "{news:?}");
    }
    let files = host.spill_files();
    assert_eq!(files.len(), 3, "{files:?}");
    let mode = fs::metadata(host.spill_dir().join(&files[0])).expect("it");
    assert_eq!(mode.mode() & 0o777, 0o640, "the relay's group reads it");
    host.start();
    let records = host.arrived(30).await;
    // The ids of the files ascend with time, and each file's first record is later than the last of
    // the one before.
    check_in_order(&records);
    all_taken_in(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_the_relay_is_away_loses_nothing() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    send(&mut client, "alice", 0..5);
    // No end of the process, no exit handler.
    std::mem::forget(client);
    host.start();
    check_in_order(&host.arrived(5).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spilled_comes_before_what_is_sent_after_it() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    send(&mut client, "alice", 0..10);
    host.start();
    client.retry_now();
    send(&mut client, "alice", 10..20);
    host.stop().await;
    send(&mut client, "alice", 20..30);
    host.start();
    client.retry_now();
    send(&mut client, "alice", 30..40);
    assert!(!is_lost(&finish(client)));
    let records = host.arrived(40).await;
    check_in_order(&records);
    all_taken_in(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_spilled_when_the_relay_is_back() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    // Until the timer would look for the relay every few seconds only.
    for number in 0..5 {
        client.retry_now();
        send(&mut client, "alice", number..number + 1);
    }
    let files = host.spill_files();
    // Open, so that its length can be asked for when it is gone.
    let file = File::open(host.spill_dir().join(&files[0])).expect("the spill file");
    let length = || file.metadata().expect("its length").len();
    let before = length();
    host.start();
    send(&mut client, "alice", 5..6);
    assert_eq!(length(), before, "another process may send at once");
    check_in_order(&host.arrived(6).await);
    // What is spilled when the relay goes once more follows.
    host.stop().await;
    send(&mut client, "alice", 6..7);
    assert!(!is_lost(&finish(client)));
    host.start();
    check_in_order(&host.arrived(7).await);
    all_taken_in(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_relay_costs_nothing_but_a_bounded_wait_at_the_end() {
    let mut host = Host::new();
    host.make_spill_dir();
    // Accepts nobody, reads nothing.
    let hung = std::os::unix::net::UnixListener::bind(host.socket()).expect("a socket");
    let mut client = Client::new(Options {
        queue_bytes: 64 * 1024,
        ..host.client_options()
    });
    for number in 0..10_000 {
        push(&mut client, "alice", number);
        if number % 10 == 9 {
            client.flush();
        }
    }
    client.finish(std::time::Instant::now() + Duration::from_millis(100));
    assert!(!is_lost(&client.take_news()));
    drop((client, hung));
    fs::remove_file(host.socket()).expect("the socket");
    host.start();
    check_in_order(&host.arrived(10_000).await);
    all_taken_in(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_taken_in_once_though_the_relay_ends_in_the_middle() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    send(&mut client, "alice", 0..5000);
    std::mem::forget(client);
    for _ in 0..5 {
        host.start();
        // Any moment will do, also one before or behind all of the file.
        tokio::time::sleep(Duration::from_millis(3)).await;
        host.stop().await;
    }
    host.start();
    check_in_order(&host.arrived(5000).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_file_gives_every_whole_record_and_is_kept() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    send(&mut client, "alice", 0..3);
    drop(finish(client));
    let files = host.spill_files();
    let path = host.spill_dir().join(&files[0]);
    let length = fs::metadata(&path).expect("it").len();
    let file = File::options().write(true).open(&path).expect("it");
    file.set_len(length - 5).expect("cut");
    drop(file);
    host.start();
    check_in_order(&host.arrived(2).await);
    let kept = async {
        let is_kept = |there: &[String]| matches!(there, [name] if name.starts_with(&files[0]) && is_aside(name));
        while !is_kept(&host.spill_files()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, kept)
        .await
        .expect("it is kept");
    assert_eq!(host.relay().stats().spill_torn, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_proper_file_is_left_alone() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    send(&mut client, "alice", 0..1);
    drop(finish(client));
    let real = host.spill_dir().join(&host.spill_files()[0]);
    let outside = host.dir.path().join("outside");
    fs::rename(&real, &outside).expect("moved");
    let dir = host.spill_dir();
    let inside = |name: &str| dir.join(name);
    symlink(&outside, inside("a.spill")).expect("a link");
    fs::copy(&outside, inside("b.spill")).expect("a copy");
    fs::hard_link(inside("b.spill"), host.dir.path().join("other")).expect("a name");
    let made = Command::new("mkfifo").arg(inside("c.spill")).status();
    assert!(made.expect("mkfifo").success());
    fs::create_dir(inside("d.spill")).expect("a directory");
    fs::copy(&outside, inside("e.spill")).expect("a copy");
    let is_root = fs::metadata("/proc/self").expect("proc").uid() == 0;
    if is_root {
        chown(inside("e.spill"), Some(65_534), None).expect("given away");
    } else {
        fs::remove_file(inside("e.spill")).expect("removed");
        println!("*** not root: a file of another user could not be tried");
    }
    for (name, mode) in [("f.spill", 0o660), ("g.spill", 0o602)] {
        fs::copy(&outside, inside(name)).expect("a copy");
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(inside(name), permissions).expect("its own");
    }
    fs::copy(&outside, inside(".f.spill")).expect("a copy");
    fs::copy(&outside, inside("g")).expect("a copy");
    let before = host.spill_files();
    host.start();
    let expected = if is_root { 7 } else { 6 };
    let refused = async {
        while host.relay().stats().spill_refused < expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, refused).await;
    assert!(done.is_ok(), "{:?}", host.relay().stats());
    // Looked at again, when what comes now is taken in, and counted once.
    for at in 0..2 {
        let name = format!("z{at}.spill");
        fs::copy(&outside, inside(&name)).expect("a copy");
        let is_there = || host.spill_files().contains(&name);
        let taken = async {
            while is_there() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let taken = tokio::time::timeout(PATIENCE, taken).await;
        assert!(taken.is_ok(), "{:?}", host.spill_files());
    }
    assert_eq!(host.relay().stats().spill_refused, expected);
    assert_eq!(host.spill_files(), before);
    // Both have the same record.
    host.arrived(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_directory_what_does_not_fit_is_counted_as_lost() {
    let host = Host::new();
    let mut client = Client::new(Options {
        queue_bytes: 16 * 1024,
        ..host.client_options()
    });
    for number in 0..1000 {
        push(&mut client, "alice", number);
        client.flush();
    }
    let news = finish(client);
    let lost: u64 = news
        .iter()
        .map(|news| match news {
            News::Lost { records, .. } => *records,
            News::Trouble(_) => 0,
        })
        .sum();
    assert_eq!(lost, 1000, "every one is counted: {news:?}");
    let troubles = news
        .iter()
        .filter(|news| matches!(news, News::Trouble(_)))
        .count();
    assert!(troubles <= 2, "not once for each record: {news:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_made_with_the_right_mode() {
    let host = Host::started();
    let mode = fs::metadata(host.spill_dir()).expect("it").permissions();
    assert_eq!(mode.mode() & 0o7777, 0o3733);
}

/// A record that is larger than what may wait in memory, with a relay and without.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_larger_than_the_queue_goes_alone() {
    let mut host = Host::new();
    host.make_spill_dir();
    let push_large = |client: &mut Client, number: u32| {
        client.push(&WireRecord {
            topic: "dovecot",
            key: " ".repeat(20 * 1024).as_bytes(),
            value: format!("alice {number}").as_bytes(),
            time_ms: 0,
            id: id("alice", number),
            txn: Uuid::nil(),
            txn_seq: 0,
            txn_last: true,
        });
        client.flush();
    };
    let options = Options {
        queue_bytes: 16 * 1024,
        ..host.client_options()
    };
    let mut client = Client::new(options.clone());
    push_large(&mut client, 0);
    assert_eq!(host.spill_files().len(), 1);
    assert!(!is_lost(&finish(client)));
    host.start();
    host.arrived(1).await;
    all_taken_in(&host).await;
    let mut client = Client::new(options);
    for number in 1..4 {
        push_large(&mut client, number);
        while let Some(next) = client.serve() {
            tokio::time::sleep(next).await;
        }
    }
    let news = finish(client);
    assert!(news.is_empty(), "{news:?}");
    check_in_order(&host.arrived(4).await);
    let stats = host.relay().stats();
    assert_eq!((stats.accepted, stats.spill_records), (1, 1));
}

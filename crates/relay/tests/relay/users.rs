//! A process that serves many users, as LMTP does: of each there is a client, and all together are
//! within the bounds of one.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use dovecast_relay::client::{News, Options, UserClients};
use dovecast_relay::wire::WireRecord;
use uuid::Uuid;

use crate::trust::serve_until_due;
use crate::{Host, check_in_order, id};

/// Descriptors of clients that are not in use, and those of the one that is.
const MAX_DESCRIPTORS: usize = 16 + 2;

thread_local! {
    static USER: Cell<u32> = const { Cell::new(0) };
}

fn clients(host: &Host, queue_bytes: usize) -> UserClients {
    let options = Options {
        queue_bytes,
        ..host.client_options()
    };
    UserClients::of_users(options, || USER.get())
}

/// One transaction with one record as a user, with so many bytes in it besides.
fn push_as(clients: &mut UserClients, user: u32, number: u32, bytes: usize) {
    USER.set(user);
    let name = format!("u{user}");
    clients.push(&WireRecord {
        topic: "dovecot",
        key: format!("{name}{}", " ".repeat(bytes)).as_bytes(),
        value: format!("{name} {number}").as_bytes(),
        time_ms: 0,
        id: id(&name, number),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    });
    clients.flush();
}

fn check_none_lost(clients: &mut UserClients) {
    let news = clients.take_news();
    let is_lost = |news: &News| matches!(news, News::Lost { .. });
    assert!(!news.iter().any(is_lost), "{news:?}");
}

/// How many files of the spill directory this process has open.
fn open_files(host: &Host) -> usize {
    let dir = host.spill_dir();
    let open = fs::read_dir("/proc/self/fd")
        .expect("proc")
        .filter(|entry| {
            let path = entry.as_ref().map(fs::DirEntry::path).ok();
            let to = path.and_then(|path| fs::read_link(path).ok());
            to.is_some_and(|to| to.starts_with(&dir))
        });
    open.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_have_few_files_open_while_the_relay_is_away_and_one_file_each() {
    const USERS: u32 = 60;
    let mut host = Host::new();
    host.make_spill_dir();
    let mut clients = clients(&host, 1 << 20);
    for round in 0..3 {
        for user in 1..=USERS {
            push_as(&mut clients, user, round, 0);
            let open = open_files(&host);
            assert!(open <= MAX_DESCRIPTORS, "{open} files are open");
        }
    }
    assert_eq!(host.spill_files().len(), USERS as usize);
    host.start();
    for user in 1..=USERS {
        push_as(&mut clients, user, 3, 0);
    }
    clients.finish(Instant::now() + Duration::from_secs(1));
    check_none_lost(&mut clients);
    check_in_order(&host.arrived(USERS as usize * 4).await);
}

#[test]
fn a_file_that_waits_for_its_user_needs_no_timer() {
    let host = Host::new();
    host.make_spill_dir();
    let mut clients = clients(&host, 1 << 20);
    for user in 1..=20 {
        push_as(&mut clients, user, 0, 0);
    }
    assert_eq!(host.spill_files().len(), 20);
    // Between two mails the process is root, for however long.
    USER.set(0);
    assert_eq!(clients.serve(), None);
    USER.set(7);
    assert!(clients.serve().is_some(), "its user may connect");
    check_none_lost(&mut clients);
}

/// A relay that turns clients away, and takes in what they leave meanwhile, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_taken_in_while_their_writers_come_back_to_them_lose_nothing() {
    const USERS: u32 = 40;
    const ROUNDS: u32 = 40;
    let mut host = Host::new();
    host.options.max_clients = 0;
    host.options.spill_interval = Duration::from_millis(1);
    host.start();
    let mut clients = clients(&host, 1 << 20);
    for round in 0..ROUNDS {
        for user in 1..=USERS {
            push_as(&mut clients, user, round, 0);
        }
    }
    clients.finish(Instant::now());
    check_none_lost(&mut clients);
    check_in_order(&host.arrived((USERS * ROUNDS) as usize).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_users_together_hold_what_one_may_while_the_relay_hangs() {
    const QUEUE_BYTES: usize = 64 * 1024;
    let mut host = Host::new();
    host.make_spill_dir();
    // Accepts nobody, reads nothing.
    let hung = UnixListener::bind(host.socket()).expect("a socket");
    let mut clients = clients(&host, QUEUE_BYTES);
    for round in 0..2 {
        for user in 1..=30 {
            push_as(&mut clients, user, round, 8 * 1024);
            let bytes = clients.waiting_bytes();
            assert!(bytes <= QUEUE_BYTES, "{bytes} bytes are in memory");
        }
    }
    clients.finish(Instant::now());
    check_none_lost(&mut clients);
    drop(hung);
    fs::remove_file(host.socket()).expect("the socket");
    host.start();
    check_in_order(&host.arrived(60).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn root_between_two_users_leaves_files_of_theirs_and_connects_for_none() {
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        println!("*** not root: a file of another user could not be tried");
        return;
    }
    let mut host = Host::new();
    host.make_spill_dir();
    let ends = UnixListener::bind(host.socket()).expect("a socket");
    let mut clients = clients(&host, 1 << 20);
    push_as(&mut clients, 10_001, 0, 0);
    assert_eq!(host.spill_files().len(), 0);
    // What it has sent nobody has acknowledged.
    drop(ends);
    fs::remove_file(host.socket()).expect("the socket");
    USER.set(0);
    clients.serve();
    let files = host.spill_files();
    assert_eq!(files.len(), 1, "{files:?}");
    let there = fs::metadata(host.spill_dir().join(&files[0])).expect("a file");
    assert_eq!(there.uid(), 10_001);
    host.options.allow = vec![10_000..=19_999];
    host.start();
    serve_until_due(&mut clients).await;
    let records = host.arrived(1).await;
    let uid = records[0]
        .headers
        .iter()
        .find(|header| &*header.name == "dovecast-uid");
    assert_eq!(uid.map(|header| &*header.value), Some(&b"10001"[..]));
    assert_eq!(host.relay().stats().accepted, 0);
    clients.finish(Instant::now());
    check_none_lost(&mut clients);
}

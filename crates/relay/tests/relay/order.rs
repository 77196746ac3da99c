//! Order within one process: it holds through every way in which a relay can turn a client away, at
//! any moment.
//!
//! Clients are real; what they meet is a relay, or a peer that does what a relay does when it turns
//! somebody away. Which way comes when, and how much each client sends, is drawn from a fixed seed.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dovecast_relay::client::{Client, News, Options};
use dovecast_relay::wire::{self, Refusal};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

use crate::{Host, PATIENCE, check_in_order, finish, push, send};

/// Stories, each with all ways in another order and about as many pairs of them as there are ways;
/// the relay gathers in every second one.
const SEEDS: u64 = 6;

/// How a relay turns clients away.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// There is no socket.
    NoSocket,
    /// There is a socket that a dead relay has left.
    NotListening,
    /// Nobody accepts, and there is no more room for those who wait.
    BacklogFull,
    /// Accepted, and neither read nor answered.
    Hangs,
    /// Closed when this was read.
    Closes(After),
    /// Refused when this was read.
    Refuses(Refusal, After),
    /// For a reason of a later version.
    RefusesUnknown(After),
    /// Half of the refusal arrives.
    RefusesHalf(After),
    /// Answers what no relay says.
    Nonsense(After),
    /// A relay with as many clients as it takes.
    RelayIsFull,
    /// A relay takes what comes, and is stopped.
    RelayStops,
    /// A relay takes what comes, until its log is closed under it.
    RelayDies,
}

#[derive(Clone, Copy, Debug)]
enum After {
    /// Nothing: at once.
    Accepting,
    /// Some of a frame.
    Bytes(usize),
    /// All that was sent, or what is sent within a moment.
    All,
}

fn ways() -> Vec<Way> {
    let afters = [
        After::Accepting,
        After::Bytes(3),
        After::Bytes(70),
        After::All,
    ];
    let reasons = [
        Refusal::Peer,
        Refusal::Version,
        Refusal::Malformed,
        Refusal::Busy,
        Refusal::Stopping,
    ];
    let mut ways = vec![
        Way::NoSocket,
        Way::NotListening,
        Way::BacklogFull,
        Way::Hangs,
        Way::RelayIsFull,
        Way::RelayStops,
        Way::RelayDies,
        Way::RelayStops,
    ];
    for after in afters {
        ways.extend(reasons.map(|reason| Way::Refuses(reason, after)));
        ways.extend([
            Way::Closes(after),
            Way::RefusesUnknown(after),
            Way::RefusesHalf(after),
            Way::Nonsense(after),
        ]);
    }
    ways
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("small")
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.throw(last + 1));
        }
    }
}

/// What clients find at the socket for some time.
enum Met {
    Nothing,
    Listener(#[expect(dead_code, reason = "kept open")] Vec<std::os::fd::OwnedFd>),
    Peer(Peer),
    Relay,
}

/// Turns each client away in the same way.
struct Peer {
    stopping: Arc<AtomicBool>,
    turned_away: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Peer {
    fn start(host: &Host, way: Way) -> Self {
        let listener = UnixListener::bind(host.socket()).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        let stopping = Arc::<AtomicBool>::default();
        let turned_away = Arc::<AtomicU32>::default();
        let (ends, counts) = (Arc::clone(&stopping), Arc::clone(&turned_away));
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        kept.extend(turn_away(stream, way));
                        counts.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Self {
            stopping,
            turned_away,
            thread,
        }
    }

    fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().expect("a peer");
    }
}

/// The connection, where the client is kept waiting.
fn turn_away(mut stream: UnixStream, way: Way) -> Option<UnixStream> {
    let mut said = Vec::new();
    let after = match way {
        Way::Hangs => return Some(stream),
        Way::Closes(after) => after,
        Way::Refuses(reason, after) => {
            wire::write_refused(&mut said, reason, "as the test wants it");
            after
        }
        Way::RefusesUnknown(after) => {
            wire::write_refused(&mut said, Refusal::Peer, "as the test wants it");
            said[wire::FRAME_HEAD_BYTES] = 99;
            after
        }
        Way::RefusesHalf(after) => {
            wire::write_refused(&mut said, Refusal::Busy, "as the test wants it");
            said.truncate(9);
            after
        }
        Way::Nonsense(after) => {
            said.extend_from_slice(b"220 mail1 ESMTP\r\n");
            after
        }
        other => panic!("{other:?} needs no peer"),
    };
    stream.set_nonblocking(false).expect("a socket");
    let moment = Some(Duration::from_millis(20));
    stream.set_read_timeout(moment).expect("a socket");
    // A client that sends less is turned away all the same.
    let _ = match after {
        After::Accepting => Ok(()),
        After::Bytes(count) => stream.read_exact(&mut vec![0; count]),
        After::All => stream.read_to_end(&mut Vec::new()).map(|_| ()),
    };
    let _ = stream.write_all(&said);
    None
}

/// A listener whose backlog is full.
fn full_backlog(host: &Host) -> Vec<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
    let address = SocketAddrUnix::new(host.socket()).expect("an address");
    let listener = socket();
    rustix::net::bind(&listener, &address).expect("bound");
    rustix::net::listen(&listener, 1).expect("it listens");
    let mut kept = vec![listener];
    loop {
        let client = socket();
        if rustix::net::connect(&client, &address).is_err() {
            return kept;
        }
        kept.push(client);
    }
}

fn begin(host: &mut Host, way: Way) -> Met {
    // Left by whoever was there before.
    let _ = fs::remove_file(host.socket());
    match way {
        Way::NoSocket => Met::Nothing,
        Way::NotListening => {
            drop(UnixListener::bind(host.socket()).expect("a socket"));
            Met::Nothing
        }
        Way::BacklogFull => Met::Listener(full_backlog(host)),
        Way::RelayIsFull | Way::RelayStops | Way::RelayDies => {
            host.options.max_clients = if matches!(way, Way::RelayIsFull) {
                0
            } else {
                100
            };
            host.start();
            Met::Relay
        }
        way => Met::Peer(Peer::start(host, way)),
    }
}

async fn end(host: &mut Host, way: Way, met: Met) {
    match met {
        Met::Nothing | Met::Listener(_) => {}
        Met::Peer(peer) => peer.stop(),
        Met::Relay if matches!(way, Way::RelayDies) => {
            let (relay, log) = host.running.take().expect("it runs");
            log.close().await;
            relay.stop().await;
        }
        Met::Relay => host.stop().await,
    }
}

/// One process.
struct Process {
    user: String,
    client: Client,
    sent: u32,
}

impl Process {
    /// Some events, in one transaction or one each.
    fn send(&mut self, count: u32, dice: &mut Dice) {
        let is_one = dice.throw(2) == 0;
        for _ in 0..count {
            push(&mut self.client, &self.user, self.sent);
            self.sent += 1;
            if !is_one {
                self.client.flush();
            }
        }
        self.client.flush();
    }
}

async fn story(seed: u64) {
    let mut dice = Dice(seed);
    let mut host = Host::new();
    host.options.commit_interval = Duration::from_millis(2 * (seed % 2));
    host.make_spill_dir();
    let mut processes: Vec<Process> = (0..8)
        .map(|i| Process {
            user: format!("user{i}"),
            client: Client::new(Options {
                // Small enough to be full now and then.
                queue_bytes: if i % 2 == 0 { 1024 * 1024 } else { 64 * 1024 },
                ..host.client_options()
            }),
            sent: 0,
        })
        .collect();
    let mut ways = ways();
    dice.shuffle(&mut ways);
    let flood = dice.throw(ways.len());
    for (i, way) in ways.into_iter().enumerate() {
        let met = begin(&mut host, way);
        for process in &mut processes {
            let count = [0, 1, 1, 2, 30][dice.throw(5)];
            process.send(count, &mut dice);
        }
        if i == flood {
            processes[0].send(10_000, &mut dice);
        }
        for process in &mut processes {
            // As if a retry were due, for some.
            if dice.throw(3) > 0 {
                process.client.retry_now();
            }
            process.client.serve();
        }
        // For some the timer runs off before the relay has turned them away, for some after it.
        if dice.throw(2) == 0
            && let Met::Peer(peer) = &met
        {
            let before = peer.turned_away.load(Ordering::Relaxed);
            let user = &mut processes[0];
            user.client.retry_now();
            user.send(1, &mut dice);
            let turned_away = async {
                while peer.turned_away.load(Ordering::Relaxed) == before {
                    user.client.serve();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            // A client that is connected already is not turned away again.
            let _ = tokio::time::timeout(Duration::from_millis(100), turned_away).await;
            for process in &mut processes {
                process.client.serve();
            }
        }
        end(&mut host, way, met).await;
    }
    let _ = fs::remove_file(host.socket());
    host.options.max_clients = 100;
    host.start();
    let mut count = 0;
    for mut process in processes {
        process.client.retry_now();
        process.send(1, &mut dice);
        count += process.sent;
        let news = finish(process.client);
        let is_lost = news.iter().any(|news| matches!(news, News::Lost { .. }));
        assert!(!is_lost, "seed {seed}: {news:?}");
    }
    let records = host.arrived(usize::try_from(count).expect("small")).await;
    assert_eq!(check_in_order(&records).len(), 8, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn order_holds_through_every_way_of_being_turned_away() {
    for seed in 1..=SEEDS {
        story(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)).await;
    }
}

/// Calls the client's timer until it has this to tell.
async fn told(client: &mut Client, expected: &str) {
    let mut all = Vec::new();
    let told = async {
        loop {
            client.serve();
            all.extend(client.take_news());
            if format!("{all:?}").contains(expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    assert!(told.is_ok(), "not `{expected}`: {all:?}");
}

/// A process that changes its user, as `lmtp` does: its file is of one who may not send, its
/// connection of one who may.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_file_is_refused_waits_until_it_is_taken_in() {
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        println!("*** not root: a file of another user could not be tried");
        return;
    }
    for count in [1, 10_000] {
        let mut host = Host::new();
        host.make_spill_dir();
        let mut client = host.client();
        send(&mut client, "alice", 0..1);
        let file = host.spill_dir().join(&host.spill_files()[0]);
        chown(&file, Some(65_534), None).expect("given away");
        host.start();
        client.retry_now();
        told(
            &mut client,
            "it refuses: its spill file is not taken in: uid 65534 may not send",
        )
        .await;
        send(&mut client, "alice", 1..1 + count);
        client.retry_now();
        send(&mut client, "alice", 1 + count..2 + count);
        host.stop().await;
        host.options.allow = vec![65_534..=65_534];
        host.start();
        client.retry_now();
        send(&mut client, "alice", 2 + count..3 + count);
        assert!(!format!("{:?}", finish(client)).contains("Lost"));
        let count = usize::try_from(count).expect("small");
        check_in_order(&host.arrived(count + 3).await);
    }
}

/// What `finish` leaves behind comes before what the same client sends after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_on_after_its_end_stays_in_order() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    send(&mut client, "alice", 0..3);
    client.finish(std::time::Instant::now());
    send(&mut client, "alice", 3..6);
    host.start();
    client.retry_now();
    send(&mut client, "alice", 6..9);
    assert!(!format!("{:?}", finish(client)).contains("Lost"));
    check_in_order(&host.arrived(9).await);
}

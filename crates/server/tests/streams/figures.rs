//! Figures of many streams: memory of a connection, and time from the log to the clients. No bar is
//! asserted; they are printed.
//!
//! `DOVECAST_STREAMS=10000 cargo test --release -p dovecast-server --test streams figures --
//! --nocapture` measures so many of each kind; without it a few show that it runs.

use std::env;
use std::fs;
use std::time::Duration;

use dovecast_testkit::clock::now_ms;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::client::World;

/// Streams of one person: as many as may be.
const PER_PERSON: usize = 1000;
/// Rounds of one event to each stream.
const ROUNDS: u32 = 5;
/// Clients that connect at the same time: fewer than wait in a socket's backlog.
const CONNECTING: usize = 64;

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_many_streams() {
    let count = env::var("DOVECAST_STREAMS").ok();
    let count = count.map_or(20, |text| text.parse().expect("a number"));
    // Each has a descriptor here and one in the server.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("a limit");
    for (name, path, more) in [("SSE", "events", ""), ("WebSocket", "ws", UPGRADE)] {
        measure(name, (path, more), count).await;
    }
}

async fn measure(name: &str, (path, more): (&str, &str), count: usize) {
    // No pings: clients of this kind answer none.
    let world = World::start(&format!("max_streams = {PER_PERSON}\nping_seconds = 3600"));
    let persons = count.div_ceil(PER_PERSON);
    let tokens: Vec<String> = (0..persons)
        .map(|person| world.token("3", &person.to_string()).0)
        .collect();
    let pid = world.server.pid();
    let before = resident_kib(pid);
    let (told, mut tellings) = mpsc::unbounded_channel();
    let address = world.server.address().expect("an address");
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTING));
    for number in 0..count {
        let token = &tokens[number / PER_PERSON];
        let head =
            format!("GET /api/push/v1/{path}?session={token} HTTP/1.1\r\nhost: a\r\n{more}\r\n");
        let place = places.clone().acquire_owned().await.expect("a place");
        let told = told.clone();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(head.as_bytes()).await.expect("sent");
            let mut reader = BufReader::with_capacity(1024, stream);
            let mut line = Vec::new();
            while line != b"\r\n" {
                line.clear();
                reader.read_until(b'\n', &mut line).await.expect("a head");
            }
            drop(place);
            // Frames of both kinds have the cursor, which begins with the time of the record.
            loop {
                line.clear();
                // JSON of a frame ends so, and so does an event of SSE.
                let read = reader.read_until(b'}', &mut line).await;
                if !read.is_ok_and(|bytes| bytes > 0) {
                    return;
                }
                let text = String::from_utf8_lossy(&line);
                let mut found = ["id: ", "\"id\":\""]
                    .iter()
                    .filter_map(|mark| text.rsplit_once(mark));
                if let Some((_, rest)) = found.next_back() {
                    let time = rest
                        .split('.')
                        .next()
                        .and_then(|text| text.parse::<i64>().ok());
                    let _ = told.send(now_ms().saturating_sub(time.unwrap_or_default()));
                }
            }
        });
    }
    world.streams(u32::try_from(count).expect("a count"));
    let each = resident_kib(pid).saturating_sub(before) * 1024 / count as u64;
    let mut all = Vec::new();
    for uid in 1..=ROUNDS {
        std::thread::scope(|scope| {
            for person in 0..persons {
                let world = &world;
                scope.spawn(move || world.mail(&format!("{person}@3"), uid));
            }
        });
        for _ in 0..count {
            let told = tokio::time::timeout(Duration::from_mins(2), tellings.recv()).await;
            all.push(told.expect("in time").expect("a client"));
        }
    }
    all.sort_unstable();
    let at = |share: usize| all[(all.len() - 1) * share / 1000];
    println!(
        "{name}: {count} streams, {each} bytes of memory each; from the record to the client \
         p50 {} ms, p99 {} ms, slowest {} ms",
        at(500),
        at(990),
        at(1000)
    );
    world.counted("stream_cut", 0);
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.expect("VmRSS").trim().trim_end_matches(" kB");
    text.parse().expect("a number")
}

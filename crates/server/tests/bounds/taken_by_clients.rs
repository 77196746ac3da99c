//! Memory that clients take of the server: heads of requests that do not end, frames that have not
//! arrived whole, frames of very many records, a spill file that is larger than any memory should
//! be. It is what the documentation says, and some room for what a process takes besides.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_relay::spill;
use dovecast_relay::wire::{self, Frame, Hello, MAX_FRAME_BYTES};
use dovecast_testkit::process::{ProcessStats, poll_until};
use dovecast_testkit::server::Server;
use dovecast_testkit::{PATIENCE, as_user, may_act_as_others};

use crate::spills::{HONEST, MAIL_USER, ann_is_told_of, client};
use crate::{builder, event, record};

/// What a server may take besides, in KiB: pages of its program that are used for the first time,
/// caches of SQLite, what the allocator keeps. Each case takes more where there is no bound.
const ROOM_KB: usize = 96 * 1024;
/// Requests whose heads do not end, and how long one may be.
const HEADS: u32 = 300;
const HEAD_KB: usize = 32;
/// Mail processes that have sent a frame but for its end, and the share of one user of all memory
/// for such, in whole frames and in KiB.
const UNFINISHED: usize = 60;
const WHOLE_FRAMES: u32 = 15;
const SHARE_KB: usize = 64 * 1024;
/// What is read of each of them besides, in KiB.
const READ_KB: usize = 16;
/// Mail processes that send a frame of records without content, and what of its records may wait
/// for the log besides the frame, in KiB (`max_client_kb` of [relay]).
const FRAMES: usize = 4;
const MAX_CLIENT_KB: usize = 256;
/// How long the records of these may take in a build that is not optimised.
const TAKEN_IN: Duration = Duration::from_mins(10);
/// Records of a spill file, each of so many bytes, and what of them is in memory at a time, in KiB.
const SPILLED: u32 = 3_200;
const SPILLED_BYTES: usize = 64 * 1024;
const SLICE_KB: usize = 1024;

/// Memory of a server, in KiB.
fn resident_kb(server: &Server) -> Result<u64> {
    Ok(ProcessStats::of(server.pid())?.rss_kb)
}

/// Fails where a server has taken more than is documented, and some room.
fn check(before_kb: u64, after_kb: u64, documented_kb: usize) -> Result<()> {
    let taken = after_kb.saturating_sub(before_kb);
    ensure!(
        taken <= u64::try_from(documented_kb + ROOM_KB)?,
        "{taken} KiB are taken, of which {documented_kb} are documented"
    );
    Ok(())
}

/// Sockets at this port of the server, with bytes on their way that were not read.
fn unread(port: u16) -> Result<usize> {
    let table = fs::read_to_string("/proc/net/tcp").context("cannot read `/proc/net/tcp`")?;
    let port = format!(":{port:04X}");
    let is_unread = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = fields[..] else {
            return false;
        };
        let (sent, received) = queues.split_once(':').unwrap_or_default();
        let has_some = |queue: &str| queue.bytes().any(|digit| digit != b'0');
        local.ends_with(&port) && has_some(received) || remote.ends_with(&port) && has_some(sent)
    };
    Ok(table.lines().skip(1).filter(is_unread).count())
}

#[test]
fn heads_that_do_not_end_take_what_a_head_may_have() -> Result<()> {
    let server = builder()
        .http("header_timeout_seconds = 3600\nmax_connections_per_address = 0")
        .start()?;
    let address = server.address()?;
    let before = resident_kb(&server)?;
    for (bytes, kept) in [(31_000, HEADS), (390_000, 0)] {
        let head = format!(
            "GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}",
            "y".repeat(bytes)
        );
        let mut streams = Vec::new();
        for _ in 0..HEADS {
            let mut stream = TcpStream::connect(address)?;
            // Of a long one the server has had enough before it is sent.
            stream.write_all(head.as_bytes()).ok();
            streams.push(stream);
        }
        let kept = f64::from(kept);
        server.metric_is("dovecast_http_connections", |open| {
            (open - kept).abs() < 0.5
        })?;
        let all_read = poll_until(PATIENCE, || {
            (unread(address.port()).ok()? == 0).then_some(())
        });
        all_read.context("not all is read")?;
        let documented = usize::try_from(HEADS)? * HEAD_KB;
        check(before, resident_kb(&server)?, documented)?;
    }
    Ok(())
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = Hello {
        version: wire::VERSION,
        host: "mail1",
        program: "imap",
        spill: "",
    };
    wire::write_hello(&mut bytes, &hello);
    bytes
}

/// The longest frame there may be, without its last byte.
fn unfinished_frame() -> Vec<u8> {
    let mut bytes = hello();
    let at = wire::begin_records(&mut bytes);
    bytes.resize(at + size_of::<u32>() + MAX_FRAME_BYTES, 0);
    wire::end_records(&mut bytes[..], at, 1);
    bytes.pop();
    bytes
}

/// Waits until frames were read as far as there is memory for them, while another mail process
/// goes on.
fn all_that_find_room_are_read(server: &Server) -> Result<()> {
    let frame = u32::try_from(MAX_FRAME_BYTES)?;
    let whole = f64::from(WHOLE_FRAMES) * f64::from(frame);
    server.metric_is("dovecast_relay_received_bytes_total", |bytes| {
        bytes >= whole
    })?;
    let mut other = client(server);
    other.push(&record("dovecot", "ann", &event("ann", 1)));
    other.flush();
    other.finish(Instant::now() + PATIENCE);
    let news = other.take_news();
    ensure!(news.is_empty(), "{news:?}");
    ensure!(server.values("dovecot")? == [event("ann", 1)]);
    Ok(())
}

#[test]
fn frames_that_do_not_end_take_the_share_of_their_user() -> Result<()> {
    let server = builder()
        .roles(&["relay"])
        .config("unread_timeout_seconds = 3600")
        .start()?;
    let before = resident_kb(&server)?;
    let frame = unfinished_frame();
    let connect = |_| UnixStream::connect(server.relay_socket());
    let streams = (0..UNFINISHED).map(connect);
    let streams = streams.collect::<std::io::Result<Vec<_>>>()?;
    thread::scope(|senders| {
        for mut stream in &streams {
            let frame = &frame;
            // Ends with an error when the socket is shut down.
            senders.spawn(move || stream.write_all(frame).ok());
        }
        let read = all_that_find_room_are_read(&server);
        let after = resident_kb(&server);
        for stream in &streams {
            stream.shutdown(Shutdown::Both).ok();
        }
        read.with_context(|| server.server_log())?;
        check(before, after?, SHARE_KB + UNFINISHED * READ_KB)
    })
}

/// A hello and a frame with as many records as it can have, none of which says anything.
fn frame_of_empty_records() -> (Vec<u8>, u32) {
    let mut bytes = hello();
    let begin = bytes.len();
    let at = wire::begin_records(&mut bytes);
    let mut count = 0;
    while bytes.len() - begin < MAX_FRAME_BYTES - 100 {
        wire::write_record(&mut bytes, &record("t", "", ""));
        count += 1;
    }
    wire::end_records(&mut bytes[..], at, count);
    (bytes, count)
}

/// Sends a frame of these; gives how many records are acknowledged, of how many.
fn send_empty_records(server: &Server) -> Result<(u64, u32)> {
    let (bytes, count) = frame_of_empty_records();
    let mut stream = UnixStream::connect(server.relay_socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    let (mut rest, mut acknowledged) = (&said[..], 0);
    while let Some((frame, bytes)) = wire::read_frame(rest)? {
        if let Frame::Ack(records) = frame {
            acknowledged = records;
        }
        rest = &rest[bytes..];
    }
    Ok((acknowledged, count))
}

#[test]
fn of_frames_with_very_many_records_few_are_in_memory() -> Result<()> {
    let server = builder()
        .roles(&["relay"])
        .config("topics = ['t']")
        .config("[quota]\nrelay_kb_per_second = 0\nrelay_records_per_second = 0")
        // Ids that are known take memory, too.
        .config("[log]\ndedup_window_records = 1000")
        .start()?;
    let before = resident_kb(&server)?;
    let ended = AtomicUsize::new(0);
    thread::scope(|senders| {
        let senders: Vec<_> = (0..FRAMES)
            .map(|_| {
                senders.spawn(|| {
                    let sent = send_empty_records(&server);
                    ended.fetch_add(1, Ordering::Relaxed);
                    sent
                })
            })
            .collect();
        let mut most = before;
        let all = poll_until(TAKEN_IN, || {
            most = most.max(resident_kb(&server).unwrap_or(u64::MAX));
            (ended.load(Ordering::Relaxed) == FRAMES).then_some(())
        });
        all.context("not all is taken in")?;
        for sender in senders {
            let (acknowledged, count) = sender.join().expect("no panic")?;
            ensure!(
                acknowledged == u64::from(count),
                "{acknowledged} of {count}"
            );
        }
        let documented = FRAMES * (MAX_FRAME_BYTES / 1024 + MAX_CLIENT_KB);
        check(before, most, documented)
    })
}

/// Leaves a spill file of some hundred megabytes.
fn leave_large_file(server: &Server) -> Result<()> {
    let content = "x".repeat(SPILLED_BYTES);
    let first = record("large", "mallory", &content);
    let author = spill::Author::new("mail1", "imap");
    let mut writer = spill::Writer::create(server.spill_dir(), &author, &first, u64::MAX)?;
    for _ in 0..SPILLED {
        writer.push(&record("large", "mallory", &content));
        writer.flush()?;
    }
    Ok(())
}

#[test]
fn a_large_spill_file_is_taken_in_by_slices_beside_the_events_of_others() -> Result<()> {
    if !may_act_as_others("a large spill file") {
        return Ok(());
    }
    let server = builder()
        .roles(&["relay"])
        .config(&format!("allow = ['{HONEST}', '{MAIL_USER}']"))
        .config("topics = ['dovecot', 'large']")
        .config("[quota]\nrelay_kb_per_second = 0\nrelay_records_per_second = 0")
        .start()?;
    let before = resident_kb(&server)?;
    as_user(MAIL_USER, || leave_large_file(&server))?;
    ann_is_told_of(&server)?;
    let mut most = before;
    let taken = poll_until(TAKEN_IN, || {
        most = most.max(resident_kb(&server).unwrap_or(u64::MAX));
        let records = server.metric("dovecast_relay_spill_records_total").ok()?;
        (records >= f64::from(SPILLED)).then_some(())
    });
    taken.with_context(|| server.server_log())?;
    ensure!(server.values("dovecot")? == [event("ann", 1)]);
    check(before, most, SLICE_KB)
}

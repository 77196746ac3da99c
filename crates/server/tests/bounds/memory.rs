//! How much memory a server takes whose Kafka is away, while very much waits for it in large
//! records: no more than docs/operations.md says.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::process::ProcessStats;
use dovecast_testkit::server::Server;

use crate::{builder, send};

const OPERATIONS: &str = include_str!("../../../../docs/operations.md");
/// What is said there of every server, and of one whose log is Kafka.
const OF_EVERY_SERVER: &str = "**Memory**: about ";
const OF_KAFKA: &str = "With `kind = \"kafka\"` up to ";
/// Room for what a build takes besides that is not optimised, and for what its allocator keeps.
const DEV_BUILD_MB: u64 = 96;

/// A little less than a default Kafka takes.
const RECORD_BYTES: usize = 990_000;
/// All of them together are far more than the bound.
const RECORDS: usize = 500;

/// Memory has settled when it has not grown for so many looks.
const LOOKS: u32 = 30;
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[test]
fn what_waits_for_a_kafka_that_is_away_takes_no_more_memory_than_is_documented() -> Result<()> {
    let documented_mb = megabytes(OF_EVERY_SERVER)? + megabytes(OF_KAFKA)?;
    let bound_mb = documented_mb + DEV_BUILD_MB;
    let server = builder()
        .config("[log]\nkind = 'kafka'\n[kafka]\nbrokers = ['127.0.0.1:1']")
        .config("[quota]\nmessages_kb_per_second = 0")
        .start()?;
    let token = server.account_token("1")?;
    let message = "x".repeat(RECORD_BYTES);
    for _ in 0..RECORDS {
        send(&server, &token, &message)?;
    }
    server.metric_is("dovecast_ship_held_bytes", |bytes| bytes > 0.0)?;
    let peak_mb = settled(&server, bound_mb)?;
    println!("{peak_mb} MB, of {documented_mb} MB that are documented");
    ensure!(
        peak_mb < bound_mb,
        "the peak was {peak_mb} MB, and {documented_mb} MB are documented"
    );
    Ok(())
}

/// The number that is documented behind these words.
fn megabytes(words: &str) -> Result<u64> {
    let (_, rest) = OPERATIONS.split_once(words).context(words.to_owned())?;
    let (number, _) = rest.split_once(" MB").context(words.to_owned())?;
    Ok(number.parse()?)
}

/// The most memory that a server has had, once that grows no more, or is more than it may be.
fn settled(server: &Server, bound_mb: u64) -> Result<u64> {
    let (mut peak, mut looks) = (peak_mb(server)?, 0);
    while looks < LOOKS && peak < bound_mb {
        thread::sleep(LOOK_INTERVAL);
        let now = peak_mb(server)?;
        looks = if now > peak { 0 } else { looks + 1 };
        peak = now;
    }
    Ok(peak)
}

/// The most memory that a server has had.
fn peak_mb(server: &Server) -> Result<u64> {
    let kb = ProcessStats::of(server.pid())?.peak_kb;
    Ok(kb * 1024 / 1_000_000)
}

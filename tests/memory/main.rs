//! How much memory a process takes while very much waits for it: hundreds of records of 1 MiB, and
//! a Kafka that is away, hangs, or has all of them. Each case runs in a child process of its own,
//! whose peak (VmHWM) is read.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::kafka::{KafkaLog, KafkaOptions};
use dovecast_log::{Consumer, Log, NewRecord, Reader, StartAt};
use dovecast_relay::ship::{ShipOptions, Shipper};
use dovecast_testkit::mock_broker::{HungBroker, MockBroker};
use dovecast_testkit::process::ProcessStats;
use libtest_mimic::{Arguments, Failed, Trial};

/// A little less, so that a default Kafka takes them.
const RECORD_BYTES: usize = 990_000;
const RECORDS: u32 = 400;
const TOPIC: &str = "large";
/// The mock cluster keeps 5 MiB of a partition.
const PARTITIONS: i32 = 80;
/// What docs/operations.md says besides the 60 MB of a server, and what a test process takes by
/// itself. All records are 400 MB.
const BOUND_KB: u64 = 128 * 1024;

/// What the child does, the brokers, and a directory.
const CHILD: &str = "DOVECAST_MEMORY_CHILD";
const BROKERS: &str = "DOVECAST_MEMORY_BROKERS";
const SPOOL: &str = "DOVECAST_MEMORY_SPOOL";

/// Memory has settled when it has not grown for so many looks.
const LOOKS: u32 = 30;
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long something that has to come may take, on a machine that others use too.
const ARRIVAL: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    if let Ok(what) = std::env::var(CHILD) {
        return match child(&what) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error:?}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let trials = [
        ("a_shipper_whose_kafka_hangs_is_bounded", ship_hung as Case),
        ("a_shipper_whose_kafka_is_away_is_bounded", ship_away),
        ("a_reader_of_kafka_that_is_slow_is_bounded", read_kafka),
        ("a_consumer_of_kafka_that_is_slow_is_bounded", consume_kafka),
        ("a_reader_of_the_embedded_log_is_bounded", read_embedded),
    ];
    let trials = trials.map(|(name, case)| {
        Trial::test(name, move || {
            case().map_err(|error| Failed::from(dovecast_testkit::failure(&error)))
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

type Case = fn() -> Result<()>;

fn ship_hung() -> Result<()> {
    let broker = HungBroker::start()?;
    let spool = filled_spool()?;
    bounded("ship", &broker.bootstrap_servers(), spool.path())
}

fn ship_away() -> Result<()> {
    let spool = filled_spool()?;
    bounded("ship", "127.0.0.1:1", spool.path())
}

fn read_kafka() -> Result<()> {
    from_kafka("read")
}

fn consume_kafka() -> Result<()> {
    from_kafka("consume")
}

fn from_kafka(what: &str) -> Result<()> {
    let broker = MockBroker::start(1)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let log = kafka(&broker.bootstrap_servers())?;
    runtime()?.block_on(append(&log))?;
    bounded(what, &broker.bootstrap_servers(), Path::new("/nowhere"))
}

fn read_embedded() -> Result<()> {
    let spool = filled_spool()?;
    bounded("embedded", "", spool.path())
}

fn filled_spool() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    runtime()?.block_on(async {
        let spool = Embedded::open(dir.path(), &EmbeddedOptions::default())?;
        append(&spool).await?;
        spool.close().await;
        Ok(dir)
    })
}

async fn append(log: &impl Log) -> Result<()> {
    for first in (0..RECORDS).step_by(10) {
        let records = (first..first + 10).map(record).collect();
        log.append(records).await?;
    }
    Ok(())
}

fn record(number: u32) -> NewRecord {
    NewRecord {
        topic: Arc::from(TOPIC),
        key: Some(format!("user{number}").into()),
        value: vec![b'x'; RECORD_BYTES].into(),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

fn kafka(brokers: &str) -> Result<KafkaLog> {
    let properties = [
        // The mock cluster shares partitions out in no other way.
        ("partition.assignment.strategy", "range"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Ok(KafkaLog::connect(&KafkaOptions {
        brokers: brokers.to_owned(),
        properties: properties.map(owned).to_vec(),
    })?)
}

/// Runs a child, which says what its peak was.
fn bounded(what: &str, brokers: &str, spool: &Path) -> Result<()> {
    let output = Command::new(std::env::current_exe()?)
        .env(CHILD, what)
        .env(BROKERS, brokers)
        .env(SPOOL, spool)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}");
    let peak: u64 = said.trim().parse().with_context(|| said.clone())?;
    println!("{what}: {peak} kB");
    ensure!(
        peak < BOUND_KB,
        "the peak was {peak} kB, more than {BOUND_KB} kB"
    );
    Ok(())
}

fn child(what: &str) -> Result<()> {
    let brokers = std::env::var(BROKERS)?;
    let spool = std::env::var(SPOOL)?;
    let runtime = runtime()?;
    runtime.block_on(async {
        match what {
            "ship" => ship(&brokers, Path::new(&spool)).await,
            "read" => {
                let reader = kafka(&brokers)?.reader(TOPIC, StartAt::Beginning).await?;
                slowly(Feed::Reader(reader)).await
            }
            "consume" => {
                let topics = [TOPIC.to_owned()];
                let consumer = kafka(&brokers)?.consumer("readers", &topics).await?;
                slowly(Feed::Consumer(consumer)).await
            }
            _ => embedded(Path::new(&spool)).await,
        }
    })?;
    println!("{}", peak_kb()?);
    // What waits for Kafka would go on doing so.
    runtime.shutdown_background();
    Ok(())
}

async fn ship(brokers: &str, spool: &Path) -> Result<()> {
    let spool = Embedded::open(spool, &EmbeddedOptions::default())?;
    let shipper = Shipper::start(&spool, kafka(brokers)?, &ShipOptions::default());
    let read = async {
        while shipper.stats().held_bytes == 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::time::timeout(ARRIVAL, read)
        .await
        .context("nothing is read")?;
    settled().await
}

enum Feed {
    Reader(<KafkaLog as Log>::Reader),
    Consumer(<KafkaLog as Log>::Consumer),
}

/// Takes a record, waits until nothing more is fetched, then takes some more.
async fn slowly(mut feed: Feed) -> Result<()> {
    for _ in 0..3 {
        let next = async {
            match &mut feed {
                Feed::Reader(reader) => reader.next().await,
                Feed::Consumer(consumer) => consumer.next().await,
            }
        };
        let records = tokio::time::timeout(ARRIVAL, next)
            .await
            .context("nothing comes")??;
        ensure!(
            records.len() <= 2,
            "{} records were returned together",
            records.len()
        );
        settled().await?;
    }
    Ok(())
}

async fn embedded(spool: &Path) -> Result<()> {
    let log = Embedded::open(spool, &EmbeddedOptions::default())?;
    let mut reader = log.reader(TOPIC, StartAt::Beginning).await?;
    let mut read = 0;
    while read < RECORDS as usize {
        let records = tokio::time::timeout(ARRIVAL, reader.next()).await??;
        ensure!(
            records.len() <= 2,
            "{} records were returned together",
            records.len()
        );
        read += records.len();
    }
    Ok(())
}

async fn settled() -> Result<()> {
    let (mut peak, mut looks) = (peak_kb()?, 0);
    while looks < LOOKS {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = peak_kb()?;
        looks = if now > peak { 0 } else { looks + 1 };
        peak = now;
    }
    Ok(())
}

/// The most memory that this process has had.
fn peak_kb() -> Result<u64> {
    Ok(ProcessStats::of(std::process::id())?.peak_kb)
}

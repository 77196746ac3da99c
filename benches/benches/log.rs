//! Durable appends: the embedded log beside other stores and beside a plain file, which is the
//! limit.
//!
//! Eight clients append batches and wait for each to be durable. Every store has one writer that
//! takes all that waits into one commit, as the log has. Tables in markdown, on standard output.
//! `--quick` shows only that it runs, `--memory` what the log takes with ten million records.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Header, Log, NewRecord, Reader, StartAt};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use rusqlite::params;
use tokio::runtime::Runtime;

const CLIENTS: usize = 8;
const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

/// A store with one writer.
trait Store: Send {
    /// Appends, durably.
    fn commit(&mut self, records: &[Vec<u8>]) -> Result<()>;
    /// Reads everything; says how many records.
    fn read_all(&mut self) -> Result<usize>;
}

struct PlainFile(File, std::path::PathBuf);

impl Store for PlainFile {
    fn commit(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend_from_slice(&u32::try_from(record.len())?.to_le_bytes());
            bytes.extend_from_slice(record);
        }
        self.0.write_all(&bytes)?;
        self.0.sync_data()?;
        Ok(())
    }

    fn read_all(&mut self) -> Result<usize> {
        let mut bytes = Vec::new();
        File::open(&self.1)?.read_to_end(&mut bytes)?;
        let (mut at, mut count) = (0, 0);
        while let Some(length) = bytes.get(at..at + 4) {
            at += 4 + usize::try_from(u32::from_le_bytes(length.try_into()?))?;
            count += 1;
        }
        Ok(count)
    }
}

struct Sqlite(rusqlite::Connection);

impl Store for Sqlite {
    fn commit(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let transaction = self.0.transaction()?;
        for record in records {
            transaction
                .prepare_cached("INSERT INTO record (bytes) VALUES (?1)")?
                .execute(params![record])?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn read_all(&mut self) -> Result<usize> {
        let mut statement = self.0.prepare("SELECT bytes FROM record ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            ensure!(!row.get_ref(0)?.as_blob()?.is_empty(), "an empty record");
            count += 1;
        }
        Ok(count)
    }
}

struct Fjall(Database, Keyspace, u64);

impl Store for Fjall {
    fn commit(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let mut batch = self.0.batch();
        for record in records {
            batch.insert(&self.1, self.2.to_be_bytes(), record.as_slice());
            self.2 += 1;
        }
        batch.commit()?;
        self.0.persist(PersistMode::SyncData)?;
        Ok(())
    }

    fn read_all(&mut self) -> Result<usize> {
        let mut count = 0;
        for entry in self.1.iter() {
            let (_, value) = entry.into_inner()?;
            ensure!(!value.is_empty(), "an empty record");
            count += 1;
        }
        Ok(count)
    }
}

struct Redb(redb::Database, u64);

impl Store for Redb {
    fn commit(&mut self, records: &[Vec<u8>]) -> Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for record in records {
                table.insert(self.1, record.as_slice())?;
                self.1 += 1;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read_all(&mut self) -> Result<usize> {
        let transaction = self.0.begin_read()?;
        let table = transaction.open_table(TABLE)?;
        let mut count = 0;
        for entry in table.iter()? {
            ensure!(!entry?.1.value().is_empty(), "an empty record");
            count += 1;
        }
        Ok(count)
    }
}

fn open(kind: &str, dir: &Path) -> Result<Box<dyn Store>> {
    Ok(match kind {
        "plain file" => {
            let path = dir.join("log");
            Box::new(PlainFile(File::create(&path)?, path))
        }
        "SQLite, a row per record" => {
            let connection = rusqlite::Connection::open(dir.join("log.db"))?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE record (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);",
            )?;
            Box::new(Sqlite(connection))
        }
        "fjall" => {
            let database = Database::builder(dir).open()?;
            let keyspace = database.keyspace("log", KeyspaceCreateOptions::default)?;
            Box::new(Fjall(database, keyspace, 0))
        }
        _ => Box::new(Redb(redb::Database::create(dir.join("log.redb"))?, 0)),
    })
}

/// What one run has shown.
struct Figures {
    records: usize,
    append: Duration,
    acknowledgements: Vec<Duration>,
    read: Duration,
    disk_bytes: u64,
}

/// Records of one batch, as the plugin's are: a flag event with its headers.
fn batch(client: usize, number: usize, size: usize) -> Vec<NewRecord> {
    let record = |i: usize| {
        let id = ((client as u128) << 64) | ((number * size + i) as u128);
        let header = |name: &str, value: String| Header {
            name: Arc::from(name),
            value: Bytes::from(value),
        };
        let value = format!(
            "{{\"user\":\"user{client}\",\"number\":{number},\"pad\":\"{}\"}}",
            "x".repeat(250)
        );
        NewRecord {
            topic: Arc::from("dovecot"),
            key: Some(Bytes::from(format!("user{client}"))),
            value: Bytes::from(value),
            headers: vec![
                header("dovecast-id", uuid(id)),
                header("dovecast-time", "2026-11-20T21:35:28.120Z".to_owned()),
                header("dovecast-host", "mail1".to_owned()),
                header("dovecast-txn", uuid(id)),
                header("dovecast-txn-seq", i.to_string()),
            ],
            timestamp_ms: 1_795_210_528_120,
            id: Some(id),
        }
    };
    (0..size).map(record).collect()
}

fn uuid(number: u128) -> String {
    let hex = format!("{number:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Bytes of a record, for the stores that know nothing of records; UUIDs as 16 bytes, as the
/// log keeps them.
fn flat(record: &NewRecord) -> Vec<u8> {
    let mut bytes = record.key.as_deref().unwrap_or_default().to_vec();
    bytes.extend_from_slice(&record.value);
    for header in &record.headers {
        let length = if header.value.len() == 36 {
            16
        } else {
            header.value.len()
        };
        bytes.extend_from_slice(&header.value[..length]);
    }
    bytes
}

type Append = (Vec<Vec<u8>>, Sender<()>);

fn write_all(mut store: Box<dyn Store>, appends: &Receiver<Append>) -> Result<Box<dyn Store>> {
    while let Ok((mut records, first)) = appends.recv() {
        let mut replies = VecDeque::from([first]);
        while let Ok((more, reply)) = appends.try_recv() {
            records.extend(more);
            replies.push_back(reply);
        }
        store.commit(&records)?;
        for reply in replies {
            reply.send(()).context("a client has gone")?;
        }
    }
    Ok(store)
}

/// Eight clients, each with so many batches; `append` returns when a batch is durable.
fn clients(
    size: usize,
    batches: usize,
    append: impl Fn(Vec<NewRecord>) -> Result<()> + Send + Clone + 'static,
) -> Result<(Duration, Vec<Duration>)> {
    // Made before the clock runs.
    let work: Vec<Vec<Vec<NewRecord>>> = (0..CLIENTS)
        .map(|client| {
            (0..batches)
                .map(|number| batch(client, number, size))
                .collect()
        })
        .collect();
    let started = Instant::now();
    let threads: Vec<_> = work
        .into_iter()
        .map(|batches| {
            let append = append.clone();
            thread::spawn(move || -> Result<Vec<Duration>> {
                let mut took = Vec::new();
                for batch in batches {
                    let begun = Instant::now();
                    append(batch)?;
                    took.push(begun.elapsed());
                }
                Ok(took)
            })
        })
        .collect();
    drop(append);
    let mut took = Vec::new();
    for thread in threads {
        let each = thread
            .join()
            .map_err(|_| anyhow::anyhow!("a client has panicked"))?;
        took.extend(each?);
    }
    took.sort();
    Ok((started.elapsed(), took))
}

fn run_store(kind: &str, dir: &Path, size: usize, batches: usize) -> Result<Figures> {
    let store = open(kind, dir)?;
    let (sender, appends): (SyncSender<Append>, _) = sync_channel(1024);
    let writer = thread::spawn(move || write_all(store, &appends));
    let (append, acknowledgements) = clients(size, batches, move |records| {
        let (reply, done) = channel();
        sender.send((records.iter().map(flat).collect(), reply))?;
        done.recv().context("the writer has gone")
    })?;
    let mut store = writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer has panicked"))??;
    let started = Instant::now();
    let read = store.read_all()?;
    let records = CLIENTS * batches * size;
    ensure!(
        read == records,
        "{kind}: {read} of {records} records are there"
    );
    let took = started.elapsed();
    drop(store);
    Ok(Figures {
        records,
        append,
        acknowledgements,
        read: took,
        disk_bytes: disk_bytes(dir)?,
    })
}

fn run_log(runtime: &Runtime, dir: &Path, size: usize, batches: usize) -> Result<Figures> {
    let log = Embedded::open(dir, &EmbeddedOptions::default())?;
    let (handle, to) = (runtime.handle().clone(), log.clone());
    let (append, acknowledgements) = clients(size, batches, move |records| {
        handle.block_on(to.append(records))?;
        Ok(())
    })?;
    let records = CLIENTS * batches * size;
    let started = Instant::now();
    runtime.block_on(async {
        let mut reader = log.reader("dovecot", StartAt::Beginning).await?;
        let mut read = 0;
        while read < records {
            read += reader.next().await?.len();
        }
        ensure!(read == records, "{read} of {records} records are there");
        Ok(())
    })?;
    let read = started.elapsed();
    runtime.block_on(log.close());
    Ok(Figures {
        records,
        append,
        acknowledgements,
        read,
        disk_bytes: disk_bytes(dir)?,
    })
}

fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let there = entry.metadata()?;
        total += if there.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            there.len()
        };
    }
    Ok(total)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
fn rate(records: usize, took: Duration) -> f64 {
    records as f64 / took.as_secs_f64()
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/log-bench");
    fs::create_dir_all(&place)?;
    if has("--memory") {
        return memory(&runtime, &place);
    }
    let rounds = if has("--quick") { 1 } else { 3 };
    for (size, batches) in [(1, 600), (64, 150), (1000, 20)] {
        let batches = if has("--quick") {
            batches / 10
        } else {
            batches
        };
        compare(&runtime, &place, (size, batches), rounds)?;
    }
    Ok(())
}

fn compare(
    runtime: &Runtime,
    place: &Path,
    (size, batches): (usize, usize),
    rounds: usize,
) -> Result<()> {
    const KINDS: [&str; 5] = [
        "plain file",
        "the embedded log",
        "SQLite, a row per record",
        "fjall",
        "redb",
    ];
    println!("\n### {CLIENTS} clients, batches of {size}\n");
    println!(
        "| store | records/s | ratio to the plain file | acknowledged p50, ms | p99, ms | read back, records/s | bytes per record |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut all: Vec<Vec<Figures>> = KINDS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (kind, runs) in KINDS.iter().zip(&mut all) {
            let dir = tempfile::tempdir_in(place)?;
            runs.push(match *kind {
                "the embedded log" => run_log(runtime, dir.path(), size, batches)?,
                kind => run_store(kind, dir.path(), size, batches)?,
            });
        }
    }
    let best = |runs: &[Figures]| {
        let mut rates: Vec<f64> = runs
            .iter()
            .map(|run| rate(run.records, run.append))
            .collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let limit = best(&all[0]);
    for (kind, runs) in KINDS.iter().zip(&all) {
        let last = runs.last().context("a run")?;
        let at = |share: usize| {
            let took = last.acknowledgements[(last.acknowledgements.len() - 1) * share / 100];
            took.as_secs_f64() * 1000.0
        };
        println!(
            "| {kind} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {} |",
            best(runs),
            best(runs) / limit,
            at(50),
            at(99),
            rate(last.records, last.read),
            last.disk_bytes / u64::try_from(last.records)?,
        );
    }
    Ok(())
}

/// Ten million records: what the process takes, the file, and how long it takes to open it again.
fn memory(runtime: &Runtime, place: &Path) -> Result<()> {
    const RECORDS: usize = 10_000_000;
    const BATCH: usize = 10_000;
    let dir = tempfile::tempdir_in(place)?;
    let options = EmbeddedOptions::default();
    let log = Embedded::open(dir.path(), &options)?;
    for number in 0..RECORDS / BATCH {
        runtime.block_on(log.append(batch(number % 100, number, BATCH)))?;
    }
    println!(
        "with {RECORDS} records: RSS {} kB, {} MB on disk",
        rss_kb()?,
        disk_bytes(dir.path())? / 1_000_000
    );
    runtime.block_on(log.close());
    drop(log);
    let started = Instant::now();
    let log = Embedded::open(dir.path(), &options)?;
    println!(
        "opened again in {:.3} s, RSS {} kB",
        started.elapsed().as_secs_f64(),
        rss_kb()?
    );
    runtime.block_on(log.close());
    Ok(())
}

fn rss_kb() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .context("no number")?
        .parse()?)
}

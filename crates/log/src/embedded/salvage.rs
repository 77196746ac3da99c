//! A store that SQLite calls damaged: it is put aside, and every batch that can be read and
//! verified is taken over.
//!
//! Each partition is read from both ends, so that damage in the middle costs what is in the middle.
//! Offsets stay what they were; what is missing is told.

mod partitions;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::batch;
use super::room::Room;
use super::store::{FILE, Store, StoreError, key, unkey};
use super::writer::Shared;
use crate::LogError;
use partitions::{SavedPartition, fill_in_numbers, free_id, gaps, known_end, known_partitions};

/// What SQLite keeps beside the file.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// What the new file is called until it is complete.
const UNFINISHED: &str = ".new";

/// A row that was saved.
struct Row {
    key: i64,
    count: i64,
    time_ms: i64,
    pos: i64,
    bytes: Vec<u8>,
}

/// Makes a new file of what is left in the damaged one, and puts that aside. Whatever happens
/// meanwhile, the damaged file stays in its place until the new one is complete.
///
/// `next_partition_id`: ids of partitions below it may be in the hands of readers.
pub(super) fn salvage(
    shared: &Shared,
    reason: &str,
    next_partition_id: u64,
) -> Result<(), StoreError> {
    let path = &shared.store.path;
    tracing::error!(reason, file = %path.display(), "the log is damaged; what can be read of it is copied to a new one");
    let unfinished = Store {
        path: with_suffix(path, UNFINISHED),
    };
    let io = |error: std::io::Error| {
        StoreError::Log(LogError::Io {
            doing: "save the damaged",
            place: path.display().to_string(),
            reason: error.to_string(),
        })
    };
    remove_unfinished(path).map_err(io)?;
    has_room(path).map_err(io)?;
    let saved = save(shared, &unfinished, next_partition_id);
    if saved.is_err() {
        // It may have taken all the room there is.
        remove_unfinished(path).map_err(io)?;
    }
    let saved = saved?;
    let aside = put_aside(path).map_err(io)?;
    fs::rename(&unfinished.path, path).map_err(io)?;
    shared
        .counters
        .damaged
        .fetch_add(saved.damaged, Ordering::Relaxed);
    tracing::error!(
        batches = saved.batches,
        damaged = saved.damaged,
        missing_records = saved.missing,
        damaged_file = %aside.display(),
        "the damaged log is replaced by a new one with all that could be read"
    );
    Ok(())
}

fn save(shared: &Shared, unfinished: &Store, next_partition_id: u64) -> Result<Saved, StoreError> {
    let new = unfinished.open_writer()?;
    let sql = |error: rusqlite::Error| unfinished.error("append to", &error);
    // Nobody wants it back as it was: what it takes is written once, and not to a journal first.
    new.pragma_update(None, "journal_mode", "OFF")
        .map_err(sql)?;
    new.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
    let saved = copy(shared, &new, next_partition_id).map_err(sql)?;
    new.execute_batch("COMMIT").map_err(sql)?;
    // Everything has to be in the file: only that is renamed.
    unfinished.check_size(&new)?;
    new.close().map_err(|(_, error)| sql(error))?;
    Ok(saved)
}

/// What is left of a rescue that did not come to its end: before the damaged file was put aside it
/// is begun anew, after that the new file is complete and takes its place.
pub(super) fn finish_or_forget(path: &Path) -> std::io::Result<()> {
    let unfinished = with_suffix(path, UNFINISHED);
    if !path.exists() && unfinished.exists() {
        // SQLite would play the write-ahead file of the damaged one into the new one.
        move_beside(path, &aside_name(path))?;
        return fs::rename(unfinished, path);
    }
    remove_unfinished(path)
}

fn remove_unfinished(path: &Path) -> std::io::Result<()> {
    let unfinished = with_suffix(path, UNFINISHED);
    for file in ["", BESIDE[0], BESIDE[1]].map(|suffix| with_suffix(&unfinished, suffix)) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Fails where the file system has no room for a copy: the attempt would leave none for others.
fn has_room(path: &Path) -> std::io::Result<()> {
    let wanted = fs::metadata(path)?.len();
    let free = Room::at(path)?.free;
    if free < wanted {
        let reason =
            format!("a copy of it takes {wanted} bytes, and {free} are free on its file system");
        return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, reason));
    }
    Ok(())
}

fn put_aside(path: &Path) -> std::io::Result<PathBuf> {
    let aside = aside_name(path);
    // First, as it is worth nothing without what is beside it.
    fs::rename(path, &aside)?;
    move_beside(path, &aside)?;
    Ok(aside)
}

fn aside_name(path: &Path) -> PathBuf {
    path.with_file_name(format!("{FILE}.damaged-{}", crate::now_ms()))
}

/// Gives what SQLite keeps beside a file the name of another one.
fn move_beside(path: &Path, other: &Path) -> std::io::Result<()> {
    for suffix in BESIDE {
        match fs::rename(with_suffix(path, suffix), with_suffix(other, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What was saved.
#[derive(Default)]
struct Saved {
    batches: u64,
    /// Rows that could be read and not verified.
    damaged: u64,
    /// Records between saved batches.
    missing: u64,
}

/// SQLite reads nothing at all of a file that is shorter than its head says: what is cut off
/// becomes zeros.
fn fill_up(path: &Path) -> std::io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut head = [0; 100];
    file.read_exact(&mut head)?;
    let page_bytes = match u64::from(u16::from_be_bytes([head[16], head[17]])) {
        1 => 65_536,
        bytes => bytes,
    };
    let pages = u64::from(u32::from_be_bytes([head[28], head[29], head[30], head[31]]));
    if file.metadata()?.len() < pages * page_bytes {
        file.set_len(pages * page_bytes)?;
    }
    Ok(())
}

fn copy(shared: &Shared, new: &Connection, next_partition_id: u64) -> rusqlite::Result<Saved> {
    let mut saved = Saved::default();
    let damaged = &shared.store.path;
    if let Err(error) = fill_up(damaged) {
        tracing::error!(%error, "the truncated file of the damaged log cannot be extended to its full length");
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let Ok(old) = Connection::open_with_flags(damaged, flags) else {
        return Ok(saved);
    };
    let mut partitions = known_partitions(&old);
    let ranges: Vec<_> = partitions
        .keys()
        .map(|id| (key(*id, 0), key(*id + 1, 0)))
        .collect();
    let mut is_whole = !ranges.is_empty();
    for range in ranges {
        is_whole &= copy_range(&old, new, range, &mut partitions, &mut saved)?;
    }
    if !is_whole {
        // Perhaps there are partitions whose rows cannot be read, and batches that the other ranges
        // did not reach.
        copy_range(&old, new, (i64::MIN, i64::MAX), &mut partitions, &mut saved)?;
    }
    let next_id = free_id(&partitions, &old, next_partition_id);
    let known = |topic: &str, number: u32| {
        let topic = shared.topics.get(topic)?;
        let mut known = topic.partitions.iter();
        let known = known.find(|partition| partition.number == number)?;
        Some(known.id)
    };
    fill_in_numbers(&mut partitions, known, next_id);
    for (id, partition) in &mut partitions {
        // An offset that was given once is never given again, though its record may be lost.
        partition.end = partition
            .end
            .max(known_end(shared, &old, *id).cast_signed());
        partition.write(new, *id)?;
        saved.missing += gaps(new, *id, partition)?;
    }
    for table in ["committed", "mark", "seen"] {
        copy_table(&old, new, table)?;
    }
    for table in ["thinned", "sample"] {
        // Files of earlier versions have none.
        if old.prepare(&format!("SELECT * FROM {table}")).is_ok() {
            copy_table(&old, new, table)?;
        }
    }
    Ok(saved)
}

/// Copies a range from its beginning, and, where that meets damage, from its end; `true` if it met
/// none.
fn copy_range(
    old: &Connection,
    new: &Connection,
    range: (i64, i64),
    partitions: &mut BTreeMap<u64, SavedPartition>,
    saved: &mut Saved,
) -> rusqlite::Result<bool> {
    for is_descending in [false, true] {
        let mut copied = Ok(());
        let is_complete = read_range(old, range, is_descending, |row| {
            copied = copy_row(new, &row, partitions, saved);
            copied.is_ok()
        });
        copied?;
        if is_complete {
            return Ok(!is_descending);
        }
    }
    Ok(false)
}

/// Hands out row by row, as long as `take` wants more; `false` if damage has ended it.
fn read_range(
    old: &Connection,
    (mut from, mut to): (i64, i64),
    is_descending: bool,
    mut take: impl FnMut(Row) -> bool,
) -> bool {
    // One at a time: a statement that has met damage gives nothing more.
    let sql = if is_descending {
        "SELECT key, count, time_ms, pos, bytes FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT 1"
    } else {
        "SELECT key, count, time_ms, pos, bytes FROM batch WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1"
    };
    let Ok(mut statement) = old.prepare(sql) else {
        return false;
    };
    loop {
        let row = statement
            .query_row(params![from, to], |row| {
                Ok(Row {
                    key: row.get(0)?,
                    count: row.get(1)?,
                    time_ms: row.get(2)?,
                    pos: row.get(3)?,
                    bytes: row.get(4)?,
                })
            })
            .optional();
        match row {
            Ok(Some(row)) => {
                if is_descending {
                    to = row.key;
                } else {
                    from = row.key.saturating_add(1);
                }
                if !take(row) {
                    return true;
                }
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn copy_row(
    new: &Connection,
    row: &Row,
    partitions: &mut BTreeMap<u64, SavedPartition>,
    saved: &mut Saved,
) -> rusqlite::Result<()> {
    let (id, base) = unkey(row.key);
    let known = partitions.get(&id);
    let head = batch::head(&row.bytes).ok().filter(|head| {
        head.base == base
            && head.count == row.count.cast_unsigned()
            && known.is_none_or(|partition| {
                *partition.topic == *head.topic && partition.number == head.partition
            })
    });
    let Some(head) = head else {
        saved.damaged += 1;
        return Ok(());
    };
    let partition = partitions.entry(id).or_insert_with(|| SavedPartition {
        topic: Arc::clone(&head.topic),
        number: head.partition,
        begin: 0,
        end: 0,
    });
    partition.end = partition.end.max((base + head.count).cast_signed());
    let inserted = new
        .prepare_cached(
            "INSERT OR IGNORE INTO batch (key, count, time_ms, pos, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![row.key, row.count, row.time_ms, row.pos, row.bytes])?;
    saved.batches += inserted as u64;
    Ok(())
}

/// A small table, row by row as far as it can be read.
fn copy_table(old: &Connection, new: &Connection, table: &str) -> rusqlite::Result<()> {
    let Ok(mut statement) = old.prepare(&format!("SELECT * FROM {table}")) else {
        tracing::error!(table, "a table of the damaged log cannot be read");
        return Ok(());
    };
    let columns = statement.column_count();
    let marks = vec!["?"; columns].join(", ");
    let mut insert = new.prepare(&format!("INSERT OR IGNORE INTO {table} VALUES ({marks})"))?;
    let Ok(mut rows) = statement.query([]) else {
        return Ok(());
    };
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let values: rusqlite::Result<Vec<rusqlite::types::Value>> =
                    (0..columns).map(|column| row.get(column)).collect();
                insert.execute(rusqlite::params_from_iter(values?))?;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(table, %error, "the rest of a table of the damaged log cannot be read");
                return Ok(());
            }
        }
    }
}

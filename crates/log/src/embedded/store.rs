//! The SQLite file: its tables, connections to it, its errors as ours.
//!
//! WAL mode with `synchronous=FULL`: a commit is on the disk when it returns. One connection
//! writes, any number read.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::LogError;

/// Name of the file in the log's directory.
pub(super) const FILE: &str = "log.db";
/// Rights of the file: mail is in it.
const FILE_MODE: u32 = 0o600;
/// How long a connection waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// `application_id` of the file: "dcst".
const APPLICATION_ID: i32 = 0x6463_7374;
/// Version of the tables.
const VERSION: i32 = 3;
/// What a file without tables has instead.
const NEW: i32 = 0;

const SCHEMA: &str = "
CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
-- begin and end are what is known without the batches: the oldest offset that is kept, and one that was given already.
CREATE TABLE partition (id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, number INTEGER NOT NULL,
    begin INTEGER NOT NULL DEFAULT 0, end INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number));
-- key: the partition's id above the offset of the first record, see `key`; pos: bytes of all batches of the partition
-- before this one, those that are gone included; bytes: see batch.rs.
CREATE TABLE batch (key INTEGER PRIMARY KEY, count INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    pos INTEGER NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE committed (consumer_group TEXT NOT NULL, partition_id INTEGER NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, partition_id)) WITHOUT ROWID;
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- The ids of the window, 16 bytes each, a row for each commit.
CREATE TABLE seen (seq INTEGER PRIMARY KEY, ids BLOB NOT NULL);
";

/// From version 1 to 2: names.
const TO_VERSION_2: &str = "
ALTER TABLE part RENAME TO partition;
ALTER TABLE committed RENAME COLUMN grp TO consumer_group;
ALTER TABLE committed RENAME COLUMN part TO partition_id;
";

/// From version 2 to 3: what is known of keys, see `sample.rs`, and of batches that lost some of
/// their records.
const TO_VERSION_3: &str = "
-- For each partition, the bytes that are gone from between its batches.
CREATE TABLE IF NOT EXISTS thinned (partition_id INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
-- key: as that of a batch, with the offset of the record; owner: a hash of the record's key; bytes: what it stands for.
CREATE TABLE IF NOT EXISTS sample (key INTEGER PRIMARY KEY, owner INTEGER NOT NULL, bytes INTEGER NOT NULL);
";

/// Bits of a key that hold the offset; above them is the partition's id.
const OFFSET_BITS: u32 = 47;
/// Offsets are below this.
pub(super) const MAX_OFFSET: u64 = 1 << OFFSET_BITS;
/// Ids of partitions are below this.
pub(super) const MAX_PARTITIONS: u64 = 1 << (63 - OFFSET_BITS);

/// A batch's key.
pub(super) fn key(partition_id: u64, offset: u64) -> i64 {
    // Both are kept below their bounds by whoever gives them out.
    ((partition_id << OFFSET_BITS) | (offset & (MAX_OFFSET - 1))).cast_signed()
}

/// The partition and the offset of a key.
pub(super) fn unkey(key: i64) -> (u64, u64) {
    let key = key.cast_unsigned();
    (key >> OFFSET_BITS, key & (MAX_OFFSET - 1))
}

/// What went wrong with the file.
#[derive(Debug)]
pub(super) enum StoreError {
    /// SQLite says that the file is damaged, or no database at all.
    Damaged(String),
    /// Something else.
    Log(LogError),
}

impl StoreError {
    /// As callers see it.
    pub(super) fn into_log(self, place: &Path) -> LogError {
        match self {
            Self::Log(error) => error,
            Self::Damaged(reason) => LogError::Io {
                doing: "use",
                place: place.display().to_string(),
                reason,
            },
        }
    }
}

/// Connections to one file.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) path: PathBuf,
}

impl Store {
    pub(super) fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE),
        }
    }

    /// Translates what SQLite says.
    pub(super) fn error(&self, doing: &'static str, error: &rusqlite::Error) -> StoreError {
        let place = self.path.display().to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged(error.to_string())
            }
            Some(ErrorCode::DiskFull) => StoreError::Log(LogError::Full { place }),
            _ => StoreError::Log(LogError::Io {
                doing,
                place,
                reason: error.to_string(),
            }),
        }
    }

    /// The connection that writes; makes the tables in a new file, and alters those of an earlier
    /// version.
    pub(super) fn open_writer(&self) -> Result<Connection, StoreError> {
        let sql = |error: rusqlite::Error| self.error("open", &error);
        self.keep_private()
            .map_err(|error| StoreError::Log(super::io_error("open", &self.path, &error)))?;
        let connection = Connection::open(&self.path).map_err(sql)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
        let version = self.check_version(&connection)?;
        connection
            .pragma_update(None, "page_size", 4096)
            .map_err(sql)?;
        connection
            .pragma_update(None, "auto_vacuum", "INCREMENTAL")
            .map_err(sql)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(sql)?;
        for (name, value) in [
            ("synchronous", "FULL"),
            // Mail that is removed is overwritten.
            ("secure_delete", "ON"),
            // Checkpoints are made by the writer, when nobody waits or the WAL has grown.
            ("wal_autocheckpoint", "0"),
            ("journal_size_limit", "67108864"),
            ("cache_size", "-8192"),
        ] {
            connection.pragma_update(None, name, value).map_err(sql)?;
        }
        let steps: &[&str] = match version {
            NEW => &[SCHEMA, TO_VERSION_3],
            1 => &[TO_VERSION_2, TO_VERSION_3],
            2 => &[TO_VERSION_3],
            _ => &[],
        };
        let steps = steps.concat();
        if !steps.is_empty() {
            connection
                .execute_batch(&format!(
                    "BEGIN IMMEDIATE; {steps} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
                ))
                .map_err(sql)?;
        }
        Ok(connection)
    }

    /// Nobody but the server reads the file, nor what SQLite makes beside it with the same rights.
    fn keep_private(&self) -> io::Result<()> {
        let mode = fs::Permissions::from_mode(FILE_MODE);
        for suffix in ["-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            match fs::set_permissions(path, mode.clone()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(FILE_MODE);
        options.open(&self.path)?.set_permissions(mode)
    }

    /// Brings the write-ahead file into the file and empties it; `true`: somebody reads, and it is
    /// not empty.
    pub(super) fn truncate(connection: &Connection) -> rusqlite::Result<bool> {
        connection.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let is_busy = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(is_busy? != 0)
    }

    /// The version of the tables. A file that is not ours is left as it is.
    fn check_version(&self, connection: &Connection) -> Result<i32, StoreError> {
        let sql = |error: rusqlite::Error| self.error("open", &error);
        let pragma = |name: &str| -> Result<i32, StoreError> {
            connection
                .pragma_query_value(None, name, |row| row.get(0))
                .map_err(sql)
        };
        match (pragma("application_id")?, pragma("user_version")?) {
            (0, 0) => {
                let tables: i64 = connection
                    .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
                    .map_err(sql)?;
                if tables > 0 {
                    return Err(self.foreign("it has tables that are not ours"));
                }
                Ok(NEW)
            }
            (APPLICATION_ID, known @ 1..=VERSION) => Ok(known),
            (APPLICATION_ID, newer) => Err(self.foreign(&format!(
                "it has version {newer}, this binary knows {VERSION}: use the newer binary"
            ))),
            _ => Err(self.foreign("it is another application's")),
        }
    }

    /// Brings the WAL into the file, and says if the file is shorter than it should be then.
    pub(super) fn check_size(&self, connection: &Connection) -> Result<(), StoreError> {
        let sql = |error: rusqlite::Error| self.error("open", &error);
        let number = |pragma: &str| -> Result<u64, StoreError> {
            let number =
                connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
            number.map(i64::cast_unsigned).map_err(sql)
        };
        let is_busy = number("wal_checkpoint(TRUNCATE)")? != 0;
        let expected = number("page_count")? * number("page_size")?;
        let length = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if !is_busy && length < expected {
            let text = format!("the file has {length} bytes and should have {expected}");
            return Err(StoreError::Damaged(text));
        }
        Ok(())
    }

    fn foreign(&self, reason: &str) -> StoreError {
        StoreError::Log(LogError::Io {
            doing: "open",
            place: self.path.display().to_string(),
            reason: reason.to_owned(),
        })
    }

    /// A connection that only reads.
    pub(super) fn open_reader(&self) -> Result<Connection, StoreError> {
        let sql = |error: rusqlite::Error| self.error("read", &error);
        // A reader needs to write to the shared memory beside the file, so the file is opened for
        // both.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(sql)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(sql)?;
        connection
            .pragma_update(None, "cache_size", -1024)
            .map_err(sql)?;
        Ok(connection)
    }
}

//! Spill files: what a mail process could not hand to the relay, for the relay to take in later.
//!
//! Each file is written by one process and holds records in order. It begins with [`MAGIC`]; then
//! come entries: length of the content (u32), CRC-32 of it (u32), content. The first entry says who
//! wrote it (host text16, program text16), every other one is a record as [`wire::write_record`]
//! has it. Numbers are little-endian.
//!
//! A writer makes its file under a name that begins with a dot, locks it, and gives it its name
//! `MILLISECONDS-ID-SECRET.spill` only then; it keeps the lock as long as it may append. So a file
//! with a name and without a lock is complete, or its writer was killed, or has so many files that
//! it has let go of this one: it locks it again before it appends. Nothing is synced here, a
//! mail process must not wait for a disk: what is in a file survives every death of its process,
//! and not a power cut.

mod parked;

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::Uid;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

use crate::wire::{self, MAX_FRAME_BYTES, WireRecord};

pub(crate) use parked::Parked;

/// First bytes of every spill file.
pub const MAGIC: &[u8] = b"dovecast-spill 1\n";
/// How the names of spill files end.
pub const SUFFIX: &str = ".spill";
const ENTRY_HEAD_BYTES: usize = 8;
const PERMISSIONS: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP);
/// The longest name of a file (NAME_MAX of Linux's file systems).
#[cfg(feature = "server")]
const MAX_NAME_BYTES: usize = 255;

/// Whether a client can have given a spill file this name: that of a file in the directory, which
/// is seen, of visible ASCII.
#[cfg(feature = "server")]
pub(crate) fn is_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    name.ends_with(SUFFIX)
        && !name.starts_with('.')
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(is_legal)
}

/// A spill file that is being written.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    name: String,
    bytes: u64,
    max_bytes: u64,
    entries: Vec<u8>,
    is_broken: bool,
}

/// Mail process that leaves a spill file.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// Name of its host.
    pub host: &'a str,
    /// Name of its program.
    pub program: &'a str,
}

impl<'a> Author<'a> {
    /// The author of this name, on this host.
    pub fn new(host: &'a str, program: &'a str) -> Self {
        Self { host, program }
    }
}

impl Writer {
    /// Makes a spill file in `dir` that never grows beyond `max_bytes`. It is named by its first
    /// record's time and id, and by what nobody can guess: receivers see the id, and the directory
    /// keeps names secret, of files that hold mail of several users perhaps.
    pub fn create(
        dir: &Path,
        author: &Author<'_>,
        first: &WireRecord<'_>,
        max_bytes: u64,
    ) -> io::Result<Self> {
        Self::create_for(None, dir, author, first, max_bytes)
    }

    /// Like [`Writer::create`]; root makes the file for a user.
    pub(crate) fn create_for(
        owner: Option<u32>,
        dir: &Path,
        author: &Author<'_>,
        first: &WireRecord<'_>,
        max_bytes: u64,
    ) -> io::Result<Self> {
        // Not the clock, which may be set back: ids of one process ascend.
        let (ms, id) = (id_ms(first.id), first.id.simple());
        let secret = Uuid::from_u64_pair(random(), random()).simple();
        let name = format!("{ms:013}-{id}-{secret}{SUFFIX}");
        let mut writer = Self::make(dir, name, max_bytes)?;
        let made = writer.begin(owner, author, dir);
        if made.is_err() {
            // The error that is told is the first one.
            let _ = std::fs::remove_file(&writer.path);
        }
        made.map(|()| writer)
    }

    fn make(dir: &Path, name: String, max_bytes: u64) -> io::Result<Self> {
        let hidden = dir.join(format!(".{name}"));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(
            &hidden,
            flags | OFlags::NOFOLLOW,
            PERMISSIONS,
        )?);
        Ok(Self {
            file,
            path: hidden,
            name,
            bytes: 0,
            max_bytes,
            entries: MAGIC.to_vec(),
            is_broken: false,
        })
    }

    fn begin(&mut self, owner: Option<u32>, author: &Author<'_>, dir: &Path) -> io::Result<()> {
        // The relay reads it as a member of the directory's group, whatever the umask of mail
        // processes.
        rustix::fs::fchmod(&self.file, PERMISSIONS)?;
        if let Some(owner) = owner {
            rustix::fs::fchown(&self.file, Some(Uid::from_raw(owner)), None)?;
        }
        rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        write_entry(&mut self.entries, |out| {
            wire::write_text16(out, author.host);
            wire::write_text16(out, author.program);
        });
        self.flush()?;
        let path = dir.join(&self.name);
        rename_new(&self.path, &path)?;
        self.path = path;
        Ok(())
    }

    /// Name of the file in its directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it ends within a record now: nothing more may be written to it.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Takes a record; it is in the file after [`flush`](Self::flush).
    pub fn push(&mut self, record: &WireRecord<'_>) {
        write_entry(&mut self.entries, |out| wire::write_record(out, record));
    }

    /// Writes what was pushed: all of it, or after an error nothing of it.
    pub fn flush(&mut self) -> io::Result<()> {
        let entries = std::mem::take(&mut self.entries);
        let bytes = self.bytes + entries.len() as u64;
        if bytes > self.max_bytes {
            let text = format!(
                "the spill file would grow beyond {} bytes (relay_spill_max_kbytes)",
                self.max_bytes
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        if let Err(error) = self.file.write_all(&entries) {
            // A half entry would hide all that come after it.
            let cut = self.file.set_len(self.bytes);
            let back = self.file.seek(SeekFrom::Start(self.bytes));
            self.is_broken = cut.is_err() || back.is_err();
            return Err(error);
        }
        self.bytes = bytes;
        // Only the usual small buffer is worth keeping.
        if entries.capacity() <= 64 * 1024 {
            self.entries = entries;
            self.entries.clear();
        }
        Ok(())
    }
}

/// Renames a file to a name that nothing has yet, where the file system can make sure of that.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(from, to),
        done => Ok(done?),
    }
}

/// A number that nobody can guess: the keys of a hasher are random.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The milliseconds of a UUIDv7.
fn id_ms(id: Uuid) -> u64 {
    let [m0, m1, m2, m3, m4, m5, ..] = id.into_bytes();
    u64::from_be_bytes([0, 0, m0, m1, m2, m3, m4, m5])
}

fn write_entry(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; ENTRY_HEAD_BYTES]);
    content(out);
    let content = at + ENTRY_HEAD_BYTES;
    let length = u32::try_from(out.len() - content).unwrap_or(u32::MAX);
    let sum = crc32fast::hash(&out[content..]);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    out[at + 4..content].copy_from_slice(&sum.to_le_bytes());
}

/// Why a spill file could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The file does not begin as a spill file does.
    #[error("this is no spill file of version 1")]
    NotASpill,
    /// From here on there is no whole record.
    #[error("no whole record from byte {at} on: {reason}")]
    Torn {
        /// Where the last whole record ends.
        at: u64,
        /// What is there instead.
        reason: String,
    },
    /// The file could not be read; nothing is known to be wrong with it.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
}

/// A spill file that is being read.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    host: String,
    at: u64,
    content: Vec<u8>,
}

impl Reader {
    /// Reads from `from_bytes` on, a position that [`next`](Self::next) has told, or 0.
    pub fn open(file: File, from_bytes: u64) -> Result<Self, SpillError> {
        let mut reader = Self {
            file: BufReader::new(file),
            host: String::new(),
            at: 0,
            content: Vec::new(),
        };
        reader.file.seek(SeekFrom::Start(0))?;
        let mut magic = Vec::new();
        let magic_bytes = MAGIC.len() as u64;
        reader
            .file
            .by_ref()
            .take(magic_bytes)
            .read_to_end(&mut magic)?;
        if !MAGIC.starts_with(&magic) {
            return Err(SpillError::NotASpill);
        }
        if magic.len() < MAGIC.len() || !reader.read_entry()? {
            return Err(reader.torn("the file's head is not complete"));
        }
        reader.host = head_host(&reader.content).ok_or(SpillError::NotASpill)?;
        reader.at = magic_bytes + (ENTRY_HEAD_BYTES + reader.content.len()) as u64;
        if from_bytes > reader.at {
            reader.file.seek(SeekFrom::Start(from_bytes))?;
            reader.at = from_bytes;
        }
        Ok(reader)
    }

    /// Where the next record begins.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The host its records were made on.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The next record and the position behind it; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "the record borrows from the reader"
    )]
    pub fn next(&mut self) -> Result<Option<(WireRecord<'_>, u64)>, SpillError> {
        if !self.read_entry()? {
            return Ok(None);
        }
        let at = self.at;
        self.at += (ENTRY_HEAD_BYTES + self.content.len()) as u64;
        match wire::read_record(&self.content) {
            Ok(record) => Ok(Some((record, self.at))),
            Err(error) => Err(SpillError::Torn {
                at,
                reason: error.to_string(),
            }),
        }
    }

    /// Reads the next entry's content; `false` at the end of the file.
    fn read_entry(&mut self) -> Result<bool, SpillError> {
        let mut head = Vec::with_capacity(ENTRY_HEAD_BYTES);
        let wanted = ENTRY_HEAD_BYTES as u64;
        self.file.by_ref().take(wanted).read_to_end(&mut head)?;
        if head.is_empty() {
            return Ok(false);
        }
        let Ok(head) = <[u8; ENTRY_HEAD_BYTES]>::try_from(head) else {
            return Err(self.torn("the head of a record is cut short"));
        };
        let [l0, l1, l2, l3, sum @ ..] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if usize::try_from(length).is_ok_and(|length| length > MAX_FRAME_BYTES) || length == 0 {
            return Err(self.torn(&format!("a record of {length} bytes is impossible")));
        }
        self.content.clear();
        self.file
            .by_ref()
            .take(u64::from(length))
            .read_to_end(&mut self.content)?;
        if self.content.len() as u64 != u64::from(length) {
            return Err(self.torn("a record is cut short"));
        }
        if crc32fast::hash(&self.content) != u32::from_le_bytes(sum) {
            return Err(self.torn("a record's checksum is wrong"));
        }
        Ok(true)
    }

    fn torn(&self, reason: &str) -> SpillError {
        SpillError::Torn {
            at: self.at,
            reason: reason.to_owned(),
        }
    }
}

fn head_host(content: &[u8]) -> Option<String> {
    let (length, rest) = content.split_first_chunk()?;
    let host = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
    String::from_utf8(host.to_vec()).ok()
}

#[cfg(test)]
mod tests;

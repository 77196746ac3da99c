//! A slice of one spill file: as much as one append takes.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use dovecast_log::NewRecord;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::super::Relay;
use super::super::admission::{Objection, Sender};
use super::super::batch::Rejections;
use super::super::records::Converter;
use crate::spill::{Reader, SpillError};

/// One append takes so many records, or so many bytes.
const SLICE_RECORDS: usize = 1000;
const SLICE_BYTES: u64 = 1024 * 1024;

/// Bits of a mode: its group may write, or everybody.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// When a file was changed last, its mode, its owner and its names included: seconds and
/// nanoseconds.
pub(super) type Changed = (i64, i64);

pub(super) fn changed(there: &Metadata) -> Changed {
    (there.ctime(), there.ctime_nsec())
}

/// When a file was changed last; `None`: so lately that the next change could have the same time.
fn settled(there: &Metadata) -> Option<Changed> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
    (there.ctime() + 1 < now).then(|| changed(there))
}

/// Whole records of a file, and where they are.
#[derive(Default)]
pub(super) struct Slice {
    pub(super) records: Vec<NewRecord>,
    pub(super) begin: u64,
    pub(super) end: u64,
    /// Where the file ended when it was looked at first: one that grows as fast as it is read is
    /// read so far.
    pub(super) goal: u64,
    pub(super) inode: u64,
    /// How long the file was when this slice was read.
    pub(super) length: u64,
    /// Whose file it is; `None`: nobody knows.
    pub(super) owner: Option<u32>,
    /// The state of the file that it is refused in, and need not be looked at again in.
    pub(super) refused_in: Option<Changed>,
    /// Records that are left out for good.
    pub(super) rejections: Rejections,
    /// Records that the configuration refuses: their file is kept.
    pub(super) kept: Rejections,
    /// `None`: there is more.
    pub(super) ending: Option<Ending>,
}

impl Slice {
    /// How many records were read, those that are left out included. To be asked before they are
    /// taken out of it.
    pub(super) fn count(&self) -> u64 {
        self.records.len() as u64 + self.rejections.count() + self.kept.count()
    }
}

/// What is behind the last slice.
pub(super) enum Ending {
    /// Nothing has that name, or not any more.
    Gone,
    /// The end of what is there; the writer may append more.
    Live,
    /// Nothing: the file is complete.
    Done,
    /// No whole record, or no spill file at all.
    Torn(String),
    /// The file is not one to be taken in.
    Refused { reason: String, is_owner: bool },
}

impl Ending {
    fn refused(reason: impl Into<String>) -> Self {
        Self::Refused {
            reason: reason.into(),
            is_owner: false,
        }
    }
}

/// Reads from `from` on, where the mark is, up to `goal`.
pub(super) fn read_slice(
    relay: &Relay,
    path: &Path,
    from: u64,
    goal: Option<u64>,
) -> io::Result<Slice> {
    let mut slice = Slice {
        begin: from,
        end: from,
        goal: goal.unwrap_or_default(),
        ..Slice::default()
    };
    let file = match open(path) {
        Ok(file) => file,
        Err(error) => {
            if let Ok(there) = std::fs::symlink_metadata(path) {
                slice.inode = there.ino();
                slice.owner = Some(there.uid());
            }
            slice.ending = Some(why_not(error)?);
            return Ok(slice);
        }
    };
    let there = file.metadata()?;
    slice.inode = there.ino();
    slice.owner = Some(there.uid());
    if let Some(refused) = refusal(relay, &there) {
        slice.refused_in = settled(&there);
        slice.ending = Some(refused);
        return Ok(slice);
    }
    // The host may take long to tell the name, and the writer of the file must not wait for it.
    let sender = relay.senders.get_blocking(there.uid())?;
    // Taken before the end is looked at: what is appended until here is seen.
    let is_live = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
    let there = file.metadata()?;
    if there.uid() != sender.uid {
        let text = "the file was given to another user at this moment";
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    slice.length = there.len();
    slice.goal = goal.unwrap_or(there.len());
    if let Some(refused) = refusal(relay, &there) {
        slice.refused_in = settled(&there);
        slice.ending = Some(refused);
        return Ok(slice);
    }
    slice.ending = match read(relay, &sender, file, &mut slice) {
        Ok(Reached::Slice) => None,
        Ok(Reached::Goal) if is_live || slice.end < there.len() => Some(Ending::Live),
        Ok(Reached::Goal | Reached::End) if !is_live => Some(Ending::Done),
        Ok(_) | Err(SpillError::Torn { .. }) if is_live => Some(Ending::Live),
        Ok(_) => Some(Ending::Done),
        Err(SpillError::Io(error)) => return Err(error),
        Err(error) => Some(Ending::Torn(error.to_string())),
    };
    Ok(slice)
}

/// Locks a file that is to go; `None`: it is another one by now, or its writer has come back to it.
pub(super) fn lock(path: &Path, inode: u64, length: u64) -> io::Result<Option<File>> {
    let file = open(path)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let there = file.metadata()?;
    let is_same = there.ino() == inode && there.len() == length;
    Ok(is_same.then_some(file))
}

/// Whether a file has records that the configuration refuses, or is not taken in at all.
pub(super) fn is_refused(relay: &Relay, path: &Path) -> io::Result<bool> {
    let file = open(path)?;
    let there = file.metadata()?;
    if refusal(relay, &there).is_some() {
        return Ok(true);
    }
    let sender = relay.senders.get_blocking(there.uid())?;
    let is_refused = |file| -> Result<bool, SpillError> {
        let mut reader = Reader::open(file, 0)?;
        while let Some((record, _)) = reader.next()? {
            let objection = sender.objection(&relay.options.topics, &record);
            if matches!(objection, Some(Objection::Configured(_))) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    match is_refused(file) {
        Err(SpillError::Io(error)) => Err(error),
        // What is torn has no record more.
        done => Ok(done.unwrap_or(false)),
    }
}

fn open(path: &Path) -> Result<File, Errno> {
    // Without waiting for the other end of a pipe, or for a lease that its owner has taken.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

/// What an error of opening says about the file; those that are about this process or the disk are
/// errors.
fn why_not(error: Errno) -> io::Result<Ending> {
    match error {
        Errno::NOENT => Ok(Ending::Gone),
        Errno::LOOP => Ok(Ending::refused("a symbolic link")),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::INTR => Err(error.into()),
        error => Ok(Ending::refused(format!("it cannot be opened: {error}"))),
    }
}

fn refusal(relay: &Relay, there: &Metadata) -> Option<Ending> {
    if !there.is_file() {
        return Some(Ending::refused("no regular file"));
    }
    if there.nlink() > 1 {
        return Some(Ending::refused("it has other names, too"));
    }
    // What stands in it is taken for what its owner sends.
    if there.mode() & WRITABLE_BY_OTHERS != 0 {
        return Some(Ending::refused("others than its owner may write to it"));
    }
    if !relay.peers.may_send(there.uid()) {
        return Some(Ending::Refused {
            reason: format!("uid {} may not send", there.uid()),
            is_owner: true,
        });
    }
    None
}

/// Where reading a slice has stopped.
enum Reached {
    /// The slice is large enough.
    Slice,
    Goal,
    End,
}

fn read(
    relay: &Relay,
    sender: &Sender,
    file: File,
    slice: &mut Slice,
) -> Result<Reached, SpillError> {
    let mut reader = Reader::open(file, slice.begin)?;
    let mut converter = Converter::new(reader.host(), sender.uid);
    slice.begin = reader.position();
    slice.end = slice.begin;
    let mut read = 0;
    loop {
        if slice.end >= slice.goal {
            return Ok(Reached::Goal);
        }
        if read >= SLICE_RECORDS || slice.end - slice.begin >= SLICE_BYTES {
            return Ok(Reached::Slice);
        }
        let Some((record, behind)) = reader.next()? else {
            return Ok(Reached::End);
        };
        slice.end = behind;
        read += 1;
        match sender.objection(&relay.options.topics, &record) {
            None => slice.records.push(converter.convert(&record)),
            Some(Objection::Lasting(reason)) => slice.rejections.add(reason, 1),
            Some(Objection::Configured(reason)) => slice.kept.add(reason, 1),
        }
    }
}

//! Takes spill files in: in the order of their names, each record once.
//!
//! How far a file is taken in is a mark in the log, set together with the records. A file whose writer lives is taken in as
//! far as it goes and stays; one that is complete is deleted, one that ends within a record is put aside. Files are made by
//! mail users: nothing but a regular file with one name, of a user who may send, is touched.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_log::embedded::Mark;
use dovecast_log::{LogError, NewRecord};
use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::Relay;
use super::records::{Converter, is_topic};
use crate::spill::{Reader, SUFFIX, SpillError};

/// Sticky, the relay's group, everybody may make files and nobody may look.
const DIRECTORY_MODE: u32 = 0o3733;
/// One append takes so many records, or so many bytes.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: u64 = 1024 * 1024;
/// Files that are put aside because they are torn; the oldest go.
const KEPT_TORN: usize = 100;
const TORN_SUFFIX: &str = ".torn";
const MARK_PREFIX: &str = "spill/";
const AGAIN: Duration = Duration::from_millis(500);

/// The spill directory.
pub(super) struct Intake {
    dir: PathBuf,
    /// One file is never taken in twice at a time. Waited for before a blocking thread is taken, or they would run out.
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Files that were refused, by inode: told once each, bounded by what is in the directory.
    refused: Vec<u64>,
    /// How far files are taken in; `None`: not read from the log yet.
    marks: Option<Vec<Mark>>,
}

/// What became of a file.
enum Outcome {
    /// Taken in to its end, and gone.
    Done,
    /// Its writer may append more.
    Live,
    /// It ends within a record, or is no spill file.
    Torn(String),
    /// It is left as it is.
    Refused(String),
}

/// Why a file cannot be taken in now.
#[derive(Debug, thiserror::Error)]
enum IntakeError {
    #[error("the relay is being stopped")]
    Stopping,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Intake {
    /// Makes the directory if it is not there.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        match fs::metadata(dir) {
            Ok(there) if there.is_dir() => {
                let mode = there.mode() & 0o7777;
                if mode != DIRECTORY_MODE {
                    tracing::warn!(
                        dir = %dir.display(),
                        mode = format!("{mode:o}"),
                        "the spill directory should have mode {DIRECTORY_MODE:o}: sticky, or users may remove the files of others"
                    );
                }
            }
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("`{}` is no directory", dir.display()),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(dir)?;
                // Apart from the umask.
                fs::set_permissions(dir, fs::Permissions::from_mode(DIRECTORY_MODE))?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self {
            dir: dir.to_owned(),
            state: Arc::default(),
        })
    }
}

/// Takes in all files, or those up to the one of this name; `true` if each could be.
pub(super) async fn take_in(relay: &Arc<Relay>, up_to: Option<String>) -> bool {
    let (relay, runtime) = (Arc::clone(relay), Handle::current());
    let mut state = Arc::clone(&relay.intake.state).lock_owned().await;
    let work = tokio::task::spawn_blocking(move || {
        let worker = Worker {
            relay: &relay,
            runtime,
        };
        match worker.take_files(&mut state, up_to.as_deref()) {
            Ok(are_taken) => are_taken,
            Err(IntakeError::Stopping) => false,
            Err(error) => {
                tracing::error!(%error, "spill files cannot be taken in, tried again later");
                false
            }
        }
    });
    work.await.unwrap_or_else(|_| {
        tracing::error!("taking in spill files has panicked");
        false
    })
}

struct Worker<'r> {
    relay: &'r Relay,
    runtime: Handle,
}

impl Worker<'_> {
    fn take_files(&self, state: &mut State, up_to: Option<&str>) -> Result<bool, IntakeError> {
        let mut names = self.names()?;
        self.relay
            .counters
            .spill_pending
            .store(names.len() as u64, Ordering::Relaxed);
        if names.is_empty() && state.marks.is_some() {
            state.refused.clear();
            return Ok(true);
        }
        self.read_marks(state, &names)?;
        if let Some(up_to) = up_to {
            names.retain(|name| name.as_str() <= up_to);
        }
        let mut are_taken = true;
        for name in names {
            let path = self.relay.intake.dir.join(&name);
            let done = self
                .take_file(state, &name, &path)
                .and_then(|outcome| self.conclude(state, &name, &path, outcome));
            match done {
                Ok(()) => {}
                // One file must not keep the others out.
                Err(IntakeError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(IntakeError::Io(error)) => {
                    are_taken = false;
                    if self.relay.is_trouble_to_be_told() {
                        tracing::error!(%error, file = name, "a spill file cannot be taken in");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(are_taken)
    }

    /// Complete names, in order.
    fn names(&self) -> Result<Vec<String>, IntakeError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.relay.intake.dir)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str()
                && name.ends_with(SUFFIX)
                && !name.starts_with('.')
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Once: marks of files that are gone are forgotten.
    fn read_marks(&self, state: &mut State, names: &[String]) -> Result<(), IntakeError> {
        if state.marks.is_some() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for mark in self.runtime.block_on(self.relay.log.marks())? {
            match mark.name.strip_prefix(MARK_PREFIX) {
                Some(name) if !names.iter().any(|there| there == name) => {
                    self.runtime
                        .block_on(self.relay.log.forget_mark(&mark.name))?;
                }
                Some(_) => kept.push(mark),
                None => {}
            }
        }
        state.marks = Some(kept);
        Ok(())
    }

    fn take_file(
        &self,
        state: &mut State,
        name: &str,
        path: &Path,
    ) -> Result<Outcome, IntakeError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::LOOP) => return Ok(Outcome::Refused("a symbolic link".into())),
            Err(
                error @ (rustix::io::Errno::ACCESS
                | rustix::io::Errno::NXIO
                | rustix::io::Errno::PERM),
            ) => return Ok(Outcome::Refused(format!("it cannot be opened: {error}"))),
            // It may be possible in a moment.
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let there = file.metadata()?;
        if !there.is_file() {
            return Ok(Outcome::Refused("no regular file".into()));
        }
        if there.nlink() != 1 {
            return Ok(Outcome::Refused("it has other names, too".into()));
        }
        if !self.relay.peers.may_send(there.uid()) {
            let text = format!("uid {} may not send", there.uid());
            return Ok(Outcome::Refused(text));
        }
        // Taken before the end is looked at: what is appended until here is seen.
        let is_live = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
        // A live writer may be as fast as we are.
        let limit = if is_live { there.len() } else { u64::MAX };
        match self.take_records(state, name, &file, limit) {
            Ok(()) | Err(Taking::Spill(SpillError::Torn { .. })) if is_live => Ok(Outcome::Live),
            Ok(()) => Ok(Outcome::Done),
            Err(Taking::Spill(SpillError::Io(error))) => Err(error.into()),
            Err(Taking::Spill(error)) => Ok(Outcome::Torn(error.to_string())),
            Err(Taking::Intake(error)) => Err(error),
        }
    }

    /// Appends all whole records from the mark on.
    fn take_records(
        &self,
        state: &mut State,
        name: &str,
        file: &File,
        limit: u64,
    ) -> Result<(), Taking> {
        let mark_name = format!("{MARK_PREFIX}{name}");
        let known = state.marks.iter().flatten();
        let from = known
            .filter(|mark| mark.name == mark_name)
            .map(|mark| mark.value)
            .next();
        let mut reader =
            Reader::open(file.try_clone().map_err(SpillError::Io)?, from.unwrap_or(0))?;
        let mut converter = Converter::new(reader.host());
        let mut batch = Vec::new();
        let mut begin = reader.position();
        let mut end = begin;
        loop {
            let next = if end >= limit {
                Ok(None)
            } else {
                reader.next()
            };
            let is_last = !matches!(next, Ok(Some(_)));
            if let Ok(Some((record, behind))) = &next {
                end = *behind;
                if is_topic(record.topic) {
                    batch.push(converter.convert(record));
                } else {
                    self.relay.counters.dropped.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(file = name, "a spilled record names no topic, it is lost");
                }
            }
            let is_full = batch.len() >= BATCH_RECORDS || end - begin >= BATCH_BYTES;
            if end > begin && (is_full || is_last) {
                let mark = Mark {
                    name: mark_name.clone(),
                    value: end,
                };
                self.append(&std::mem::take(&mut batch), &mark)?;
                remember(state, mark);
                begin = end;
            }
            if is_last {
                return next.map(|_| ()).map_err(Taking::Spill);
            }
        }
    }

    fn append(&self, records: &[NewRecord], mark: &Mark) -> Result<(), IntakeError> {
        let counters = &self.relay.counters;
        loop {
            let appending = self.relay.log.append_marked(records.to_vec(), mark.clone());
            match self.runtime.block_on(appending) {
                Ok(appended) => {
                    let taken = appended.appended + appended.duplicates;
                    counters
                        .spill_records
                        .fetch_add(taken as u64, Ordering::Relaxed);
                    counters
                        .duplicates
                        .fetch_add(appended.duplicates as u64, Ordering::Relaxed);
                    counters
                        .dropped
                        .fetch_add(appended.refused as u64, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error @ (LogError::Full { .. } | LogError::Io { .. })) => {
                    counters.append_errors.fetch_add(1, Ordering::Relaxed);
                    if self.relay.is_trouble_to_be_told() {
                        tracing::error!(%error, "the log takes no spilled records");
                    }
                }
                Err(error) => return Err(error.into()),
            }
            let mut stopping = self.relay.stopping.subscribe();
            let stopped = self.runtime.block_on(async {
                let stopped = stopping.wait_for(|stopping| *stopping);
                tokio::time::timeout(AGAIN, stopped).await.is_ok()
            });
            if stopped {
                return Err(IntakeError::Stopping);
            }
        }
    }

    fn conclude(
        &self,
        state: &mut State,
        name: &str,
        path: &Path,
        outcome: Outcome,
    ) -> Result<(), IntakeError> {
        let counters = &self.relay.counters;
        match outcome {
            Outcome::Live => return Ok(()),
            Outcome::Done => {
                fs::remove_file(path)?;
                counters.spill_files.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Torn(reason) => {
                counters.spill_torn.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    file = name,
                    reason,
                    "a spill file is torn: its whole records are taken in, the file is kept"
                );
                let mut aside = path.as_os_str().to_owned();
                aside.push(TORN_SUFFIX);
                fs::rename(path, aside)?;
                self.trim_torn()?;
            }
            Outcome::Refused(reason) => {
                let inode = fs::symlink_metadata(path)?.ino();
                if !state.refused.contains(&inode) {
                    state.refused.push(inode);
                    counters.spill_refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(file = name, reason, "a spill file is not taken in");
                }
                return Ok(());
            }
        }
        // The file is gone: its name never comes again.
        let mark_name = format!("{MARK_PREFIX}{name}");
        if let Some(marks) = &mut state.marks {
            marks.retain(|mark| mark.name != mark_name);
        }
        self.runtime
            .block_on(self.relay.log.forget_mark(&mark_name))?;
        Ok(())
    }

    fn trim_torn(&self) -> io::Result<()> {
        let mut torn: Vec<PathBuf> = fs::read_dir(&self.relay.intake.dir)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().ends_with(TORN_SUFFIX))
            .collect();
        torn.sort_unstable();
        let too_many = torn.len().saturating_sub(KEPT_TORN);
        for path in torn.into_iter().take(too_many) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Why the records of a file end.
enum Taking {
    Spill(SpillError),
    Intake(IntakeError),
}

impl From<SpillError> for Taking {
    fn from(error: SpillError) -> Self {
        Self::Spill(error)
    }
}

impl From<IntakeError> for Taking {
    fn from(error: IntakeError) -> Self {
        Self::Intake(error)
    }
}

fn remember(state: &mut State, mark: Mark) {
    let marks = state.marks.get_or_insert_default();
    match marks.iter_mut().find(|known| known.name == mark.name) {
        Some(known) => known.value = mark.value,
        None => marks.push(mark),
    }
}

//! Takes spill files in: each record once, in the order of its file.
//!
//! How far a file is taken in is a mark in the log, set together with the records. A file whose
//! writer lives is taken in as far as it goes and stays; one that is complete is deleted, one that
//! ends within a record is put aside.
//!
//! Files are made by mail users, who may put anything into the directory. So no file stands in the
//! way of another, nor of a client that does not name it: a client waits for the file it names and
//! looks at no other; files are read a slice at a time, and those who wait take turns; what cannot
//! be taken in is left, and the next file is taken.

mod aside;
mod claims;
mod conclude;
mod file;
mod kept;
mod telling;

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dovecast_log::embedded::Mark;
use dovecast_log::{Appended, LineLimit, LogError, NewRecord};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;

use super::batch::Rejections;
use super::{Relay, stopped};
use crate::spill::{SUFFIX, is_name};
use aside::{Removed, trim};
use claims::Claims;
use conclude::conclude;
use file::{Ending, Slice};
use kept::{Kept, keep};
use telling::{failed, refuse, reject};

pub(super) use kept::take_back;

/// Sticky, the relay's group, everybody may make files and nobody may look.
const DIRECTORY_MODE: u32 = 0o3733;
/// Slices of files that are read and appended at a time; bounds memory and blocking threads,
/// whatever number of clients name a file.
const SLICES_AT_A_TIME: usize = 8;
/// Marks that are forgotten in one go: the log makes one commit of them.
const FORGOTTEN_AT_A_TIME: usize = 500;
const MARK_PREFIX: &str = "spill/";
const APPEND_RETRY: Duration = Duration::from_millis(500);

/// The spill directory.
pub(super) struct Intake {
    dir: PathBuf,
    /// One file is never taken in twice at a time.
    claims: Arc<Claims>,
    turns: Semaphore,
    /// Whether files were put aside since those were counted.
    is_more_aside: AtomicBool,
    /// How far files are taken in, by name; read from the log once.
    marks: OnceCell<Mutex<HashMap<String, u64>>>,
    /// Files that were refused, by inode: counted once each, bounded by what is in the directory.
    refused: Mutex<HashSet<u64>>,
    /// Records that were left out of files whose clients have not been told yet, by name.
    rejections: Mutex<HashMap<String, Rejections>>,
    kept: Mutex<Kept>,
    failed_lines: LineLimit,
    /// Lines about refused files that were removed.
    removed_lines: LineLimit,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All that was in it when it was looked at is in the log.
    All,
    /// Left as it is until somebody changes something.
    Refused {
        reason: String,
        /// Whether the reason is its owner.
        is_owner: bool,
    },
    /// May be possible in a moment.
    NotNow,
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
            claims: Arc::default(),
            turns: Semaphore::new(SLICES_AT_A_TIME),
            // Since the last start there may be.
            is_more_aside: AtomicBool::new(true),
            marks: OnceCell::new(),
            refused: Mutex::default(),
            rejections: Mutex::default(),
            kept: Mutex::default(),
            failed_lines: LineLimit::default(),
            removed_lines: LineLimit::default(),
        })
    }

    async fn marks(&self, relay: &Relay) -> Result<MutexGuard<'_, HashMap<String, u64>>, LogError> {
        let marks = self.marks.get_or_try_init(|| async {
            let marks = relay.log.marks().await?.into_iter().filter_map(|mark| {
                let name = mark.name.strip_prefix(MARK_PREFIX)?;
                Some((name.to_owned(), mark.value))
            });
            let marks: HashMap<String, u64> = marks.collect();
            self.kept().resumed = marks.keys().cloned().collect();
            Ok::<_, LogError>(Mutex::new(marks))
        });
        Ok(marks.await?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn refused(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in the file that a client names.
pub(super) async fn take_named(relay: &Arc<Relay>, name: &str) -> Taken {
    let _claim = relay.intake.claims.claim(name).await;
    take_file(relay, name).await
}

/// Takes in all files, in the order of their names; those that cannot be are left for the next
/// time.
pub(super) async fn take_all(relay: &Arc<Relay>) {
    let listing = Arc::clone(relay);
    let listed = tokio::task::spawn_blocking(move || list(&listing.intake.dir)).await;
    let Listed { names, others } = match listed.map_err(io::Error::other).flatten() {
        Ok(listed) => listed,
        Err(error) => {
            tracing::error!(%error, "the spill directory cannot be read; this is retried");
            return;
        }
    };
    let pending = (names.len() + others.len()) as u64;
    relay
        .counters
        .spill_pending
        .store(pending, Ordering::Relaxed);
    let there: HashSet<u64> = names
        .iter()
        .chain(&others)
        .map(|(_, inode)| *inode)
        .collect();
    relay.intake.refused().retain(|inode| there.contains(inode));
    let is_there = |name: &String| names.binary_search_by(|(there, _)| there.cmp(name)).is_ok();
    relay.intake.rejections().retain(|name, _| is_there(name));
    relay.intake.kept().retain(is_there);
    for (name, inode) in others {
        refuse(
            relay,
            &name,
            (inode, None),
            "its name is none of a spill file",
        );
    }
    for (name, _) in names {
        if *relay.stopping.borrow() {
            return;
        }
        // Whoever has it takes it in.
        if let Some(_claim) = relay.intake.claims.try_claim(&name) {
            take_file(relay, &name).await;
        }
    }
    if let Err(error) = forget_marks(relay).await {
        failed(relay, &error, "marks of spill files that are gone");
    }
    if relay.intake.is_more_aside.swap(false, Ordering::Relaxed) {
        let dir = relay.intake.dir.clone();
        let trimmed = tokio::task::spawn_blocking(move || trim(&dir)).await;
        match trimmed.map_err(io::Error::other).flatten() {
            Ok(removed) => tell_removed(relay, &removed),
            Err(error) => failed(
                relay,
                &error.into(),
                "files that were put aside and are too many",
            ),
        }
    }
}

/// Counts refused files that were removed, and logs them: nobody gets what was in them.
fn tell_removed(relay: &Relay, removed: &Removed) {
    if *removed == Removed::default() {
        return;
    }
    let counter = &relay.counters.spill_kept_removed;
    counter.fetch_add(removed.files, Ordering::Relaxed);
    if relay.intake.removed_lines.take() {
        tracing::error!(
            files = removed.files,
            bytes = removed.bytes,
            "refused spill files were too many, and the oldest were removed: their events are lost"
        );
    }
}

/// What is in the spill directory: names and inodes, in order.
struct Listed {
    names: Vec<(String, u64)>,
    /// With the suffix of a spill file, and not made by a client.
    others: Vec<(String, u64)>,
}

fn list(dir: &Path) -> io::Result<Listed> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<DirEntry>>>()?;
    let mut names: Vec<(String, u64)> = entries
        .iter()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.ino(),
            )
        })
        .filter(|(name, _)| name.ends_with(SUFFIX) && !name.starts_with('.'))
        .collect();
    names.sort_unstable();
    let (names, others) = names.into_iter().partition(|(name, _)| is_name(name));
    Ok(Listed { names, others })
}

/// Takes in what is in a file now. The caller has its claim.
async fn take_file(relay: &Arc<Relay>, name: &str) -> Taken {
    let mut goal = None;
    loop {
        let mut slice = match take_slice(relay, name, goal).await {
            Ok(slice) => slice,
            Err(IntakeError::Stopping | IntakeError::Log(LogError::Closed)) => {
                return Taken::NotNow;
            }
            Err(error) => {
                failed(relay, &error, name);
                return Taken::NotNow;
            }
        };
        goal = Some(slice.goal);
        match slice.ending.take() {
            None => {}
            Some(Ending::Gone | Ending::Live) => return Taken::All,
            Some(Ending::Refused { reason, is_owner }) => {
                refuse(relay, name, (slice.inode, slice.owner), &reason);
                return Taken::Refused { reason, is_owner };
            }
            // All of it is in the log, whether it can be removed or not.
            Some(ending) => {
                if let Err(error) = conclude(relay, name, &slice, ending).await {
                    failed(relay, &error, name);
                }
                return Taken::All;
            }
        }
    }
}

/// Appends the next slice of a file.
async fn take_slice(
    relay: &Arc<Relay>,
    name: &str,
    goal: Option<u64>,
) -> Result<Slice, IntakeError> {
    if *relay.stopping.borrow() {
        return Err(IntakeError::Stopping);
    }
    // Kept until the records are appended: so many slices are in memory at most.
    let _turn = relay.intake.turns.acquire().await;
    let from = relay.intake.marks(relay).await?.get(name).copied();
    let (reading, path) = (Arc::clone(relay), relay.intake.dir.join(name));
    let read = move || file::read_slice(&reading, &path, from.unwrap_or(0), goal);
    let mut slice = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| IntakeError::Panicked)??;
    if slice.end > slice.begin {
        let records = std::mem::take(&mut slice.records);
        let appended = append(relay, records, name, slice.end).await?;
        slice.rejections.add_refused(&appended);
        reject(relay, name, &slice);
        keep(relay, name, &slice);
        let mut marks = relay.intake.marks(relay).await?;
        marks.insert(name.to_owned(), slice.end);
    }
    Ok(slice)
}

async fn append(
    relay: &Relay,
    records: Vec<NewRecord>,
    name: &str,
    end: u64,
) -> Result<Appended, IntakeError> {
    let counters = &relay.counters;
    let mut stopping = relay.stopping.subscribe();
    let mark = Mark {
        name: format!("{MARK_PREFIX}{name}"),
        value: end,
    };
    loop {
        match relay.log.append_marked(records.clone(), mark.clone()).await {
            Ok(appended) => {
                for (counter, count) in [
                    (&counters.spill_records, appended.appended),
                    (&counters.spill_records, appended.duplicates),
                    (&counters.duplicates, appended.duplicates),
                ] {
                    counter.fetch_add(count as u64, Ordering::Relaxed);
                }
                return Ok(appended);
            }
            Err(error @ (LogError::Full { .. } | LogError::Io { .. })) => {
                counters.append_errors.fetch_add(1, Ordering::Relaxed);
                if relay.trouble_lines.take() {
                    tracing::error!(%error, "the log does not store spilled records; this is retried");
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(APPEND_RETRY) => {}
            () = stopped(&mut stopping) => return Err(IntakeError::Stopping),
        }
    }
}

/// Forgets the marks of files that are gone: their names never come again.
async fn forget_marks(relay: &Arc<Relay>) -> Result<(), IntakeError> {
    let names: Vec<String> = relay.intake.marks(relay).await?.keys().cloned().collect();
    let dir = relay.intake.dir.clone();
    let is_gone = move |name: &String| {
        let there = fs::symlink_metadata(dir.join(name));
        there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let finding = move || names.into_iter().filter(is_gone).collect::<Vec<_>>();
    let gone = tokio::task::spawn_blocking(finding)
        .await
        .map_err(|_| IntakeError::Panicked)?;
    for some in gone.chunks(FORGOTTEN_AT_A_TIME) {
        let mut forgetting = JoinSet::new();
        for name in some {
            let (relay, name) = (Arc::clone(relay), name.clone());
            forgetting.spawn(async move {
                let mark_name = format!("{MARK_PREFIX}{name}");
                relay.log.forget_mark(&mark_name).await.map(|()| name)
            });
        }
        while let Some(done) = forgetting.join_next().await {
            let name = done.map_err(|_| IntakeError::Panicked)??;
            relay.intake.marks(relay).await?.remove(&name);
        }
    }
    Ok(())
}

/// Why a file cannot be taken in now.
#[derive(Debug, thiserror::Error)]
enum IntakeError {
    #[error("the relay is being stopped")]
    Stopping,
    #[error("taking it in has panicked")]
    Panicked,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

//! Takes spill files in: each record once, in the order of its file.
//!
//! How far a file is taken in is a mark in the log, set together with the records. A file whose
//! writer lives is taken in as far as it goes and stays; one that is complete is deleted, one that
//! ends within a record is put aside.
//!
//! Files are made by mail users, who may put anything into the directory. So no file stands in the
//! way of another, nor of a client that does not name it: a client waits for the file it names and
//! looks at no other; files are read a slice at a time, and those who wait take turns; what cannot
//! be taken in is left, and the next file is taken. What a file holds counts for its user like what
//! the user's mail processes send ([`pace`]).

mod aside;
mod claims;
mod conclude;
mod file;
mod kept;
mod pace;
mod scan;
mod telling;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::embedded::Mark;
use dovecast_log::{Appended, LineLimit, LogError, NewRecord};
use tokio::sync::{OnceCell, Semaphore};

use super::batch::Rejections;
use super::{Relay, stopped};
use claims::Claims;
use conclude::conclude;
use file::{Changed, Ending, Slice};
use kept::{Kept, keep};
use pace::{Pace, charge, charge_in_vain, held_until};
use telling::{failed, refuse, reject};

pub(super) use kept::take_back;
pub(super) use scan::{Look, take_all};

/// Sticky, the relay's group, everybody may make files and nobody may look.
const DIRECTORY_MODE: u32 = 0o3733;
/// Slices of files that are read and appended at a time; bounds memory and blocking threads,
/// whatever number of clients name a file.
const SLICES_AT_A_TIME: usize = 8;
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
    /// Files that were refused, by inode, and the state that they need not be opened again in:
    /// counted once each, bounded by what is in the directory.
    refused: Mutex<HashMap<u64, Option<Changed>>>,
    /// Records that were left out of files whose clients have not been told yet, by name.
    rejections: Mutex<HashMap<String, Rejections>>,
    kept: Mutex<Kept>,
    pace: Pace,
    failed_lines: LineLimit,
    /// Lines about refused files that were removed.
    removed_lines: LineLimit,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All that was in it when it was looked at is in the log.
    All,
    /// The file was complete, and had nothing.
    Nothing,
    /// Left as it is until somebody changes something.
    Refused {
        reason: String,
        /// Whether the reason is its owner.
        is_owner: bool,
    },
    /// May be possible in a moment.
    NotNow,
    /// The user of the file has sent too much, and waits.
    Held,
}

/// What is done with a file whose user has sent too much.
#[derive(Clone, Copy)]
enum WhenHeld {
    /// The caller waits for its turn.
    Wait,
    /// The file is left as it is.
    Leave,
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
            pace: Pace::default(),
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

    /// How long until the directory is looked at again, of an interval.
    pub(super) fn next_look(&self, interval: Duration) -> Duration {
        self.pace.next_look(interval, Instant::now())
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<u64, Option<Changed>>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in the file that a client names.
pub(super) async fn take_named(relay: &Arc<Relay>, name: &str) -> Taken {
    let _claim = relay.intake.claims.claim(name).await;
    let path = relay.intake.dir.join(name);
    let owner = tokio::task::spawn_blocking(move || owner_of(&path)).await;
    take_file(relay, name, owner.ok().flatten(), WhenHeld::Wait).await
}

/// Whose file it is; `None`: it is gone.
fn owner_of(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().map(|there| there.uid())
}

/// Takes in what is in a file now. The caller has its claim.
async fn take_file(
    relay: &Arc<Relay>,
    name: &str,
    owner: Option<u32>,
    when_held: WhenHeld,
) -> Taken {
    let mut goal = None;
    let mut has_records = false;
    loop {
        while let Some(until) = owner.and_then(|uid| held_until(relay, uid)) {
            match when_held {
                WhenHeld::Leave => return Taken::Held,
                WhenHeld::Wait => tokio::time::sleep_until(until.into()).await,
            }
        }
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
        has_records |= slice.end > slice.begin;
        match slice.ending.take() {
            None => {}
            Some(Ending::Gone | Ending::Live) => return Taken::All,
            Some(Ending::Refused { reason, is_owner }) => {
                charge_in_vain(relay, owner);
                refuse(relay, name, &slice, &reason);
                return Taken::Refused { reason, is_owner };
            }
            // All of it is in the log, whether it can be removed or not.
            Some(ending) => {
                if let Err(error) = conclude(relay, name, &slice, ending).await {
                    failed(relay, &error, name);
                }
                if has_records {
                    return Taken::All;
                }
                charge_in_vain(relay, owner);
                return Taken::Nothing;
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
        if let Some(uid) = slice.owner {
            charge(relay, uid, (slice.count(), slice.end - slice.begin));
        }
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

//! The file of a script: whether it has changed, and whether it is written to its end.
//!
//! Whoever writes a file in place begins with an empty one, and an empty file is a script that does
//! nothing: what has just changed is left alone until it stays as it is. The first file is loaded
//! as it is, as in Dovecot.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How long a file has to stay as it is until it is loaded: what writes one takes shorter breaks.
const SETTLING_TIME: Duration = Duration::from_secs(1);
/// Longest time that a file is left alone which changes all the time.
const LONGEST_CHANGE: Duration = Duration::from_secs(30);

/// What tells one state of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl FileState {
    /// The file as it is now; `None`: it is not there, which is a state, too. It is asked for each
    /// transaction, which takes microseconds.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
            inode: metadata.ino(),
        })
    }

    /// How long nobody has written to it; `None`: by the clock, never.
    fn age(&self) -> Option<Duration> {
        self.modified?.elapsed().ok()
    }
}

/// The file of a script, as it is seen again and again.
#[derive(Default)]
pub(super) struct ScriptFile {
    /// As it was when it was last loaded, with success or not.
    loaded: Loaded,
    /// Whether that is another state than the first one.
    is_another: bool,
    change: Option<Change>,
}

/// What was loaded last.
#[derive(Default)]
enum Loaded {
    /// Nothing yet.
    #[default]
    Nothing,
    /// The file in this state, which may be that it was not there.
    File(Option<FileState>),
}

/// A change of the file since it was last loaded.
struct Change {
    now: Option<FileState>,
    /// Since when it is as it is now.
    since: Instant,
    began: Instant,
}

impl ScriptFile {
    /// Whether the file is another one than that which was loaded.
    pub(super) fn has_changed(&self, file: Option<FileState>) -> bool {
        matches!(self.loaded, Loaded::File(loaded) if loaded != file)
    }

    /// Whether a file was loaded before the one that is.
    pub(super) fn is_another(&self) -> bool {
        self.is_another
    }

    /// How long the file is still left alone, for it has just changed; `None`: it may be loaded.
    pub(super) fn settles_in(&mut self, file: Option<FileState>, now: Instant) -> Option<Duration> {
        if !self.has_changed(file) {
            self.change = None;
            return None;
        }
        let change = self.change.get_or_insert(Change {
            now: file,
            since: now,
            began: now,
        });
        if change.now != file {
            (change.now, change.since) = (file, now);
        }
        if now - change.began >= LONGEST_CHANGE {
            return None;
        }
        // The clock may have been set; what was seen for as long is as old in any case.
        let age = file.and_then(|file| file.age()).unwrap_or_default();
        let left = SETTLING_TIME.saturating_sub(age.max(now - change.since));
        (!left.is_zero()).then_some(left)
    }

    /// The file is loaded in this state.
    pub(super) fn loads(&mut self, file: Option<FileState>) {
        self.is_another |= self.has_changed(file);
        self.loaded = Loaded::File(file);
        self.change = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(bytes: u64, age: Duration) -> FileState {
        FileState {
            modified: SystemTime::now().checked_sub(age),
            bytes,
            inode: 1,
        }
    }

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn the_first_file_is_loaded_as_it_is_and_another_one_when_it_has_settled() {
        let (mut file, now) = (ScriptFile::default(), Instant::now());
        let first = Some(state(1, Duration::ZERO));
        assert_eq!(file.settles_in(first, now), None);
        file.loads(first);
        assert!(!file.has_changed(first) && !file.is_another());
        assert_eq!(file.settles_in(first, now), None);
        // What was written long ago takes the name of the first one.
        let renamed = Some(state(2, HOUR));
        assert!(file.has_changed(renamed));
        assert_eq!(file.settles_in(renamed, now), None);
        file.loads(renamed);
        assert!(file.is_another());
        // The same again is still not the first one.
        file.loads(renamed);
        assert!(file.is_another() && !file.has_changed(renamed));
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let (mut file, began) = (ScriptFile::default(), Instant::now());
        file.loads(Some(state(9, HOUR)));
        // A time ahead of the clock's says nothing, nor does a file that is not there.
        let ahead = SystemTime::now() + HOUR;
        let written = |bytes| {
            Some(FileState {
                modified: Some(ahead),
                ..state(bytes, HOUR)
            })
        };
        let at = |ms| began + Duration::from_millis(ms);
        assert_eq!(file.settles_in(None, at(0)), Some(SETTLING_TIME));
        assert_eq!(file.settles_in(written(0), at(900)), Some(SETTLING_TIME));
        let left = file.settles_in(written(0), at(1500));
        assert_eq!(left, Some(Duration::from_millis(400)));
        assert_eq!(file.settles_in(written(5), at(1800)), Some(SETTLING_TIME));
        assert_eq!(file.settles_in(written(5), at(2800)), None);
        // One that changes all the time is loaded at last.
        assert_eq!(file.settles_in(written(6), at(29_000)), Some(SETTLING_TIME));
        assert_eq!(file.settles_in(written(7), at(30_000)), None);
    }
}

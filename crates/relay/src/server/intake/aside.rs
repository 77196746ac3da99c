//! Spill files under another name: torn ones, kept for the operator to look at, and those with
//! records that the configuration refuses, kept until it takes them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use uuid::Uuid;

use crate::spill::{random, rename_new};

/// Names of files that end within a record.
pub(super) const TORN_SUFFIX: &str = ".torn";
/// Names of files with records that the configuration refuses.
pub(super) const REFUSED_SUFFIX: &str = ".refused";
/// Torn files that are kept: enough to see what has happened.
const KEPT_TORN: Most = Most {
    files: 100,
    bytes: u64::MAX,
};
/// Refused files that are kept: one of each user of a large host, and what the partition of the
/// spill directory can spare.
const KEPT_REFUSED: Most = Most {
    files: 10_000,
    bytes: 1024 * 1024 * 1024,
};
/// How much of a file's name stands in the name it is kept by, in bytes: a name has 255 at most.
const KEPT_NAME_BYTES: usize = 100;

/// Gives a file a name with this suffix that nothing has, and that no user can have guessed.
pub(super) fn put_aside(path: &Path, suffix: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = &name[..name.floor_char_boundary(KEPT_NAME_BYTES)];
    let id = Uuid::from_u64_pair(random(), random());
    let aside = format!("{name}.{}{suffix}", id.simple());
    rename_new(path, &path.with_file_name(aside))
}

/// How many files of one kind are kept. Of more, those of the user with the most go, the oldest
/// first.
#[derive(Clone, Copy)]
struct Most {
    files: usize,
    bytes: u64,
}

/// A file that was put aside.
struct Aside {
    written: SystemTime,
    path: PathBuf,
    bytes: u64,
}

/// What was removed because there was too much of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Removes torn files and refused ones that are too many, and gives what of the refused was
/// removed: their records are lost.
pub(super) fn trim(dir: &Path) -> io::Result<Removed> {
    trim_those(dir, TORN_SUFFIX, KEPT_TORN)?;
    trim_those(dir, REFUSED_SUFFIX, KEPT_REFUSED)
}

/// Removes files with this suffix until there are at most so many. What has such a name and is no
/// file was made by a user, and is left.
fn trim_those(dir: &Path, suffix: &str, most: Most) -> io::Result<Removed> {
    let mut of_users: BTreeMap<u32, (Vec<Aside>, u64)> = BTreeMap::new();
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_one = path.to_string_lossy().ends_with(suffix);
        let Some(there) = is_one.then(|| fs::symlink_metadata(&path).ok()).flatten() else {
            continue;
        };
        if there.is_file() {
            files += 1;
            bytes += there.len();
            let (all, held) = of_users.entry(there.uid()).or_default();
            *held += there.len();
            all.push(Aside {
                written: there.modified()?,
                path,
                bytes: there.len(),
            });
        }
    }
    for (all, _) in of_users.values_mut() {
        // The oldest is the last.
        all.sort_unstable_by(|one, other| {
            (other.written, &other.path).cmp(&(one.written, &one.path))
        });
    }
    let mut removed = Removed::default();
    while files > most.files || bytes > most.bytes {
        let has_most = |(all, held): &&mut (Vec<Aside>, u64)| {
            let count = all.len() as u64;
            if files > most.files {
                (count, *held)
            } else {
                (*held, count)
            }
        };
        let Some((all, held)) = of_users.values_mut().max_by_key(has_most) else {
            break;
        };
        let Some(oldest) = all.pop() else {
            break;
        };
        *held -= oldest.bytes;
        files -= 1;
        bytes -= oldest.bytes;
        match fs::remove_file(&oldest.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                other?;
                removed.files += 1;
                removed.bytes += oldest.bytes;
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    #[test]
    fn of_too_many_files_the_oldest_go_and_others_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let make = |name: &str, age: u64, bytes: usize| {
            let path = dir.path().join(name);
            fs::write(&path, vec![b'x'; bytes]).expect("a file");
            let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age);
            let file = File::options().append(true).open(&path).expect("a file");
            file.set_modified(written).expect("a time");
        };
        // Their names do not say which is the oldest.
        make("b.spill.1.refused", 3, 10);
        make("a.spill.2.refused", 1, 30);
        make("c.spill.3.refused", 2, 20);
        make("d.spill", 9, 100);
        make("e.spill.4.torn", 9, 100);
        let names = || {
            let entries = fs::read_dir(dir.path()).expect("the directory");
            let name = |entry: io::Result<fs::DirEntry>| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            };
            let mut names: Vec<String> = entries.map(name).collect();
            names.sort();
            names
        };
        let check = |most: Most, removed: (u64, u64), refused: &[&str]| {
            let (files, bytes) = removed;
            let done = trim_those(dir.path(), REFUSED_SUFFIX, most).expect("trimmed");
            assert_eq!(done, Removed { files, bytes });
            assert_eq!(names(), [refused, &["d.spill", "e.spill.4.torn"]].concat());
        };
        let all = [
            "a.spill.2.refused",
            "b.spill.1.refused",
            "c.spill.3.refused",
        ];
        let most = |files, bytes| Most { files, bytes };
        check(most(3, 60), (0, 0), &all);
        check(most(2, 60), (1, 10), &[all[0], all[2]]);
        check(most(2, 49), (1, 20), &[all[0]]);
        check(most(2, 0), (1, 30), &[]);
    }
}

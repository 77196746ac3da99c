//! Spill files under another name: torn ones, kept for the operator to look at, and those with
//! records that the configuration refuses, kept until it takes them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::spill::{random, rename_new};

/// Torn files that are kept; of more, those of the user with the most go, the oldest first.
const KEPT_TORN: usize = 100;
pub(super) const TORN_SUFFIX: &str = ".torn";
/// Names of files with records that the configuration refuses. All are kept: they are their users'
/// own, as are those of users who may not send.
pub(super) const REFUSED_SUFFIX: &str = ".refused";
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

/// Removes those that are too many. What has such a name and is no file was made by a user, and is
/// left.
pub(super) fn trim(dir: &Path) -> io::Result<()> {
    let mut of_users: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_torn = path.to_string_lossy().ends_with(TORN_SUFFIX);
        let Some(there) = is_torn.then(|| fs::symlink_metadata(&path).ok()).flatten() else {
            continue;
        };
        if there.is_file() {
            of_users.entry(there.uid()).or_default().push(path);
            count += 1;
        }
    }
    for paths in of_users.values_mut() {
        // The oldest is the last.
        paths.sort_unstable_by(|one, other| other.cmp(one));
    }
    while count > KEPT_TORN {
        let most = of_users.values_mut().max_by_key(|paths| paths.len());
        let Some(path) = most.and_then(Vec::pop) else {
            break;
        };
        count -= 1;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

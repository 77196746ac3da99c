//! The search for spill files: all that are there, those of each user in the order of their names,
//! and users side by side, so that one who leaves very many holds up nobody else.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::aside::{Removed, trim};
use super::file::{Changed, Slice, changed};
use super::telling::{failed, refuse};
use super::{IntakeError, MARK_PREFIX, Taken, WhenHeld, take_file};
use crate::server::Relay;
use crate::spill::{SUFFIX, is_name};

/// Marks that are forgotten in one go: the log makes one commit of them.
const FORGOTTEN_AT_A_TIME: usize = 500;
/// Users whose files are taken in side by side, a slice of each in turn.
const USERS_AT_A_TIME: usize = 64;

/// Files of a user that are opened in vain before clients are heard: some are honest, torn by a
/// power cut, and whoever leaves very many must not keep mail processes waiting.
const FIRST_IN_VAIN: usize = 1000;

/// How the spill directory is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Look {
    /// Before any client is heard: files of users who may send, and of each user as long as there
    /// is something in them. The rest is left to the next look.
    First,
    /// While clients are heard.
    Later,
}

/// Takes in all files, those of a user in the order of their names; those that cannot be, and those
/// of users who have sent too much, are left for the next time.
pub(in crate::server) async fn take_all(relay: &Arc<Relay>, look: Look) {
    let listing = Arc::clone(relay);
    let listed = tokio::task::spawn_blocking(move || {
        let is_refused = |inode: u64, state: Changed| {
            listing.intake.refused().get(&inode).copied().flatten() == Some(state)
        };
        list(&listing.intake.dir, is_refused)
    });
    let listed = listed.await;
    let Listed {
        names,
        others,
        of_users,
    } = match listed.map_err(io::Error::other).flatten() {
        Ok(listed) => listed,
        Err(error) => {
            if relay.intake.failed_lines.take() {
                tracing::error!(%error, "the spill directory cannot be read; this is retried");
            }
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
    relay
        .intake
        .refused()
        .retain(|inode, _| there.contains(inode));
    let is_there = |name: &String| names.binary_search_by(|(there, _)| there.cmp(name)).is_ok();
    relay.intake.rejections().retain(|name, _| is_there(name));
    relay.intake.kept().retain(is_there);
    for (name, inode) in others {
        let file = Slice {
            inode,
            ..Slice::default()
        };
        refuse(relay, &name, &file, "its name is none of a spill file");
    }
    let mut taking = JoinSet::new();
    for (owner, names) in of_users {
        let may_send = owner.is_none_or(|uid| relay.peers.may_send(uid));
        if look == Look::First && !may_send {
            continue;
        }
        if taking.len() >= USERS_AT_A_TIME {
            tell_panic(taking.join_next().await);
        }
        taking.spawn(take_of_user(Arc::clone(relay), owner, names, look));
    }
    while let Some(taken) = taking.join_next().await {
        tell_panic(Some(taken));
    }
    if *relay.stopping.borrow() {
        return;
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

fn tell_panic(taken: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = taken {
        tracing::error!(%error, "taking in the spill files of a user has panicked; this is retried");
    }
}

/// Takes in the files of one user, as far as it may send. No later file overtakes one that waits.
async fn take_of_user(relay: Arc<Relay>, owner: Option<u32>, names: Vec<String>, look: Look) {
    let mut in_vain = 0;
    for name in names {
        if *relay.stopping.borrow() {
            return;
        }
        // Whoever has it takes it in.
        let Some(_claim) = relay.intake.claims.try_claim(&name) else {
            continue;
        };
        match take_file(&relay, &name, owner, WhenHeld::Leave).await {
            Taken::Held => return,
            Taken::Refused { .. } | Taken::Nothing => in_vain += 1,
            Taken::All | Taken::NotNow => {}
        }
        if look == Look::First && in_vain >= FIRST_IN_VAIN {
            return;
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
    /// The names by the users whose files they are, without those that are refused as they are.
    of_users: BTreeMap<Option<u32>, Vec<String>>,
}

fn list(dir: &Path, is_refused: impl Fn(u64, Changed) -> bool) -> io::Result<Listed> {
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
    let (names, others): (Vec<_>, _) = names.into_iter().partition(|(name, _)| is_name(name));
    let mut of_users: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (name, _) in &names {
        let there = fs::symlink_metadata(dir.join(name)).ok();
        let is_known = |there: &fs::Metadata| is_refused(there.ino(), changed(there));
        if there.as_ref().is_some_and(is_known) {
            continue;
        }
        let owner = there.map(|there| there.uid());
        of_users.entry(owner).or_default().push(name.clone());
    }
    Ok(Listed {
        names,
        others,
        of_users,
    })
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_is_refused_as_it_is_is_not_opened_again_until_it_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.spill");
        fs::write(&path, "nonsense").expect("a file");
        let there = fs::symlink_metadata(&path).expect("its state");
        let refused = (there.ino(), changed(&there));
        let opened = || {
            let is_refused = |inode: u64, state: Changed| (inode, state) == refused;
            let listed = list(dir.path(), is_refused).expect("a list");
            assert_eq!(listed.names.len(), 1, "it is there all the time");
            listed.of_users.len()
        };
        assert_eq!(opened(), 0);
        // Time has to be another one than that of the file.
        while changed(&fs::symlink_metadata(&path).expect("its state")) == refused.1 {
            let mode = fs::Permissions::from_mode(0o640);
            fs::set_permissions(&path, mode).expect("its own");
        }
        assert_eq!(opened(), 1);
    }
}

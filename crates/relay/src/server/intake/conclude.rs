//! What becomes of a file that is taken in to its end: it is removed, or put aside.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::aside::{REFUSED_SUFFIX, TORN_SUFFIX, put_aside};
use super::file::{self, Ending, Slice};
use super::{IntakeError, Relay, kept};

/// Removes a file that is at its end; one that is torn, or has records that the configuration
/// refuses, is put aside.
pub(super) async fn conclude(
    relay: &Arc<Relay>,
    name: &str,
    slice: &Slice,
    ending: Ending,
) -> Result<(), IntakeError> {
    let (inode, owner, length) = (slice.inode, slice.owner, slice.length);
    let path = relay.intake.dir.join(name);
    let torn = match ending {
        Ending::Torn(reason) => Some(reason),
        _ => None,
    };
    let suffix = if kept::has_kept(relay, name).await? {
        Some(REFUSED_SUFFIX)
    } else {
        torn.is_some().then_some(TORN_SUFFIX)
    };
    let moving = move || -> io::Result<bool> {
        let Some(_locked) = file::lock(&path, inode, length)? else {
            return Ok(false);
        };
        match suffix {
            Some(suffix) => put_aside(&path, suffix)?,
            None => fs::remove_file(&path)?,
        }
        Ok(true)
    };
    let moved = tokio::task::spawn_blocking(moving)
        .await
        .map_err(|_| IntakeError::Panicked)?;
    match moved {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // It is another one now, or there is more in it: looked at again with the others.
        moved => {
            if !moved? {
                return Ok(());
            }
        }
    }
    let counters = &relay.counters;
    if suffix.is_none() {
        counters.spill_files.fetch_add(1, Ordering::Relaxed);
    }
    if suffix == Some(REFUSED_SUFFIX) {
        counters.spill_refused.fetch_add(1, Ordering::Relaxed);
    }
    if suffix.is_some() {
        relay.intake.is_more_aside.store(true, Ordering::Relaxed);
    }
    let Some(reason) = torn else {
        return Ok(());
    };
    counters.spill_torn.fetch_add(1, Ordering::Relaxed);
    if relay.peers.files.take(owner.unwrap_or(u32::MAX)) {
        tracing::warn!(
            file = name,
            uid = owner,
            reason,
            "a spill file is torn: its complete records are appended to the log, and the file is kept"
        );
    }
    Ok(())
}

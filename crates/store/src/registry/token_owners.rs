//! Who tokens stand for, remembered for a moment: whoever sends many requests is not looked up for
//! each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::TokenOwner;

/// Time that a token is remembered, and so accepted after it was deleted on another node.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Most tokens that are remembered; when there would be more, all are forgotten.
const MAX_OWNERS: usize = 10_000;

/// By the hashes of tokens.
#[derive(Debug, Default)]
pub(crate) struct TokenOwners(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    owners: HashMap<String, (TokenOwner, Instant)>,
    /// Counts what was forgotten: what was looked up before must not be remembered after.
    forgotten: u64,
}

impl TokenOwners {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of a token, or a number to remember one with once it is known.
    pub(super) fn get(&self, hash: &str) -> Result<TokenOwner, u64> {
        let known = self.known();
        match known.owners.get(hash) {
            Some((owner, since)) if since.elapsed() < REMEMBERED => Ok(owner.clone()),
            _ => Err(known.forgotten),
        }
    }

    pub(super) fn remember(&self, hash: String, owner: &TokenOwner, asked: u64) {
        let mut known = self.known();
        if known.forgotten != asked {
            return;
        }
        if known.owners.len() >= MAX_OWNERS {
            known.owners.clear();
        }
        let now = Instant::now();
        known.owners.insert(hash, (owner.clone(), now));
    }

    /// A token is gone, or an account.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        known.owners.clear();
        known.forgotten += 1;
    }
}

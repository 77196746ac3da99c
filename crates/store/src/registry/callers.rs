//! Who tokens stand for, remembered for a moment: whoever sends many requests is not looked up for
//! each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Caller;

/// How long a token is remembered, and so accepted after it was deleted on another node.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Most tokens that are remembered; when there would be more all are forgotten and looked up again.
const MOST: usize = 10_000;

/// By the hashes of tokens.
#[derive(Debug, Default)]
pub(crate) struct Callers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    callers: HashMap<String, (Caller, Instant)>,
    /// Counts what was forgotten: what was looked up before must not be remembered after.
    forgotten: u64,
}

impl Callers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who it is, or a number to remember him with once that is known.
    pub(super) fn get(&self, hash: &str) -> Result<Caller, u64> {
        let known = self.known();
        match known.callers.get(hash) {
            Some((caller, since)) if since.elapsed() < REMEMBERED => Ok(caller.clone()),
            _ => Err(known.forgotten),
        }
    }

    pub(super) fn remember(&self, hash: String, caller: &Caller, asked: u64) {
        let mut known = self.known();
        if known.forgotten != asked {
            return;
        }
        if known.callers.len() >= MOST {
            known.callers.clear();
        }
        let now = Instant::now();
        known.callers.insert(hash, (caller.clone(), now));
    }

    /// A token is gone, or an account.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        known.callers.clear();
        known.forgotten += 1;
    }
}

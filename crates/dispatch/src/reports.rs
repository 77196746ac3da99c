//! What is logged of the conditions of accounts: of each account once a minute, as its conditions
//! may be too costly for every notification.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::locks::Lock;

/// How often is logged what becomes of the conditions of an account.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// Accounts of which is known when something was logged last.
const REPORTED_ACCOUNTS: usize = 1_000;

/// When was logged last what, by account.
#[derive(Debug)]
pub(crate) struct Reports(Lock<HashMap<(Box<str>, Report), Instant>>);

impl Default for Reports {
    fn default() -> Self {
        Self(Lock::new("reports", HashMap::new()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Report {
    NotRun,
    Deferred,
}

impl Reports {
    /// Whether it is time to log it again.
    pub(crate) fn is_due(&self, account: &str, report: Report) -> bool {
        let now = Instant::now();
        let mut logged = self.0.lock();
        let key = (Box::from(account), report);
        let is_recent = |at: &Instant| now.duration_since(*at) < REPORT_INTERVAL;
        if logged.get(&key).is_some_and(is_recent) {
            return false;
        }
        if logged.len() >= REPORTED_ACCOUNTS {
            logged.retain(|_, at| is_recent(at));
        }
        let has_room = logged.len() < REPORTED_ACCOUNTS;
        if has_room {
            logged.insert(key, now);
        }
        has_room
    }
}

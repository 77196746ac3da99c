//! Large reads: lists and explanations whose answers have megabytes. How many are made at a time is
//! bounded, for an account and in all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dovecast_store::AccountId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Operations, Refusal, Result, Tenant};

/// Most large reads of one account at a time, until their answers are sent: a page of a person asks
/// for a few lists at once.
const ACCOUNT_READS: usize = 4;
/// Most large reads of all accounts that are made at a time: each may have tens of megabytes in
/// memory. An answer that is sent counts for its account only, so that whoever reads slowly keeps
/// nobody else from asking.
const READS: usize = 16;
/// When a read that is refused may be asked for again: most are made in less.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Large reads that are under way.
#[derive(Debug)]
pub(super) struct Reads {
    of_accounts: Mutex<HashMap<AccountId, usize>>,
    in_all: Arc<Semaphore>,
    refused: AtomicU64,
}

/// Place of a large read, given back when it is dropped.
#[derive(Debug)]
pub struct ReadPlace {
    _of_account: AccountPlace,
    in_all: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct AccountPlace {
    reads: Arc<Reads>,
    account: AccountId,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            of_accounts: Mutex::default(),
            in_all: Arc::new(Semaphore::new(READS)),
            refused: AtomicU64::new(0),
        }
    }
}

impl Reads {
    /// Reads that were refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn take(self: &Arc<Self>, account: AccountId) -> Result<ReadPlace> {
        let of_account = self.take_of(account).ok_or_else(|| {
            self.refuse(format!(
                "{ACCOUNT_READS} lists or explanations of this account are under way, and there may be no more; ask again later"
            ))
        })?;
        let in_all = Arc::clone(&self.in_all).try_acquire_owned();
        let in_all = in_all.map_err(|_| {
            self.refuse(format!(
                "{READS} lists or explanations are under way, and there may be no more; ask again later"
            ))
        })?;
        Ok(ReadPlace {
            _of_account: of_account,
            in_all: Some(in_all),
        })
    }

    fn take_of(self: &Arc<Self>, account: AccountId) -> Option<AccountPlace> {
        let mut of_accounts = self
            .of_accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let reads = of_accounts.entry(account).or_default();
        if *reads >= ACCOUNT_READS {
            return None;
        }
        *reads += 1;
        let reads = Arc::clone(self);
        Some(AccountPlace { reads, account })
    }

    fn refuse(&self, reason: String) -> Refusal {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let after = READ_AGAIN;
        Refusal::TooMuch { reason, after }
    }
}

impl ReadPlace {
    /// The answer is made: what is left of the place is the account's own.
    pub fn made(&mut self) {
        self.in_all = None;
    }
}

impl Drop for AccountPlace {
    fn drop(&mut self) {
        let of_accounts = self.reads.of_accounts.lock();
        let mut of_accounts = of_accounts.unwrap_or_else(PoisonError::into_inner);
        if let Some(reads) = of_accounts.get_mut(&self.account) {
            *reads -= 1;
            if *reads == 0 {
                of_accounts.remove(&self.account);
            }
        }
    }
}

impl Operations {
    /// The place of a read whose answer may have megabytes, until it is dropped.
    pub fn read_place(&self, tenant: &Tenant) -> Result<ReadPlace> {
        self.parts.quotas.0.reads.take(tenant.id())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn account(number: u128) -> AccountId {
        AccountId::from(Uuid::from_u128(number))
    }

    fn refused(taken: Result<ReadPlace>) -> String {
        match taken {
            Err(Refusal::TooMuch { reason, after }) if after == READ_AGAIN => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_account_reads_a_few_lists_at_a_time_and_another_has_its_own() {
        let reads = Arc::new(Reads::default());
        let take = |of| reads.take(account(of));
        let mut held: Vec<_> = (0..ACCOUNT_READS)
            .map(|_| take(1).expect("a place"))
            .collect();
        let reason = refused(take(1));
        assert!(reason.contains("of this account"), "{reason}");
        assert!(take(2).is_ok());
        // An answer that is made, and not sent, counts for its account.
        held.iter_mut().for_each(ReadPlace::made);
        refused(take(1));
        held.pop();
        assert!(take(1).is_ok());
        drop(held);
        assert_eq!(reads.refused(), 2);
        assert!(reads.of_accounts.lock().expect("no panic").is_empty());
    }

    #[test]
    fn all_accounts_together_have_so_many_reads_that_are_not_made() {
        let reads = Arc::new(Reads::default());
        let take = |of: usize| reads.take(account(u128::try_from(of).expect("a number")));
        let mut held: Vec<_> = (0..READS).map(|of| take(of).expect("a place")).collect();
        let reason = refused(take(READS));
        assert!(reason.contains(&READS.to_string()), "{reason}");
        held[0].made();
        assert!(take(READS).is_ok());
        // Who was refused holds nothing.
        drop(held);
        assert!(reads.of_accounts.lock().expect("no panic").is_empty());
    }
}

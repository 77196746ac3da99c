//! Large reads: lists and explanations whose answers have megabytes. How many are made at a time is
//! bounded, for an account and in all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dovecast_store::AccountId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::{Operations, Refusal, Result, Tenant};

/// Most large reads of one account at a time, until their answers are sent.
const ACCOUNT_READS: usize = 4;
/// Most large reads of all accounts that are made at a time: each may have tens of megabytes in
/// memory. An answer that is sent counts for its account only, so that whoever reads slowly keeps
/// nobody else from asking.
const READS: usize = 16;
/// How long a read waits for its place: most are made in less than a tenth of a second, so that
/// only answers which nobody reads keep others waiting for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// When a read that is refused may be asked for again.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Accounts that are remembered before those are forgotten that read nothing.
const FIRST_SWEEP: usize = 64;

/// Large reads that are under way.
#[derive(Debug)]
pub(super) struct Reads {
    of_accounts: Mutex<HashMap<AccountId, Weak<Semaphore>>>,
    in_all: Arc<Semaphore>,
    refused: AtomicU64,
}

/// Place of a large read, given back when it is dropped.
#[derive(Debug)]
pub struct ReadPlace {
    _of_account: OwnedSemaphorePermit,
    in_all: Option<OwnedSemaphorePermit>,
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

    /// Takes a place, those who have asked before first; refused after a while.
    pub(super) async fn take(&self, account: AccountId) -> Result<ReadPlace> {
        let of_account = self.places_of(account).acquire_owned();
        let Ok(Ok(of_account)) = timeout(PATIENCE, of_account).await else {
            return Err(self.refuse(format!(
                "{ACCOUNT_READS} lists or explanations of this account are under way, and there may be no more; ask again later"
            )));
        };
        let in_all = Arc::clone(&self.in_all).acquire_owned();
        let Ok(Ok(in_all)) = timeout(PATIENCE, in_all).await else {
            return Err(self.refuse(format!(
                "{READS} lists or explanations are under way, and there may be no more; ask again later"
            )));
        };
        Ok(ReadPlace {
            _of_account: of_account,
            in_all: Some(in_all),
        })
    }

    /// The places of an account, which are there as long as somebody has or wants one.
    fn places_of(&self, account: AccountId) -> Arc<Semaphore> {
        let of_accounts = self.of_accounts.lock();
        let mut of_accounts = of_accounts.unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = of_accounts.get(&account).and_then(Weak::upgrade) {
            return places;
        }
        if of_accounts.len() >= FIRST_SWEEP {
            of_accounts.retain(|_, places| places.strong_count() > 0);
        }
        let places = Arc::new(Semaphore::new(ACCOUNT_READS));
        of_accounts.insert(account, Arc::downgrade(&places));
        places
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

impl Operations {
    /// The place of a read whose answer may have megabytes, until it is dropped.
    pub async fn read_place(&self, tenant: &Tenant) -> Result<ReadPlace> {
        self.parts.quotas.0.reads.take(tenant.id()).await
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn account(number: usize) -> AccountId {
        let number = u128::try_from(number).expect("a number");
        AccountId::from(Uuid::from_u128(number))
    }

    fn refused(taken: Result<ReadPlace>) -> String {
        match taken {
            Err(Refusal::TooMuch { reason, after }) if after == READ_AGAIN => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_reads_a_few_lists_at_a_time_and_another_has_its_own() {
        let reads = Reads::default();
        let mut held = Vec::new();
        for _ in 0..ACCOUNT_READS {
            held.push(reads.take(account(1)).await.expect("a place"));
        }
        let reason = refused(reads.take(account(1)).await);
        assert!(reason.contains("of this account"), "{reason}");
        assert!(reads.take(account(2)).await.is_ok());
        // An answer that is made, and not sent, counts for its account.
        held.iter_mut().for_each(ReadPlace::made);
        refused(reads.take(account(1)).await);
        // Who waits gets the place that is given back.
        let last = held.pop();
        let (taken, ()) = tokio::join!(reads.take(account(1)), async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(last);
        });
        assert!(taken.is_ok());
        assert_eq!(reads.refused(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn all_accounts_together_have_so_many_reads_that_are_not_made() {
        let reads = Reads::default();
        let mut held = Vec::new();
        for of in 0..READS {
            held.push(reads.take(account(of)).await.expect("a place"));
        }
        let reason = refused(reads.take(account(READS)).await);
        assert!(reason.contains(&READS.to_string()), "{reason}");
        held[0].made();
        assert!(reads.take(account(READS)).await.is_ok());
    }

    #[tokio::test]
    async fn accounts_that_read_nothing_are_forgotten() {
        let reads = Reads::default();
        let held = reads.take(account(0)).await;
        for of in 1..10 * FIRST_SWEEP {
            assert!(reads.take(account(of)).await.is_ok());
        }
        let known = reads.of_accounts.lock().expect("no panic");
        assert!(known.len() <= FIRST_SWEEP && known.contains_key(&account(0)));
        assert!(held.is_ok());
    }
}

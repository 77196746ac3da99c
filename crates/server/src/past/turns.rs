//! Turns of searches: an account has one at a time, all accounts have two, in the order in which
//! they came. So an account that searches again and again keeps nobody else waiting for longer than
//! one of its searches takes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::SearchError;

/// Searches at a time: each reads up to a hundred thousand records of each topic, and one that is
/// slow leaves a place for those that are not.
const PLACES: usize = 2;
/// Longest time that a search waits for its turn. Together with the search itself it is less than a
/// request may take.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// Who searches, and who waits for it.
pub(super) struct Turns {
    accounts: Mutex<HashSet<Box<str>>>,
    /// Fair: who has waited longest is next.
    places: Semaphore,
}

/// The turn of a search, until it is dropped.
pub(super) struct Turn<'a> {
    _place: SemaphorePermit<'a>,
    _account: AccountTurn<'a>,
}

/// The one search of an account, whether it waits or is made.
struct AccountTurn<'a> {
    turns: &'a Turns,
    account: Box<str>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            accounts: Mutex::default(),
            places: Semaphore::new(PLACES),
        }
    }

    /// Waits for the turn of a search for an account.
    pub(super) async fn take(&self, account: &str) -> Result<Turn<'_>, SearchError> {
        let account = self.of_account(account)?;
        let place = tokio::time::timeout(WAIT_LIMIT, self.places.acquire()).await;
        let place = place.map_err(|_| SearchError::Busy)?;
        Ok(Turn {
            // It is closed by nobody.
            _place: place.map_err(|_| SearchError::Unreadable)?,
            _account: account,
        })
    }

    fn of_account(&self, account: &str) -> Result<AccountTurn<'_>, SearchError> {
        let accounts = self.accounts.lock();
        let mut accounts = accounts.unwrap_or_else(PoisonError::into_inner);
        if !accounts.insert(account.into()) {
            return Err(SearchError::UnderWay);
        }
        Ok(AccountTurn {
            turns: self,
            account: account.into(),
        })
    }
}

impl Drop for AccountTurn<'_> {
    fn drop(&mut self) {
        let accounts = self.turns.accounts.lock();
        let mut accounts = accounts.unwrap_or_else(PoisonError::into_inner);
        accounts.remove(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_account_searches_once_at_a_time_and_others_beside_it() {
        let turns = Turns::new();
        let own = turns.take("7").now_or_never().expect("at once");
        let again = turns.take("7").now_or_never().expect("at once").err();
        assert_eq!(again, Some(SearchError::UnderWay));
        let other = turns.take("8").now_or_never().expect("at once");
        assert!(other.is_ok());
        drop(own);
        let again = turns.take("7").now_or_never().expect("at once");
        assert!(again.is_ok());
    }

    #[tokio::test]
    async fn those_who_wait_have_their_turns_in_the_order_in_which_they_came() {
        let turns = Turns::new();
        let mut held = Vec::new();
        for account in ["1", "2"] {
            let turn = turns.take(account).now_or_never().expect("at once");
            held.push(turn.unwrap_or_else(|error| panic!("{error}")));
        }
        let (mut third, mut fourth) = (Box::pin(turns.take("3")), Box::pin(turns.take("4")));
        assert!((&mut third).now_or_never().is_none());
        assert!((&mut fourth).now_or_never().is_none());
        // Who waits has no second place in the queue.
        let again = turns.take("3").now_or_never().expect("at once").err();
        assert_eq!(again, Some(SearchError::UnderWay));
        held.pop();
        assert!((&mut fourth).now_or_never().is_none());
        let third = (&mut third).now_or_never().expect("its turn");
        assert!(third.is_ok());
        // Whoever gives up leaves the queue.
        drop((fourth, third));
        assert!(turns.take("4").now_or_never().expect("at once").is_ok());
        drop(held);
        assert!(turns.accounts.lock().expect("no panic").is_empty());
    }
}

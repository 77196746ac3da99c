//! What one account, or one token for all accounts, may take of what all share: asked here, for
//! every door.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::{LineLimit, RateLimits, Rates};
use dovecast_store::{AccountId, EndpointId, TokenId};

use crate::{Operations, Refusal, Result, Sender};

/// Most tests of endpoints of one account at a time: a person tests one, and a form with several
/// endpoints a few.
const ACCOUNT_TESTS: usize = 4;
/// When a test that is refused may be asked for again: most endpoints have answered by then.
const TEST_AGAIN: Duration = Duration::from_secs(1);
/// Accounts that are made in a second because a proxy names them for the first time, and users,
/// after ten times as many at once: a hundred thousand of each have come within half an hour.
const NEW_IDENTITIES: RateLimits = RateLimits {
    count: 50,
    bytes: 0,
};
/// Users of those that one account may have: one that names very many leaves the others most.
const NEW_USERS_OF_ACCOUNT: RateLimits = RateLimits { count: 5, bytes: 0 };

/// What accounts have taken.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    messages: Rates<Box<str>>,
    /// Notifications by tokens that send for any account.
    tokens: Rates<TokenId>,
    tests: Mutex<HashMap<EndpointId, AccountId>>,
    new_accounts: Rates<()>,
    new_users: Rates<()>,
    new_users_of: Rates<AccountId>,
    refused_identities: AtomicU64,
    refused_messages: AtomicU64,
    refused_token_messages: AtomicU64,
    refused_tests: AtomicU64,
    message_lines: LineLimit,
    token_lines: LineLimit,
}

/// What was refused so far because an account has taken what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaStats {
    /// Notifications for an account.
    pub refused_messages: u64,
    /// Notifications by a token that sends for any account.
    pub refused_token_messages: u64,
    /// Tests of endpoints.
    pub refused_tests: u64,
    /// Accounts and users that a proxy has named.
    pub refused_identities: u64,
}

/// A test that is under way; it is over when this is dropped.
struct TestUnderWay {
    quotas: Quotas,
    endpoint: EndpointId,
}

impl Quotas {
    /// Quotas of which nothing is taken yet: how many notifications may be sent for one account,
    /// and by one token that sends for any.
    /// What was not taken for `burst` may be taken at once.
    pub fn new(messages: RateLimits, of_a_token: RateLimits, burst: Duration) -> Self {
        Self(Arc::new(Inner {
            messages: Rates::bursting(messages, burst),
            tokens: Rates::bursting(of_a_token, burst),
            tests: Mutex::default(),
            new_accounts: Rates::new(NEW_IDENTITIES),
            new_users: Rates::new(NEW_IDENTITIES),
            new_users_of: Rates::new(NEW_USERS_OF_ACCOUNT),
            refused_identities: AtomicU64::new(0),
            refused_messages: AtomicU64::new(0),
            refused_token_messages: AtomicU64::new(0),
            refused_tests: AtomicU64::new(0),
            message_lines: LineLimit::a_minute(1),
            token_lines: LineLimit::a_minute(1),
        }))
    }

    /// What was refused so far.
    pub fn stats(&self) -> QuotaStats {
        QuotaStats {
            refused_messages: self.0.refused_messages.load(Ordering::Relaxed),
            refused_token_messages: self.0.refused_token_messages.load(Ordering::Relaxed),
            refused_tests: self.0.refused_tests.load(Ordering::Relaxed),
            refused_identities: self.0.refused_identities.load(Ordering::Relaxed),
        }
    }

    fn take_message(
        &self,
        sender: &Sender,
        account: &str,
        bytes: usize,
        now: Instant,
    ) -> Result<()> {
        let cost = (1, bytes as u64);
        let Some(token) = sender.token() else {
            return self.take_for_account(account, cost, now);
        };
        // Asked before the account, which pays for nothing that is refused, and paid after it.
        let wait = self.0.tokens.wait(&token, now);
        if !wait.is_zero() {
            return Err(self.too_much_by(token, wait));
        }
        self.take_for_account(account, cost, now)?;
        self.0.tokens.charge(token, cost, now);
        Ok(())
    }

    fn take_for_account(&self, account: &str, cost: (u64, u64), now: Instant) -> Result<()> {
        let Err(after) = self.0.messages.spend(account.into(), cost, now) else {
            return Ok(());
        };
        self.0.refused_messages.fetch_add(1, Ordering::Relaxed);
        let limits = self.0.messages.limits();
        if let Some(others) = self.0.message_lines.take_counted() {
            tracing::warn!(
                account,
                others,
                messages_per_second = limits.count,
                messages_kb_per_second = limits.bytes / 1024,
                "a notification is refused: more is sent for its account than [quota] allows"
            );
        }
        Err(Refusal::TooMuch {
            reason: format!(
                "Account `{account}` is sent too much: {} is the limit, set by [quota] of the configuration; send it again later",
                shown(limits)
            ),
            after,
        })
    }

    fn too_much_by(&self, token: TokenId, after: Duration) -> Refusal {
        let counter = &self.0.refused_token_messages;
        counter.fetch_add(1, Ordering::Relaxed);
        let limits = self.0.tokens.limits();
        if let Some(others) = self.0.token_lines.take_counted() {
            tracing::warn!(
                token.id = %token,
                others,
                messages_per_second = limits.count,
                messages_kb_per_second = limits.bytes / 1024,
                "a notification is refused: its token sends more than [quota] allows"
            );
        }
        let reason = format!(
            "This token sends too much: {} is the limit, set by [quota] of the configuration; send it again later",
            shown(limits)
        );
        Refusal::TooMuch { reason, after }
    }

    /// One more account that is made because a proxy names it.
    pub(crate) fn take_account(&self) -> Result<()> {
        let made = self.0.new_accounts.spend((), (1, 0), Instant::now());
        made.map_err(|after| self.too_many_new("accounts are new", after))
    }

    /// One more user of an account that is made because a proxy names it. What the account may not
    /// make is taken from no other.
    pub(crate) fn take_user(&self, account: AccountId) -> Result<()> {
        let now = Instant::now();
        let made = self.0.new_users_of.spend(account, (1, 0), now);
        made.map_err(|after| self.too_many_new("users of the account are new", after))?;
        let made = self.0.new_users.spend((), (1, 0), now);
        made.map_err(|after| self.too_many_new("users are new", after))
    }

    fn too_many_new(&self, what: &str, after: Duration) -> Refusal {
        let counter = &self.0.refused_identities;
        counter.fetch_add(1, Ordering::Relaxed);
        let reason = format!("Too many {what} at the moment");
        Refusal::TooMuch { reason, after }
    }

    fn take_test(&self, account: AccountId, endpoint: EndpointId) -> Result<TestUnderWay> {
        let mut tests = self.0.tests.lock().unwrap_or_else(PoisonError::into_inner);
        let after = TEST_AGAIN;
        let refused = if tests.contains_key(&endpoint) {
            let reason = "A test of this endpoint is under way".to_owned();
            Refusal::UnderWay { reason, after }
        } else if tests.values().filter(|of| **of == account).count() >= ACCOUNT_TESTS {
            let reason = format!(
                "{ACCOUNT_TESTS} tests of endpoints of this account are under way, and there may be no more"
            );
            Refusal::TooMuch { reason, after }
        } else {
            tests.insert(endpoint, account);
            return Ok(TestUnderWay {
                quotas: self.clone(),
                endpoint,
            });
        };
        self.0.refused_tests.fetch_add(1, Ordering::Relaxed);
        Err(refused)
    }
}

impl Drop for TestUnderWay {
    fn drop(&mut self) {
        let tests = &self.quotas.0.tests;
        let mut tests = tests.lock().unwrap_or_else(PoisonError::into_inner);
        tests.remove(&self.endpoint);
    }
}

/// Limits in words; 0 is none.
fn shown(limits: RateLimits) -> String {
    match (limits.count, limits.bytes / 1024) {
        (count, 0) => format!("{count} notifications a second"),
        (0, kb) => format!("{kb} KiB a second"),
        (count, kb) => format!("{count} notifications and {kb} KiB a second"),
    }
}

impl Operations {
    /// Takes a notification of so many bytes out of what may be sent for an account, and by a token
    /// that sends for any account, or refuses it. Those of one request have one `now`: after one of
    /// an account is refused, no further one is taken, and what is sent again is behind all that
    /// was taken.
    pub fn take_message(
        &self,
        sender: &Sender,
        account: &str,
        bytes: usize,
        now: Instant,
    ) -> Result<()> {
        let quotas = &self.parts.quotas;
        quotas.take_message(sender, account, bytes, now)
    }

    /// What was refused so far because an account has taken what it may.
    pub fn quota_stats(&self) -> QuotaStats {
        self.parts.quotas.stats()
    }

    /// The place of a test of an endpoint, until it is dropped.
    pub(crate) fn test_place(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<impl Drop + use<>> {
        self.parts.quotas.take_test(account, endpoint)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const BURST: Duration = Duration::from_secs(10);

    fn after(refused: Result<()>) -> Option<(String, Duration)> {
        match refused {
            Err(Refusal::TooMuch { reason, after }) => Some((reason, after)),
            _ => None,
        }
    }

    #[test]
    fn an_account_is_told_its_limit_and_when_to_come_again() {
        let now = Instant::now();
        for (limits, told) in [
            ((1, 0), "1 notifications a second"),
            ((0, 1), "1 KiB a second"),
            ((1, 1), "1 notifications and 1 KiB a second"),
        ] {
            let limits = RateLimits {
                count: limits.0,
                bytes: limits.1 * 1024,
            };
            let quotas = Quotas::new(limits, RateLimits::default(), BURST);
            let take = |account, bytes| quotas.take_message(&Sender::Anybody, account, bytes, now);
            let taken = (0..100).take_while(|_| take("7", 1024).is_ok());
            assert_eq!(taken.count(), 11);
            let (reason, after) = after(take("7", 1)).expect("refused");
            assert!(reason.contains(told) && reason.contains("`7`"), "{reason}");
            assert_eq!(after, Duration::from_secs(1));
            assert!(take("8", 1).is_ok());
            assert_eq!(quotas.stats().refused_messages, 2);
        }
    }

    #[test]
    fn a_token_is_told_its_limit_whatever_accounts_it_sends_for() {
        let now = Instant::now();
        let limits = RateLimits { count: 1, bytes: 0 };
        let of_an_account = RateLimits { count: 0, bytes: 1 };
        let quotas = Quotas::new(of_an_account, limits, BURST);
        let token = |n| {
            let id = TokenId::from(Uuid::from_u128(n));
            Sender::Applications(id, Arc::default())
        };
        let take = |sender: &Sender, account: usize, bytes| {
            quotas.take_message(sender, &account.to_string(), bytes, now)
        };
        // What an account refuses costs the token nothing.
        assert!(take(&token(1), 0, 1_000).is_ok());
        assert!((0..100).all(|_| take(&token(1), 0, 1).is_err()));
        let accepted = (1..100).take_while(|account| take(&token(1), *account, 1).is_ok());
        assert_eq!(accepted.count(), 10);
        let (reason, after) = after(take(&token(1), 101, 1)).expect("refused");
        let told = "This token sends too much: 1 notifications a second";
        assert!(reason.starts_with(told), "{reason}");
        assert_eq!(after, Duration::from_secs(1));
        assert!(take(&token(2), 102, 1).is_ok());
        assert!((103..200).all(|account| take(&Sender::Anybody, account, 1).is_ok()));
        let stats = quotas.stats();
        assert_eq!(stats.refused_token_messages, 2);
        assert_eq!(stats.refused_messages, 100);
    }

    #[test]
    fn a_proxy_names_so_many_new_accounts_and_users_and_one_account_a_few_of_them() {
        let quotas = Quotas::new(RateLimits::default(), RateLimits::default(), BURST);
        let account = |n| AccountId::from(Uuid::from_u128(n));
        // At most so many more for each second that this takes.
        let of_one = (0..10_000).take_while(|_| quotas.take_user(account(0)).is_ok());
        assert!((51..200).contains(&of_one.count()));
        let others = (1..10_000).take_while(|n| quotas.take_user(account(*n)).is_ok());
        assert!((400..1_000).contains(&others.count()));
        let accounts = (0..10_000).take_while(|_| quotas.take_account().is_ok());
        assert!((501..1_000).contains(&accounts.count()));
        assert_eq!(quotas.stats().refused_identities, 3);
    }

    #[test]
    fn an_endpoint_is_tested_once_at_a_time_and_an_account_has_a_few() {
        let quotas = Quotas::new(RateLimits::default(), RateLimits::default(), BURST);
        let account = |n| AccountId::from(Uuid::from_u128(n));
        let endpoint = |n| EndpointId(Uuid::from_u128(n));
        let mut held: Vec<_> = (0..4)
            .map(|n| quotas.take_test(account(1), endpoint(n)).expect("a place"))
            .collect();
        let twice = quotas.take_test(account(1), endpoint(0)).err();
        assert!(matches!(twice, Some(Refusal::UnderWay { .. })), "{twice:?}");
        let fifth = quotas.take_test(account(1), endpoint(4)).err();
        assert!(matches!(fifth, Some(Refusal::TooMuch { .. })), "{fifth:?}");
        let other = quotas.take_test(account(2), endpoint(5));
        assert!(other.is_ok());
        assert_eq!(quotas.stats().refused_tests, 2);
        held.pop();
        assert!(quotas.take_test(account(1), endpoint(4)).is_ok());
    }
}

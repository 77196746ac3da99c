//! What one account, or one token for all accounts, may take of what all share: asked here, for
//! every door.

mod reads;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::{LineLimit, RateLimits, Rates};
use dovecast_store::{AccountId, EndpointId, TokenId};

use crate::{Operations, Refusal, Result, Sender};
use reads::Reads;

pub use reads::ReadPlace;

/// Most tests of endpoints of one account at a time: a person tests one, and a form with several
/// endpoints a few.
const ACCOUNT_TESTS: usize = 4;
/// When a test that is refused may be asked for again: most endpoints have answered by then.
const TEST_AGAIN: Duration = Duration::from_secs(1);
/// What a test costs of a rate in seconds that is given as one in minutes.
const TEST_COST: (u64, u64) = (60, 0);
/// For how long tests that were not made may be made at once.
const TEST_BURST: Duration = Duration::from_mins(1);
/// Accounts that are made in a second because a proxy names them for the first time, and users,
/// after ten times as many at once: a hundred thousand of each have come within half an hour.
const NEW_IDENTITIES: RateLimits = RateLimits {
    count: 50,
    bytes: 0,
};
/// Users of those that one account may have: one that names very many leaves the others most.
const NEW_USERS_OF_ACCOUNT: RateLimits = RateLimits { count: 5, bytes: 0 };

/// What accounts and tokens may take; 0 is without a bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuotaLimits {
    /// What may be sent for one account, in a second.
    pub messages: RateLimits,
    /// What one token that sends for any account may send, in a second.
    pub of_a_token: RateLimits,
    /// For how long what was not sent may be sent later, at once.
    pub burst: Duration,
    /// Tests of endpoints of one account, in a minute.
    pub tests_per_minute: u64,
}

/// What accounts have taken.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    messages: Rates<Box<str>>,
    /// Notifications by tokens that send for any account.
    tokens: Rates<TokenId>,
    /// Tests that are under way.
    tests: Mutex<HashMap<EndpointId, AccountId>>,
    test_rates: Rates<AccountId>,
    reads: Arc<Reads>,
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
    /// Lists and explanations.
    pub refused_reads: u64,
}

/// A test that is under way; it is over when this is dropped.
struct TestUnderWay {
    quotas: Quotas,
    endpoint: EndpointId,
}

impl Quotas {
    /// Quotas of which nothing is taken yet.
    pub fn new(limits: QuotaLimits) -> Self {
        let tests = RateLimits {
            count: limits.tests_per_minute,
            bytes: 0,
        };
        Self(Arc::new(Inner {
            messages: Rates::bursting(limits.messages, limits.burst),
            tokens: Rates::bursting(limits.of_a_token, limits.burst),
            tests: Mutex::default(),
            test_rates: Rates::bursting(tests, TEST_BURST),
            reads: Arc::default(),
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
            refused_reads: self.0.reads.refused(),
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
        if let Some(suppressed) = self.0.message_lines.take_counted() {
            tracing::warn!(
                account.number = account,
                suppressed,
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
        if let Some(suppressed) = self.0.token_lines.take_counted() {
            tracing::warn!(
                token.id = %token,
                suppressed,
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

    fn take_test(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        now: Instant,
    ) -> Result<TestUnderWay> {
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
        } else if let Err(after) = self.0.test_rates.spend(account, TEST_COST, now) {
            let reason = format!(
                "Endpoints of this account are tested too often: {} tests a minute is the limit, set by [quota] of the configuration",
                self.0.test_rates.limits().count
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
        let quotas = &self.parts.quotas;
        quotas.take_test(account, endpoint, Instant::now())
    }
}

#[cfg(test)]
mod tests;

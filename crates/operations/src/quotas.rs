//! What one account may take of what all accounts share: asked here, for every door.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::{LineLimit, RateLimits, Rates};
use dovecast_store::{AccountId, EndpointId};

use crate::{Operations, Refusal, Result};

/// Most tests of endpoints of one account at a time: a person tests one, and a form with several
/// endpoints a few.
const ACCOUNT_TESTS: usize = 4;
/// When a test that is refused may be asked for again: most endpoints have answered by then.
const TEST_AGAIN: Duration = Duration::from_secs(1);
/// Accounts and users that are made in a second because a proxy names them for the first time,
/// after ten times as many at once: a hundred thousand of them have come within half an hour.
const NEW_IDENTITIES: RateLimits = RateLimits {
    count: 50,
    bytes: 0,
};

/// What accounts have taken.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    messages: Rates<Box<str>>,
    tests: Mutex<HashMap<EndpointId, AccountId>>,
    identities: Rates<()>,
    refused_identities: AtomicU64,
    refused_messages: AtomicU64,
    refused_tests: AtomicU64,
    message_lines: LineLimit,
}

/// What was refused so far because an account has taken what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaStats {
    /// Notifications.
    pub refused_messages: u64,
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
    /// Quotas of which nothing is taken yet: how many notifications may be sent for one account.
    pub fn new(messages: RateLimits) -> Self {
        Self(Arc::new(Inner {
            messages: Rates::new(messages),
            tests: Mutex::default(),
            identities: Rates::new(NEW_IDENTITIES),
            refused_identities: AtomicU64::new(0),
            refused_messages: AtomicU64::new(0),
            refused_tests: AtomicU64::new(0),
            message_lines: LineLimit::a_minute(1),
        }))
    }

    /// What was refused so far.
    pub fn stats(&self) -> QuotaStats {
        QuotaStats {
            refused_messages: self.0.refused_messages.load(Ordering::Relaxed),
            refused_tests: self.0.refused_tests.load(Ordering::Relaxed),
            refused_identities: self.0.refused_identities.load(Ordering::Relaxed),
        }
    }

    fn take_message(&self, account: &str, bytes: usize, now: Instant) -> Result<()> {
        let cost = (1, bytes as u64);
        let Err(after) = self.0.messages.spend(account.into(), cost, now) else {
            return Ok(());
        };
        self.0.refused_messages.fetch_add(1, Ordering::Relaxed);
        let RateLimits { count, bytes } = self.0.messages.limits();
        let kb = bytes / 1024;
        if let Some(others) = self.0.message_lines.take_counted() {
            tracing::warn!(
                account,
                others,
                messages_per_second = count,
                messages_kb_per_second = kb,
                "a notification is refused: more is sent for its account than [quota] allows"
            );
        }
        Err(Refusal::TooMuch {
            reason: format!(
                "Account `{account}` is sent too much: {} is the limit, set by [quota] of the configuration; send it again later",
                shown(count, kb)
            ),
            after,
        })
    }

    /// One more account or user that is made because a proxy names it.
    pub(crate) fn take_identity(&self) -> Result<()> {
        let made = self.0.identities.spend((), (1, 0), Instant::now());
        made.map_err(|after| {
            self.0.refused_identities.fetch_add(1, Ordering::Relaxed);
            let reason = "Too many accounts and users are new at the moment".to_owned();
            Refusal::TooMuch { reason, after }
        })
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
fn shown(count: u64, kb: u64) -> String {
    match (count, kb) {
        (count, 0) => format!("{count} notifications a second"),
        (0, kb) => format!("{kb} KiB a second"),
        (count, kb) => format!("{count} notifications and {kb} KiB a second"),
    }
}

impl Operations {
    /// Takes a notification of so many bytes out of what may be sent for an account, or refuses it.
    /// Those of one request have one `now`: after one of an account is refused, no further one is
    /// taken, and what is sent again is behind all that was taken.
    pub fn take_message(&self, account: &str, bytes: usize, now: Instant) -> Result<()> {
        self.parts.quotas.take_message(account, bytes, now)
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
            let quotas = Quotas::new(RateLimits {
                count: limits.0,
                bytes: limits.1 * 1024,
            });
            let taken = (0..100).take_while(|_| quotas.take_message("7", 1024, now).is_ok());
            assert_eq!(taken.count(), 11);
            let (reason, after) = after(quotas.take_message("7", 1, now)).expect("refused");
            assert!(reason.contains(told) && reason.contains("`7`"), "{reason}");
            assert_eq!(after, Duration::from_secs(1));
            assert!(quotas.take_message("8", 1, now).is_ok());
            assert_eq!(quotas.stats().refused_messages, 2);
        }
    }

    #[test]
    fn a_proxy_names_so_many_new_accounts_and_users() {
        let quotas = Quotas::new(RateLimits::default());
        let made = (0..10_000).take_while(|_| quotas.take_identity().is_ok());
        // At most fifty more for each second that this takes.
        assert!((501..1_000).contains(&made.count()));
        assert_eq!(quotas.stats().refused_identities, 1);
    }

    #[test]
    fn an_endpoint_is_tested_once_at_a_time_and_an_account_has_a_few() {
        let quotas = Quotas::new(RateLimits::default());
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

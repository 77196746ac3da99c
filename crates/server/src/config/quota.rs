//! `[quota]`: how much each account and each user of the host may send.

use std::time::Duration;

use dovecast_log::RateLimits;
use dovecast_operations::QuotaLimits;
use serde::Deserialize;

use super::limits::Bounded;

/// A rate in a second; 0: without a bound.
type PerSecond = Bounded<0, 1_000_000_000>;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Quota {
    /// Notifications of an account over HTTP.
    messages_per_second: PerSecond,
    /// Kilobytes of them.
    messages_kb_per_second: PerSecond,
    /// Notifications by a token that sends for any account.
    token_messages_per_second: PerSecond,
    /// Kilobytes of them.
    token_messages_kb_per_second: PerSecond,
    /// Records of a user id over the relay.
    relay_records_per_second: PerSecond,
    /// Kilobytes of them.
    relay_kb_per_second: PerSecond,
    /// Attempts at all endpoints of an account, by this process.
    attempts_per_second: PerSecond,
    /// Kilobytes of notifications in them.
    attempts_kb_per_second: PerSecond,
    /// Tests of endpoints of an account; a rate in a minute.
    tests_per_minute: PerSecond,
    /// For how long what was not sent may be sent later, at once.
    burst_seconds: Bounded<1, 3600>,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            messages_per_second: Bounded::new(2000),
            messages_kb_per_second: Bounded::new(10_240),
            token_messages_per_second: Bounded::new(5000),
            token_messages_kb_per_second: Bounded::new(20_480),
            relay_records_per_second: Bounded::new(50_000),
            relay_kb_per_second: Bounded::new(51_200),
            attempts_per_second: Bounded::new(20_000),
            attempts_kb_per_second: Bounded::new(204_800),
            tests_per_minute: Bounded::new(20),
            burst_seconds: Bounded::new(10),
        }
    }
}

impl Quota {
    /// What callers may take.
    pub(crate) fn of_callers(&self) -> QuotaLimits {
        QuotaLimits {
            messages: limits(self.messages_per_second, self.messages_kb_per_second),
            of_a_token: limits(
                self.token_messages_per_second,
                self.token_messages_kb_per_second,
            ),
            burst: self.burst(),
            tests_per_minute: self.tests_per_minute.get(),
        }
    }

    /// What is sent to endpoints of one account.
    pub(crate) fn attempts(&self) -> RateLimits {
        limits(self.attempts_per_second, self.attempts_kb_per_second)
    }

    /// For how long what was not sent may be sent later, at once.
    pub(crate) fn burst(&self) -> Duration {
        Duration::from_secs(self.burst_seconds.get())
    }

    /// What the mail processes of one user id send.
    pub(crate) fn relay(&self) -> RateLimits {
        limits(self.relay_records_per_second, self.relay_kb_per_second)
    }
}

fn limits(count: PerSecond, kb: PerSecond) -> RateLimits {
    RateLimits {
        count: count.get(),
        bytes: kb.get() * 1024,
    }
}

//! `[quota]`: how much each account and each user of the host may send.

use std::time::Duration;

use dovecast_log::RateLimits;
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
            burst_seconds: Bounded::new(10),
        }
    }
}

impl Quota {
    /// What is sent over HTTP for one account.
    pub(crate) fn messages(&self) -> RateLimits {
        RateLimits {
            count: self.messages_per_second.get(),
            bytes: self.messages_kb_per_second.get() * 1024,
        }
    }

    /// What one token of the scope `send` sends, for whatever accounts.
    pub(crate) fn of_a_token(&self) -> RateLimits {
        RateLimits {
            count: self.token_messages_per_second.get(),
            bytes: self.token_messages_kb_per_second.get() * 1024,
        }
    }

    /// For how long what was not sent may be sent later, at once.
    pub(crate) fn burst(&self) -> Duration {
        Duration::from_secs(self.burst_seconds.get())
    }

    /// What the mail processes of one user id send.
    pub(crate) fn relay(&self) -> RateLimits {
        RateLimits {
            count: self.relay_records_per_second.get(),
            bytes: self.relay_kb_per_second.get() * 1024,
        }
    }
}

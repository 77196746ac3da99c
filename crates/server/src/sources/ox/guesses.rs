//! Wrong passwords: an address that has said a few is asked to wait, so that none is found by
//! trying. An address from which the right one came before is not: that is where Dovecot is, and
//! who else is there must not keep its mails from being told.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::{LineLimit, RateLimits, Rates};

use crate::api::forwarded::UNREADABLE;
use crate::serve::http::network;

/// Wrong passwords of one address in a second, after ten at once: a person who tries what it was
/// notices nothing, a program needs years.
const WRONG: RateLimits = RateLimits { count: 1, bytes: 0 };
/// Addresses from which the right password came that are remembered: more than there are mail
/// hosts.
const REMEMBERED: usize = 1024;

/// What was said of user and password; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Guesses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// By network: who has a /64 of IPv6 has very many addresses.
    wrong: Rates<IpAddr>,
    known: Mutex<HashSet<IpAddr>>,
    refused: AtomicU64,
    held_off: AtomicU64,
    lines: LineLimit,
    /// Section of the configuration that says user and password.
    section: &'static str,
}

/// How many requests were refused so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuessStats {
    /// For a wrong user or password, or none.
    pub(crate) refused: u64,
    /// Without a look at them, as too many wrong ones had come.
    pub(crate) held_off: u64,
}

impl Default for Guesses {
    fn default() -> Self {
        Self::of("[ox]")
    }
}

impl Guesses {
    /// What is said where the user and the password of this section are expected.
    pub(crate) fn of(section: &'static str) -> Self {
        Self(Arc::new(Inner {
            wrong: Rates::new(WRONG),
            known: Mutex::default(),
            refused: AtomicU64::new(0),
            held_off: AtomicU64::new(0),
            lines: LineLimit::a_minute(1),
            section,
        }))
    }

    /// Whether what an address says is looked at; else how long it has to wait.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        let wait = self.0.wrong.wait(&network(address), Instant::now());
        if wait.is_zero() || self.known().contains(&address) {
            return Ok(());
        }
        self.0.held_off.fetch_add(1, Ordering::Relaxed);
        Err(wait)
    }

    /// The address has said the right ones. Whose address cannot be read is not known by it: anyone
    /// may have none.
    pub(crate) fn was_right(&self, address: IpAddr) {
        if address == UNREADABLE {
            return;
        }
        let mut known = self.known();
        if known.len() < REMEMBERED {
            known.insert(address);
        }
    }

    /// The address has said wrong ones.
    pub(crate) fn was_wrong(&self, address: IpAddr) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        self.0
            .wrong
            .charge(network(address), (1, 0), Instant::now());
        if let Some(suppressed) = self.0.lines.take_counted() {
            tracing::warn!(
                %address,
                suppressed,
                "a request has another user or password than {}; it is refused",
                self.0.section
            );
        }
    }

    pub(crate) fn stats(&self) -> GuessStats {
        GuessStats {
            refused: self.0.refused.load(Ordering::Relaxed),
            held_off: self.0.held_off.load(Ordering::Relaxed),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<IpAddr>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_guesses_a_few_times_and_one_that_was_right_may_go_on() {
        let guesses = Guesses::default();
        let [stranger, mail_host, other] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        guesses.was_right(mail_host);
        let tried = (0..100).take_while(|_| {
            let is_admitted = guesses.admit(stranger).is_ok();
            guesses.was_wrong(stranger);
            is_admitted
        });
        // At most one more for each second that this takes.
        assert!((11..=20).contains(&tried.count()));
        for _ in 0..100 {
            guesses.was_wrong(mail_host);
        }
        assert!(guesses.admit(mail_host).is_ok() && guesses.admit(other).is_ok());
        assert!(guesses.stats().held_off > 0 && guesses.stats().refused > 100);
    }

    #[test]
    fn who_has_very_many_addresses_guesses_as_often_as_who_has_one() {
        let guesses = Guesses::default();
        let address = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
        let mail_host = address(1, 7);
        guesses.was_right(mail_host);
        let tried = (0..100).take_while(|host| {
            let is_admitted = guesses.admit(address(1, 100 + host)).is_ok();
            guesses.was_wrong(address(1, 100 + host));
            is_admitted
        });
        // At most one more for each second that this takes.
        assert!((11..=20).contains(&tried.count()));
        assert!(
            guesses.admit(mail_host).is_ok(),
            "it has said the right one"
        );
        assert!(guesses.admit(address(2, 1)).is_ok(), "of another network");
        assert!(guesses.stats().held_off > 0);
    }

    #[test]
    fn nobody_is_known_by_an_address_that_cannot_be_read() {
        let guesses = Guesses::default();
        guesses.was_right(UNREADABLE);
        for _ in 0..100 {
            guesses.was_wrong(UNREADABLE);
        }
        assert!(guesses.admit(UNREADABLE).is_err());
    }
}

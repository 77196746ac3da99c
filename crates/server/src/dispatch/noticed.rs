//! What the log says of endpoints once, when the dispatcher loads them: which were saved with what
//! would be refused today, and are delivered to all the same; which are at addresses of this host,
//! and get nothing; and which accounts get the mail of one domain together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dovecast_dispatch::driver::Settings;
use dovecast_drivers::guard::Guard;
use dovecast_drivers::webhook::{self, WebhookDriver};
use dovecast_notification::EventAccount;
use dovecast_store::EndpointRecord;

/// Most endpoints that are named, with what each has, and most accounts.
const MOST_NAMED: usize = 100;

/// What was found among the endpoints so far.
pub(super) struct Noticed {
    is_by_domain: bool,
    guard: Guard,
    /// Number of endpoints that were saved with what would be refused today.
    outdated: usize,
    /// Number of endpoints at addresses of this host.
    own: usize,
    /// Numbers of accounts by the domains that they are, in lower case.
    domains: BTreeMap<String, BTreeSet<String>>,
}

impl Noticed {
    /// `account`: what the account of an event is; `guard`: where endpoints may be.
    pub(super) fn new(account: &EventAccount, guard: &Guard) -> Self {
        Self {
            guard: guard.clone(),
            is_by_domain: *account == EventAccount::Domain,
            outdated: 0,
            own: 0,
            domains: BTreeMap::new(),
        }
    }

    /// Looks at an endpoint. What it has may be secret, as the names of its headers are.
    pub(super) fn add(&mut self, record: &EndpointRecord) {
        let account = &record.account_number;
        if self.is_by_domain {
            let domain = self.domains.entry(account.to_lowercase()).or_default();
            domain.insert(account.clone());
        }
        let is_own = |settings: &Settings<'_>| webhook::is_refused_as_own(settings, &self.guard);
        if of_webhook(record, is_own) == Some(true) {
            self.own += 1;
            if self.own <= MOST_NAMED {
                tracing::warn!(
                    endpoint.id = %record.endpoint.id,
                    account.number = account,
                    "an endpoint is at an address of this server itself, and gets nothing: allow that in `allowed_networks` of [dispatch], or change its `url`"
                );
            }
        }
        let Some(what) = what_is_refused(record, &self.guard) else {
            return;
        };
        self.outdated += 1;
        if self.outdated <= MOST_NAMED {
            tracing::warn!(
                endpoint.id = %record.endpoint.id,
                account.number = account,
                what,
                "an endpoint has what would be refused today; it is delivered to as before, change its `data` or its `url`"
            );
        }
    }

    /// Says what is known when all endpoints were looked at.
    pub(super) fn finish(self) {
        if self.outdated > MOST_NAMED {
            tracing::warn!(
                endpoints = self.outdated,
                "more endpoints than are named have what would be refused today"
            );
        }
        if self.own > MOST_NAMED {
            tracing::warn!(
                endpoints = self.own,
                "more endpoints than are named are at addresses of this server itself"
            );
        }
        let shared = self.domains.iter().filter(|(_, of)| of.len() > 1);
        for (domain, accounts) in shared.take(MOST_NAMED) {
            let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
            tracing::warn!(
                domain,
                accounts = accounts.join(" "),
                "events of mail of one domain go to several accounts, whose numbers differ in case only: close all but one"
            );
        }
    }
}

fn what_is_refused(record: &EndpointRecord, guard: &Guard) -> Option<String> {
    let refused = of_webhook(record, |settings| webhook::refused_today(settings, guard))?;
    (!refused.is_empty()).then(|| refused.join(", "))
}

/// What is found in the settings of an endpoint that is a webhook, if they can be opened.
fn of_webhook<T>(record: &EndpointRecord, find: impl FnOnce(&Settings<'_>) -> T) -> Option<T> {
    if record.endpoint.driver != WebhookDriver::NAME {
        return None;
    }
    let secrets = record.secrets.as_ref().ok()?;
    Some(find(&Settings {
        account: &Arc::from(record.account_number.as_str()),
        open: &record.endpoint.settings,
        secret: secrets.expose(),
    }))
}

#[cfg(test)]
mod tests {
    use dovecast_store::{CustomHeaders, NewEndpoint};

    use super::*;
    use crate::dispatch::routes::tests::World;

    #[tokio::test]
    async fn an_endpoint_that_was_saved_earlier_is_named_and_delivered_to() {
        let world = World::new().await;
        let guard = Guard::new(&["10.0.0.0/8:81".parse().expect("a network")]);
        for (name, port, expected) in [
            ("X-Api_Key", 80, Some("a header that is refused today")),
            (
                "X-Forwarded-Prefix",
                80,
                Some("a header that is refused today"),
            ),
            ("X-Api-Key", 80, None),
            ("X-Mail", 25, Some("a port that is not one of webhooks")),
            ("X-Named", 81, None),
        ] {
            let record = world.saved(NewEndpoint {
                headers: Some(CustomHeaders::new(vec![(name.to_owned(), "1".to_owned())])),
                ..World::webhook(name, &format!("http://example.org:{port}/"))
            });
            let record = record.await;
            assert_eq!(
                what_is_refused(&record, &guard).as_deref(),
                expected,
                "{name}"
            );
            world.routes.target(&record).expect(name);
            for (account, domains) in [(EventAccount::User, 0), (EventAccount::Domain, 1)] {
                let mut noticed = Noticed::new(&account, &guard);
                noticed.add(&record);
                assert_eq!(noticed.domains.len(), domains);
                assert_eq!(noticed.outdated, usize::from(expected.is_some()));
            }
        }
    }
}

//! Acts of mail push: sessions and subscriptions of persons.
//!
//! A door makes a [`PushCaller`] of what identifies a person, and calls one function of
//! [`MailPush`] for each act. A person reaches what is their own, and nothing else.

mod caller;
mod devices;
mod listeners;
mod sessions;
mod subscriptions;
mod tries;
mod users;
mod vault;

use std::collections::HashMap;
use std::sync::Arc;

use dovecast_mail_push::{LogIn, Transport, TransportKind};
use dovecast_notification::EventAccount;
use dovecast_store::Store;

pub use caller::PushCaller;
pub use devices::{DeviceHistory, TestedDevice, said};
pub use listeners::ListenerRules;
pub use sessions::{BegunSession, SessionRequest};
pub use subscriptions::{PushTest, ShownSubscription};
use tries::Tries;
pub use users::PushUser;
pub use vault::{CredentialStorage, KnownPassword, Vault};

/// What brings pushes to devices, by kind.
pub type Transports = HashMap<TransportKind, Arc<dyn Transport>>;

/// The acts of mail push, and what they need.
#[derive(Clone)]
pub struct MailPush {
    store: Store,
    vault: Vault,
    parts: Arc<MailPushParts>,
    by_login: Arc<Tries>,
    by_address: Arc<Tries>,
    tests: Arc<Tries>,
}

/// What the acts of mail push need besides the store.
pub struct MailPushParts {
    /// Checks logins; `None`: no mail server is configured for it.
    pub log_in: Option<Arc<dyn LogIn>>,
    /// What brings pushes to devices.
    pub transports: Transports,
    /// Public key of Web Push, base64url, if there is one.
    pub vapid: Option<String>,
    /// Whether a login is taken in lower case, as the mail server takes it.
    pub lowers_logins: bool,
    /// How the context of a login is found that is no `user@context` of numbers.
    pub account: EventAccount,
    /// What the configuration says of listeners.
    pub rules: ListenerRules,
    /// Most pushes of one person within a minute.
    pub pushes_per_minute: u64,
    /// Bounds.
    pub limits: PushLimits,
}

/// Bounds of mail push.
#[derive(Clone, Copy, Debug)]
pub struct PushLimits {
    /// Hours after which a session ends.
    pub session_hours: u64,
    /// Tries to log in as one login within a minute.
    pub login_tries_per_minute: u64,
    /// Tries to log in from one address within a minute.
    pub address_tries_per_minute: u64,
    /// Tests of devices that one person asks for within a minute.
    pub tests_per_minute: u64,
    /// Most subscriptions of one person.
    pub max_subscriptions: u64,
}

impl MailPush {
    /// The acts on a store.
    pub fn new(store: Store, vault: Vault, parts: MailPushParts) -> Self {
        Self {
            store,
            vault,
            by_login: Arc::new(Tries::new(parts.limits.login_tries_per_minute)),
            by_address: Arc::new(Tries::new(parts.limits.address_tries_per_minute)),
            tests: Arc::new(Tries::new(parts.limits.tests_per_minute)),
            parts: Arc::new(parts),
        }
    }

    /// Passwords of mailboxes.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Public key of Web Push.
    pub fn vapid(&self) -> crate::Result<&str> {
        let unavailable = crate::Refusal::Unavailable(
            "Web Push is not configured on this server ([mail_push.webpush] subject)".into(),
        );
        self.parts.vapid.as_deref().ok_or(unavailable)
    }
}

//! What a caller may do: one function for each act, between the front doors (REST, the control
//! socket) and the store.
//!
//! A door finds out who asks ([`Caller`]), reads what is asked for, calls one function of
//! [`Operations`] and renders what it returns, or its [`Refusal`]. Whether the caller may, and
//! whether what is asked for makes sense, is decided here, once. No HTTP and no SQL is here.
//!
//! Invariant: what belongs to an account is reached with a [`Tenant`] only, and what belongs to an
//! endpoint with an [`OwnEndpoint`] only. Both are made here, of a caller who may. Nothing outside
//! makes one, though it has all that one is made of:
//!
//! ```
//! use std::sync::Arc;
//!
//! use dovecast_operations::{By, Operator, OwnEndpoint, Person, Tenant};
//! use dovecast_store::Endpoint;
//!
//! struct Makes {
//!     operator: fn(By) -> Operator,
//!     tenant: fn(Person) -> Tenant,
//!     own_endpoint: fn(Endpoint, Arc<str>, By) -> OwnEndpoint,
//! }
//! ```
//! ```compile_fail
//! use dovecast_operations::{By, Operator};
//!
//! fn operator(by: By) -> Operator {
//!     Operator(by)
//! }
//! ```
//! ```compile_fail
//! use dovecast_operations::{Person, Tenant};
//!
//! fn tenant(person: Person) -> Tenant {
//!     Tenant(person)
//! }
//! ```
//! ```compile_fail
//! use std::sync::Arc;
//!
//! use dovecast_operations::{By, OwnEndpoint};
//! use dovecast_store::Endpoint;
//!
//! fn own_endpoint(endpoint: Endpoint, account: Arc<str>, by: By) -> OwnEndpoint {
//!     OwnEndpoint { endpoint, account, by }
//! }
//! ```
//!
//! The first example holds the names, and a constant beside each type what it is made of, so
//! that the others fail because of private fields and of nothing else.

#![forbid(unsafe_code)]

mod account_number;
mod accounts;
mod applications;
mod attempts;
mod caller;
mod dead_letters;
mod endpoints;
mod explanations;
mod filters;
mod misspelling;
pub mod push;
mod quotas;
mod records;
mod refusal;
mod rendering;
mod secrets;
mod test_delivery;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::Evaluator;
use dovecast_drivers::Drivers;
use dovecast_store::Store;
use tokio::sync::watch;

pub use account_number::account_number;
pub use accounts::ShownAccount;
pub use applications::fields::{RegistrationRequest, read as read_registration};
pub use applications::{BENCHMARK_APPLICATION, FilterCounts, Registered};
pub use caller::{Anyone, By, Caller, Operator, Person, Registrar, Sender, Tenant};
pub use dead_letters::{ChosenLetters, NotificationName};
pub use endpoints::OwnEndpoint;
pub use endpoints::fields::{EndpointFields, EndpointRequest, FlowAttributes, Known, MemberNames};
pub use explanations::Explanation;
pub use filters::{FilterInWords, FilterPage};
pub use quotas::{QuotaLimits, QuotaStats, Quotas, ReadPlace};
pub use refusal::{Fault, FaultPlace, Faults, Refusal, Resource};
pub use test_delivery::TestDelivery;
pub use tokens::fields::{TokenChange, TokenChangeRequest, TokenFields, TokenRequest};

/// Longest time that an answer waits until this process delivers by what an act has changed. On
/// other nodes a change counts within a second; late is better than never answered.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// What an act returns.
pub type Result<T, E = Refusal> = std::result::Result<T, E>;

/// The acts, and what they need.
#[derive(Clone)]
pub struct Operations {
    store: Store,
    parts: OperationsParts,
}

/// What acts need besides the store.
#[derive(Clone)]
pub struct OperationsParts {
    /// Most endpoints of one account.
    pub max_endpoints: u64,
    /// Check the settings of their endpoints.
    pub drivers: Drivers,
    /// Sends the test of an endpoint.
    pub test_delivery: Arc<dyn TestDelivery>,
    /// What accounts have taken of what all share.
    pub quotas: Quotas,
    /// Whether events of mail name accounts by their domains.
    pub is_mail_by_domain: bool,
    /// Evaluates conditions, and takes accounts in turn.
    pub evaluator: Arc<Evaluator>,
    /// The number of the last change that counts for deliveries of this process.
    pub follows: watch::Receiver<i64>,
}

impl Operations {
    /// The acts on a store.
    pub fn new(store: Store, parts: OperationsParts) -> Self {
        Self { store, parts }
    }

    /// Waits until deliveries of this process go by the latest change that it knows of, or for two
    /// seconds.
    pub async fn settled(&self) {
        let known = self.store.known_change();
        let mut follows = self.parts.follows.clone();
        let counts = follows.wait_for(|applied| *applied >= known);
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, counts).await;
    }
}

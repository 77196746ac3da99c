//! What makes and what changes an endpoint, checked by whoever has read it.

use super::credentials::{Credentials, CustomHeaders};
use super::endpoints::Endpoint;
use super::filters::FilterFields;
use super::flow::FlowEdit;
use super::receiver::{DriverSettings, Receiver};
use super::secrets::SigningSecret;
use super::stored_words::RetryPolicy;

/// What an endpoint is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Unique in the account.
    pub name: String,
    /// Receiver of the notifications.
    pub receiver: Receiver,
    /// Whether it gets anything.
    pub active: bool,
    /// PEM certificates to trust.
    pub server_ca_certificate: Option<String>,
    /// Sent with each request.
    pub headers: Option<CustomHeaders>,
    /// Who we are to it.
    pub credentials: Option<Credentials>,
    /// What happens after a failure.
    pub retry_policy: RetryPolicy,
    /// How long an attempt may take.
    pub timeout_seconds: Option<u32>,
    /// How the body of a webhook is made.
    pub body: Option<DriverSettings>,
    /// Whether, how fast, how often again.
    pub flow: FlowEdit,
    /// Without one it gets nothing.
    pub filter: Option<FilterFields>,
}

/// A new endpoint, and the secret of a webhook, which is shown this once.
#[derive(Clone, Debug)]
pub struct CreatedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What webhooks are signed with; other drivers sign nothing.
    pub secret: Option<SigningSecret>,
}

/// What is to be different; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointEdit {
    /// Name, unique in the account.
    pub name: Option<String>,
    /// Receiver of the notifications, for the driver that the endpoint has.
    pub receiver: Option<Receiver>,
    /// Whether it gets anything.
    pub active: Option<bool>,
    /// PEM certificates to trust.
    pub server_ca_certificate: Option<Option<String>>,
    /// Sent with each request.
    pub headers: Option<Option<CustomHeaders>>,
    /// Who we are to it.
    pub credentials: Option<Option<Credentials>>,
    /// What happens after a failure.
    pub retry_policy: Option<RetryPolicy>,
    /// How long an attempt may take.
    pub timeout_seconds: Option<Option<u32>>,
    /// How the body of a webhook is made: keys that are not there stay.
    pub body: Option<DriverSettings>,
    /// Whether, how fast, how often again.
    pub flow: FlowEdit,
    /// Change of the filter.
    pub filter: FilterEdit,
}

impl EndpointEdit {
    /// Whether deliveries that have failed may go well after it: it changes how the endpoint is
    /// reached, or lets it be reached.
    pub fn may_mend(&self) -> bool {
        let is_reached_otherwise = self.receiver.is_some()
            || self.server_ca_certificate.is_some()
            || self.headers.is_some()
            || self.credentials.is_some()
            || self.timeout_seconds.is_some()
            || self.body.is_some();
        is_reached_otherwise || self.active == Some(true) || self.flow.paused == Some(false)
    }
}

/// What becomes of the filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FilterEdit {
    /// The filter stays.
    #[default]
    Keep,
    /// The filter is removed; the endpoint receives nothing.
    Remove,
    /// The filter is made or changed.
    Put(FilterFields),
}

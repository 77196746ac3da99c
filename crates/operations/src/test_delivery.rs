//! What sends the test of an endpoint, and knows what speaks against one: the port that the
//! server's dispatcher side implements.

use dovecast_store::EndpointRecord;
use futures_util::future::BoxFuture;

/// One attempt, without a retry and without a trace on the endpoint.
pub trait TestDelivery: Send + Sync {
    /// Sends the notification of a test: application, event type and level `Test`, the message
    /// `Test message from webhooks`. The error is for the person who has asked.
    fn deliver_test<'a>(
        &'a self,
        endpoint: &'a EndpointRecord,
    ) -> BoxFuture<'a, Result<(), String>>;

    /// Why nothing can be delivered to an endpoint, as far as it is known without an attempt; for
    /// the person who has asked.
    fn objection<'a>(&'a self, endpoint: &'a EndpointRecord) -> BoxFuture<'a, Option<String>>;
}

//! The test of an endpoint: one attempt, without a retry and without a trace.

use bytes::Bytes;
use dovecast_dispatch::driver::{Delivery, Part};
use dovecast_dispatch::webhook_id;
use dovecast_drivers::Drivers;
use dovecast_notification::{Notification, NotificationId};
use dovecast_operations::TestDelivery;
use dovecast_store::EndpointRecord;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::routes::Routes;
use crate::config::Dispatch;

/// Sends tests.
pub(crate) struct Tester(Routes);

impl Tester {
    pub(crate) fn new(drivers: &Drivers, config: &Dispatch) -> Self {
        Self(Routes::new(drivers, config))
    }
}

impl TestDelivery for Tester {
    fn deliver_test<'a>(&'a self, record: &'a EndpointRecord) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            if let Err(error) = &record.secrets {
                tracing::warn!(endpoint.id = %record.endpoint.id, error, "an endpoint cannot be tested: its secrets cannot be opened");
            }
            let target = self.0.target(record)?;
            let notification = Notification {
                id: NotificationId(Uuid::now_v7()),
                application: "Test".into(),
                event_type: "Test".into(),
                level: Some("Test".into()),
                account: record.account_number.as_str().into(),
                timestamp: Bytes::from(format!("\"{}\"", jiff::Timestamp::now())),
                message: Bytes::from_static(b"\"Test message from webhooks\""),
                key: None,
                headers: Vec::new(),
            };
            let delivery = Delivery {
                note: String::new(),
                id: webhook_id(notification.id, record.endpoint.id),
                number: 1,
                notifications: vec![Arc::new(notification)],
                part: Part::WHOLE,
            };
            let outcome = target.open().deliver(&delivery).await.outcome;
            outcome.into_reason().map_or(Ok(()), Err)
        })
    }

    fn objection<'a>(&'a self, record: &'a EndpointRecord) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            match self.0.target(record) {
                Ok(target) => target.objection().await,
                Err(error) => Some(error),
            }
        })
    }
}

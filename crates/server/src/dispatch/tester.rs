//! The test of an endpoint: one attempt, without a retry and without a trace.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_dispatch::work::webhook_id;
use dovecast_drivers::guard::Guard;
use dovecast_drivers::webhook::Sender;
use dovecast_drivers::{Delivery, Outcome};
use dovecast_notification::{Notification, NotificationId};
use dovecast_store::EndpointRecord;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::routes;
use crate::api::TestDelivery;
use crate::config::Dispatch;

/// Sends tests.
pub(crate) struct Tester {
    guard: Guard,
    timeout: Duration,
}

impl Tester {
    pub(crate) fn new(config: &Dispatch) -> Self {
        Self {
            guard: Guard::new(&config.allowed_networks),
            timeout: routes::timeout(config),
        }
    }
}

impl TestDelivery for Tester {
    fn deliver_test<'a>(&'a self, record: &'a EndpointRecord) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let webhook =
                routes::webhook(record, self.timeout).map_err(|error| error.to_string())?;
            let notification = Notification {
                id: NotificationId(Uuid::now_v7()),
                application: "Test".into(),
                event_type: "Test".into(),
                level: Some("Test".into()),
                account: record.account_number.as_str().into(),
                timestamp: Bytes::from(format!("\"{}\"", jiff::Timestamp::now())),
                message: Bytes::from_static(b"\"Test message from webhooks\""),
            };
            let endpoint = record.endpoint.id;
            let delivery = Delivery {
                webhook_id: webhook_id(notification.id, endpoint),
                body: notification.body(),
            };
            let mut sender = Sender::new(
                Arc::new(webhook),
                self.guard
                    .for_account(record.account_number.as_str().into()),
            );
            match sender.deliver(&delivery).await.outcome {
                Outcome::Delivered => Ok(()),
                Outcome::Failed { reason, .. } | Outcome::Refused { reason } => Err(reason),
            }
        })
    }
}

//! Webhooks over real sockets: what arrives, byte by byte; what each answer means; where no request
//! goes; what services that have a preset take and refuse.

mod addresses;
mod answers;
mod given;
mod heads;
mod names;
mod services;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dovecast_dispatch::driver::{Delivery, Outcome, Part};
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::webhook::{Sender, Webhook, WebhookOptions};
use dovecast_notification::{Notification, NotificationId};
use dovecast_testkit::endpoint::{Answer, ScriptedEndpoint};
use uuid::Uuid;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What the receivers get.
const BODY: &str =
    r#"{"timestamp":1,"application":"a","event_type":"e","level":null,"message":"Hi"}"#;

/// Loopback is allowed: that is where the receivers are.
fn guard() -> Guard {
    Guard::new(&["127.0.0.0/8".parse().expect("a network")])
}

fn options(url: &str) -> WebhookOptions {
    WebhookOptions {
        url: url.to_owned(),
        timeout: Duration::from_secs(20),
        ..WebhookOptions::default()
    }
}

fn sender(options: &WebhookOptions) -> Sender {
    let webhook = Arc::new(Webhook::new(options).expect("a webhook"));
    Sender::new(webhook, guard(), &Sockets::default())
}

/// Answers request after request with these; the last one goes on.
fn endpoint(answers: impl Into<Vec<Answer>>) -> ScriptedEndpoint {
    ScriptedEndpoint::start(answers).expect("an endpoint")
}

fn delivery() -> Delivery {
    Delivery {
        note: String::new(),
        id: "msg_1".to_owned(),
        number: 1,
        part: Part::WHOLE,
        notifications: vec![Arc::new(Notification {
            id: NotificationId(Uuid::nil()),
            application: "a".into(),
            event_type: "e".into(),
            level: None,
            account: "1".into(),
            timestamp: Bytes::from_static(b"1"),
            message: Bytes::from_static(b"\"Hi\""),
            key: None,
            headers: Vec::new(),
        })],
    }
}

/// The reason of an attempt that may be repeated.
fn failed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

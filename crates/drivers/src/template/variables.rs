//! What a template knows of a delivery.

use std::borrow::Cow;

use dovecast_dispatch::driver::Delivery;
use serde::Serialize;
use serde_json::{Map, Value};

use super::words::{Told, severity, words};

/// Names and what they stand for.
#[derive(Serialize)]
pub(crate) struct Variables<'a> {
    id: &'a str,
    application: &'a str,
    event_type: &'a str,
    level: Option<&'a str>,
    account_id: &'a str,
    timestamp: Value,
    message: Value,
    key: Option<Cow<'a, str>>,
    title: String,
    text: String,
    severity: &'static str,
    parameters: &'a Map<String, Value>,
}

impl<'a> Variables<'a> {
    /// Variables of the first notification of a delivery; `None`: it has none.
    pub(crate) fn of(delivery: &'a Delivery, parameters: &'a Map<String, Value>) -> Option<Self> {
        let notification = delivery.notifications.first()?;
        let message = json(&notification.message);
        let level = notification.level.as_deref();
        let words = words(Told {
            application: &notification.application,
            event_type: &notification.event_type,
            level,
            message: &message,
        });
        Some(Self {
            id: &delivery.id,
            application: &notification.application,
            event_type: &notification.event_type,
            level,
            account_id: &notification.account,
            timestamp: json(&notification.timestamp),
            message,
            key: notification.key.as_deref().map(String::from_utf8_lossy),
            title: words.title,
            text: words.text,
            severity: severity(level),
            parameters,
        })
    }
}

fn json(bytes: &[u8]) -> Value {
    // It was JSON when it was read.
    serde_json::from_slice(bytes).unwrap_or_default()
}

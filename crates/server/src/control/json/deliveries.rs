//! Endpoints, and what became of deliveries.

use dovecast_store::{Endpoint, EndpointRecord, KeptAttempt, KeptDeadLetter, OwedCount};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Octets, ReadRecord};

/// An endpoint and its state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndpointLine {
    pub(crate) id: Uuid,
    pub(crate) account: String,
    pub(crate) name: String,
    /// URL of a webhook; of another driver, its name and its settings.
    pub(crate) url: String,
    pub(crate) active: bool,
    pub(crate) has_filter: bool,
    /// Whether deliveries wait until the endpoint is not paused any more.
    pub(crate) paused: bool,
    pub(crate) last_delivery_status: Option<String>,
    pub(crate) last_delivery_ms: Option<i64>,
    pub(crate) first_failure_ms: Option<i64>,
    pub(crate) next_attempt_ms: Option<i64>,
    pub(crate) owed_deliveries: u64,
    pub(crate) owed_ranges: u64,
}

impl EndpointLine {
    pub(crate) fn of(record: &EndpointRecord, owed: OwedCount) -> Self {
        let endpoint = &record.endpoint;
        Self {
            id: endpoint.id.0,
            account: record.account_number.clone(),
            name: endpoint.name.clone(),
            url: receiver(endpoint),
            active: endpoint.active,
            has_filter: record.filter.is_some(),
            paused: record.endpoint.flow.paused,
            last_delivery_status: endpoint
                .last_delivery_status
                .map(|status| status.as_str().to_owned()),
            last_delivery_ms: endpoint.last_delivery_ms,
            first_failure_ms: endpoint.first_failure_ms,
            next_attempt_ms: endpoint.next_attempt_ms,
            owed_deliveries: owed.deliveries,
            owed_ranges: owed.ranges,
        }
    }
}

/// Receiver of an endpoint in one line: the URL, or the driver and what it shows of its settings.
pub(crate) fn receiver(endpoint: &Endpoint) -> String {
    let settings = || {
        let settings = serde_json::Value::from(endpoint.settings.clone());
        format!("{} {settings}", endpoint.driver)
    };
    endpoint.url.clone().unwrap_or_else(settings)
}

/// One attempt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AttemptLine {
    pub(crate) notification: Uuid,
    pub(crate) time_ms: i64,
    pub(crate) number: u32,
    pub(crate) delivered: bool,
    pub(crate) status: Option<u16>,
    pub(crate) latency_us: u64,
    pub(crate) said: String,
}

impl From<KeptAttempt> for AttemptLine {
    fn from(kept: KeptAttempt) -> Self {
        Self {
            notification: kept.notification.0,
            time_ms: kept.time_ms,
            number: kept.number,
            delivered: kept.is_delivered,
            status: kept.status,
            latency_us: kept.latency_us,
            said: kept.said,
        }
    }
}

/// One dead letter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeadLetterLine {
    pub(crate) id: Uuid,
    pub(crate) endpoint: Option<Uuid>,
    pub(crate) notification: Uuid,
    pub(crate) time_ms: i64,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    pub(crate) body: Octets,
}

impl From<KeptDeadLetter> for DeadLetterLine {
    fn from(kept: KeptDeadLetter) -> Self {
        let body = kept.body();
        let letter = kept.letter;
        Self {
            id: kept.id,
            endpoint: letter.endpoint.map(|id| id.0),
            notification: letter.notification.0,
            time_ms: letter.time_ms,
            attempts: letter.attempts,
            reason: letter.reason,
            body: (&body[..]).into(),
        }
    }
}

/// What an endpoint makes of a notification.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) endpoint: Uuid,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) matches: bool,
    /// Why not, or not now.
    pub(crate) reason: Option<String>,
}

/// What is to be delivered again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redeliver {
    pub(crate) endpoint: Uuid,
    pub(crate) what: Redelivery,
}

/// See [`Redeliver`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Redelivery {
    /// The dead letters since this time.
    SinceMs(i64),
    /// All dead letters, and what is owed for later.
    All,
    /// A dead letter, or what is owed for later, by the notification's id.
    Notification(Uuid),
    /// A record of the log.
    Record(Box<ReadRecord>),
}

/// How many deliveries are due now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Redelivered {
    pub(crate) redelivered: u64,
}

/// Dead letters to drop.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropLetters {
    pub(crate) endpoint: Uuid,
    pub(crate) what: Letters,
}

/// See [`DropLetters`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Letters {
    /// The dead letters since this time.
    SinceMs(i64),
    /// A dead letter, by the notification's id.
    Notification(Uuid),
}

/// How many dead letters were dropped.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) dropped: u64,
}

/// An endpoint to create, with the fields of the REST API.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEndpoint<Fields> {
    /// Number of its account, which is made if it is not there.
    pub(crate) account: String,
    pub(crate) endpoint: Fields,
}

/// What is to be rendered, with fields of the REST API that are tried and not saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Render<Fields> {
    pub(crate) notification: ToRender,
    pub(crate) endpoint: Fields,
}

/// See [`Render`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToRender {
    /// A dead letter, or what is owed, by the notification's id.
    Undelivered(Uuid),
    /// A record, whether it is in the log or not.
    Record(Box<ReadRecord>),
}

/// What an endpoint would be sent; `None`: the notification is not among what was not delivered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rendering(pub(crate) Option<Rendered>);

/// See [`Rendering`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rendered {
    pub(crate) content_type: String,
    pub(crate) body: String,
}

/// An endpoint, as the REST API shows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndpointAnswer<Shown> {
    pub(crate) endpoint: Shown,
    /// What its webhooks are signed with, when that is new; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signing_secret: Option<String>,
    /// Why it will receive nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

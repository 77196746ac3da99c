//! Redelivery over the control socket.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use dovecast_dispatch::Source;
use dovecast_log::Record;
use dovecast_notification::{EndpointId, Notification, NotificationId};
use dovecast_store::{EndpointRecord, Store};

use super::deliveries::{store, verdict, wanted};
use super::json::{self, Redelivery};
use super::{Control, Failure};

/// `POST /v1/redeliver`.
pub(super) async fn redeliver(
    State(control): State<Control>,
    body: Result<Json<json::Redeliver>, JsonRejection>,
) -> Result<Json<json::Redelivered>, Failure> {
    let bad = |rejection: JsonRejection| Failure(rejection.status(), rejection.body_text());
    let Json(asked) = body.map_err(bad)?;
    let store = store(&control)?;
    let id = EndpointId(asked.endpoint);
    let endpoint = endpoint(store, id).await?;
    let redelivered = match asked.what {
        Redelivery::SinceMs(since_ms) => store.redeliver_since(id, since_ms).await?,
        Redelivery::Notification(notification) => {
            let done = store.redeliver(id, NotificationId(notification)).await?;
            u64::from(done)
        }
        Redelivery::Record(record) => {
            let notification = notification(&control, *record)?;
            if let Some(reason) = verdict(&control, wanted(&endpoint), &notification).await? {
                return Err(Failure(StatusCode::CONFLICT, reason));
            }
            store.owe_now(id, &notification).await?;
            1
        }
    };
    tracing::info!(endpoint.id = %id, redelivered, "deliveries are due again: a command asked for it");
    Ok(Json(json::Redelivered { redelivered }))
}

/// The endpoint, unless it is not active.
async fn endpoint(store: &Store, id: EndpointId) -> Result<EndpointRecord, Failure> {
    let found = store.load_endpoints(&[id]).await?.pop();
    let Some(found) = found else {
        let text = format!("there is no endpoint `{id}`");
        return Err(Failure(StatusCode::NOT_FOUND, text));
    };
    if !found.endpoint.active {
        let text = "the endpoint is not active, nothing is delivered to it";
        return Err(Failure(StatusCode::CONFLICT, text.to_owned()));
    }
    Ok(found)
}

/// What the dispatcher takes a record for.
pub(super) fn notification(
    control: &Control,
    record: json::ReadRecord,
) -> Result<Notification, Failure> {
    let bad = |text| Failure(StatusCode::BAD_REQUEST, text);
    let record = Record::try_from(record).map_err(bad)?;
    let sources = control.dispatch.options().sources;
    let read = match sources.get(&*record.topic) {
        Some(Source::Outbox) => Notification::from_outbox(&record),
        Some(Source::Events(account)) => Notification::from_event(&record, account),
        None => {
            let topic = &record.topic;
            return Err(bad(format!("the topic `{topic}` is not dispatched")));
        }
    };
    read.map_err(|error| bad(error.to_string()))
}

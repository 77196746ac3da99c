//! Topics of the log of this host: the list of them, and one that is removed.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use dovecast_dispatch::ledger::Ledger;
use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, LogError, TopicPartition};
use dovecast_notification::EndpointId;
use dovecast_store::Store;

use super::{Control, Failure, json};

pub(super) async fn list(
    State(control): State<Control>,
) -> Result<Json<Vec<json::Topic>>, Failure> {
    let topics = control.log.topics().await?;
    Ok(Json(topics.into_iter().map(json::Topic::from).collect()))
}

/// Removes a topic. Those that the configuration names would be there again after the next start,
/// and what is behind them would be lost; so would be what endpoints owe of one that it has named.
pub(super) async fn remove(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Result<Json<json::Done>, Failure> {
    if control.known_topics.contains(&name) {
        let text = format!("the configuration names the topic `{name}`: it is not removed");
        return Err(Failure(StatusCode::CONFLICT, text));
    }
    // With Kafka endpoints owe what is there, and this log is what comes before it.
    if let Some(store) = control.store.as_ref().filter(|_| control.is_dispatched) {
        check_not_owed(&control.log, store, &name).await?;
    }
    match control.log.remove_topic(&name).await {
        Ok(true) => {
            tracing::warn!(topic = name, "a topic was removed by the operator");
            Ok(Json(json::Done {}))
        }
        Ok(false) => {
            let text = format!("there is no topic `{name}`");
            Err(Failure(StatusCode::NOT_FOUND, text))
        }
        // What Kafka has not got yet stays.
        Err(LogError::Invalid(text)) => Err(Failure(StatusCode::CONFLICT, text)),
        Err(error) => Err(error.into()),
    }
}

/// Refuses where endpoints owe notifications of a topic: what they owe as a part of the log is
/// nowhere else.
async fn check_not_owed(log: &Embedded, store: &Store, name: &str) -> Result<(), Failure> {
    let topics = log.topics().await?;
    let found = topics.iter().find(|topic| topic.name == name);
    let partitions = found.map_or(0, |topic| topic.partitions.len());
    let topic: Arc<str> = name.into();
    let mut debtors = BTreeSet::<EndpointId>::new();
    for partition in (0..).take(partitions) {
        let topic = Arc::clone(&topic);
        let asked = store.debtors(TopicPartition { topic, partition }).await;
        debtors.extend(asked.map_err(|error| {
            let text = format!("the store cannot be asked who owes the topic `{name}`: {error}");
            Failure(StatusCode::SERVICE_UNAVAILABLE, text)
        })?);
    }
    if debtors.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the topic `{name}` is not removed: it has what is still to be delivered to {} endpoint(s), see `dovecast endpoints`",
        debtors.len()
    );
    Err(Failure(StatusCode::CONFLICT, text))
}

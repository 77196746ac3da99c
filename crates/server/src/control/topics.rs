//! Topics of the log of this host: the list of them, and one that is removed.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use dovecast_log::{Log, LogError};

use super::{Control, Failure, json};

pub(super) async fn list(
    State(control): State<Control>,
) -> Result<Json<Vec<json::Topic>>, Failure> {
    let topics = control.log.topics().await?;
    Ok(Json(topics.into_iter().map(json::Topic::from).collect()))
}

/// Removes a topic. Those that the configuration names would be there again after the next start,
/// and what is behind them would be lost.
pub(super) async fn remove(
    State(control): State<Control>,
    Path(name): Path<String>,
) -> Result<Json<json::Done>, Failure> {
    if control.known_topics.contains(&name) {
        let text = format!("the configuration names the topic `{name}`: it is not removed");
        return Err(Failure(StatusCode::CONFLICT, text));
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

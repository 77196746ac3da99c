//! The keys of secrets over the control socket: which there are, and one that replaces another.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dovecast_store::{KeyUse, Rotated, StoreError};

use super::{Control, Failure, json};

impl From<KeyUse> for json::KeyLine {
    fn from(key: KeyUse) -> Self {
        Self {
            id: key.id.to_string(),
            current: key.is_current,
            here: key.is_here,
            retired_ms: key.retired_ms,
            rows: key.rows,
        }
    }
}

impl From<Rotated> for json::Rotated {
    fn from(done: Rotated) -> Self {
        Self {
            key: done.key.to_string(),
            sealed: done.sealed,
            damaged: done.damaged,
            retired: done.retired.iter().map(ToString::to_string).collect(),
            taken_out: done.taken_out.iter().map(ToString::to_string).collect(),
            kept: done.kept,
        }
    }
}

/// `GET /v1/secrets`.
pub(super) async fn list(
    State(control): State<Control>,
) -> Result<Json<Vec<json::KeyLine>>, Failure> {
    let (operations, operator) = control.operator()?;
    let keys = operations.secret_keys(operator).await?;
    Ok(Json(keys.into_iter().map(Into::into).collect()))
}

/// `POST /v1/secrets/rotate`. Goes on when nobody waits for the answer any more.
pub(super) async fn rotate(State(control): State<Control>) -> Result<Json<json::Rotated>, Failure> {
    let (operations, operator) = control.operator()?;
    let operations = operations.clone();
    let rotating = tokio::spawn(async move { operations.rotate_secret_key(operator).await });
    let done = rotating.await.map_err(|error| {
        let said = format!("the rotation has ended: {error}");
        Failure(StatusCode::INTERNAL_SERVER_ERROR, said)
    })?;
    match done {
        Ok(done) => Ok(Json(done.into())),
        Err(StoreError::Secrets(error)) => Err(Failure(
            StatusCode::CONFLICT,
            format!("{:#}", anyhow::Error::from(error)),
        )),
        Err(error) => Err(error.into()),
    }
}

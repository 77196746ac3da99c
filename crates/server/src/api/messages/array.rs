//! Several notifications in one request, each with its own answer: one that is refused stops no
//! other.

use axum::http::StatusCode;
use dovecast_log::NewRecord;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{self, MessagesBody};
use super::{IdempotencyKey, Message, Now, Told, record};
use crate::api::Api;
use crate::api::error::{ApiError, ErrorObject, ErrorSource};
use dovecast_operations::Sender;

/// Most errors of one notification in an answer: an array can be wrong in very many places.
const MAX_ERRORS: usize = 10;

/// What became of an array of notifications.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ResultsDocument {
    /// One for each notification, in the order of the array.
    results: Vec<MessageResult>,
    meta: ResultsMeta,
}

/// What became of one notification of an array.
#[derive(Debug, Serialize, ToSchema)]
struct MessageResult {
    /// Status that a request with this notification alone would have got: `201` if it is durable.
    #[schema(example = "201")]
    status: String,
    /// The notification, if it is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Message>,
    /// Why it is not accepted. Pointers begin with its place in the array, such as
    /// `/7/event_type`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ErrorObject>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ResultsMeta {
    /// Number of notifications that are durable.
    accepted: usize,
    /// Number of notifications that are not.
    refused: usize,
}

/// The answer to an array.
pub(super) struct Results {
    pub(super) status: StatusCode,
    pub(super) document: ResultsDocument,
    /// After how many seconds what was refused for being too much may be sent again.
    pub(super) retry_after: Option<u64>,
}

/// A notification that was read.
struct Accepted {
    place: usize,
    shown: String,
}

/// Sends what is right of an array. An error is of the array as a whole: nothing was sent.
pub(super) async fn send(
    api: &Api,
    sender: &Sender,
    key: &IdempotencyKey,
    body: &MessagesBody,
) -> Result<Results, ApiError> {
    let now = Now::default();
    let items = body::items(body.json(), &api.messages)?;
    let mut results: Vec<Option<MessageResult>> = items.iter().map(|_| None).collect();
    let (mut accepted, mut records): (Vec<Accepted>, Vec<NewRecord>) = Default::default();
    let mut retry_after = None;
    for (place, json) in items.into_iter().enumerate() {
        let told = Told {
            json,
            what: "the notification",
            id: key.id(sender, place, json),
            now,
        };
        match record(api, sender, &told) {
            Ok((record, shown)) => {
                accepted.push(Accepted { place, shown });
                records.push(record);
            }
            Err(error) => {
                let (refused, after) = refused(place, error);
                results[place] = Some(refused);
                retry_after = retry_after.max(after);
            }
        }
    }
    let taken = api.outbox.append_all(records).await;
    let taken = taken.map_err(|reason| ApiError::not_taken(&reason))?;
    for (Accepted { place, shown }, taken) in accepted.into_iter().zip(taken) {
        results[place] = Some(match taken {
            Ok(()) => MessageResult {
                status: StatusCode::CREATED.as_str().to_owned(),
                data: Some(Message::new(shown)),
                errors: Vec::new(),
            },
            Err(reason) => refused(place, ApiError::not_taken(&reason)).0,
        });
    }
    let results: Vec<MessageResult> = results.into_iter().flatten().collect();
    let count = results.len();
    let accepted = results.iter().filter(|one| one.data.is_some()).count();
    let status = if accepted == count {
        StatusCode::CREATED
    } else {
        StatusCode::MULTI_STATUS
    };
    let meta = ResultsMeta {
        accepted,
        refused: count - accepted,
    };
    Ok(Results {
        status,
        document: ResultsDocument { results, meta },
        retry_after,
    })
}

/// The result of a notification that is not accepted, whose errors name its place; and after how
/// many seconds it may be.
fn refused(place: usize, error: ApiError) -> (MessageResult, Option<u64>) {
    let (status, mut errors, after) = error.into_parts();
    errors.truncate(MAX_ERRORS);
    for error in &mut errors {
        let within = match &error.source {
            Some(ErrorSource::Pointer(pointer)) => &**pointer,
            _ => "",
        };
        error.source = Some(ErrorSource::Pointer(format!("/{place}{within}")));
    }
    let result = MessageResult {
        status: status.as_str().to_owned(),
        data: None,
        errors,
    };
    (result, after)
}

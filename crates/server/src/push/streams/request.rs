//! What a request for a stream says: who asks, of what and how much is told, and from where on.
//!
//! Browsers give a stream no header: the token may be in the query, as `session`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dovecast_mail_push::{Person, PushContent, Topics};
use url::form_urlencoded;

use super::cursor::Cursor;
use crate::api::error::ApiError;
use crate::push::PushApi;
use crate::push::caller::Identified;
use crate::push::routes::PushError;
use crate::serve::http::streaming::StreamConnection;

/// Header with which a browser that comes back says what it has had last.
const LAST_EVENT_ID: &str = "last-event-id";

/// A stream that is asked for.
pub(super) struct Asked {
    pub(super) person: Person,
    pub(super) token: Option<Arc<str>>,
    /// What the query says of it, if it does.
    pub(super) topics: Option<Topics>,
    pub(super) content: Option<PushContent>,
    pub(super) from: Option<Cursor>,
    /// The connection that the stream will have; requests of tests have none.
    pub(super) connection: Option<StreamConnection>,
}

impl FromRequestParts<PushApi> for Asked {
    type Rejection = PushError;

    async fn from_request_parts(parts: &mut Parts, api: &PushApi) -> Result<Self, PushError> {
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let named = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let found = pairs.find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| value.into_owned())
        };
        let who = identified(parts, api, named("session")).await?;
        let topics = match named("topics") {
            None => None,
            Some(text) => {
                let topics = Topics::parse(text.split(',').map(str::trim));
                Some(topics.map_err(|error| ApiError::parameter("topics", error.to_string()))?)
            }
        };
        let content = match named("content") {
            None => None,
            Some(text) => Some(PushContent::from_name(&text).ok_or_else(|| {
                ApiError::parameter("content", "is none of ids, envelope and snippet")
            })?),
        };
        let header = parts.headers.get(LAST_EVENT_ID);
        let header = header.and_then(|value| value.to_str().ok());
        let cursor = header
            .filter(|text| !text.is_empty())
            .map(ToOwned::to_owned);
        let from = cursor.or_else(|| named("last_event_id"));
        let from = from.map(|text| text.parse::<Cursor>()).transpose();
        let from = from.map_err(|_| {
            ApiError::parameter("last_event_id", "is no `id` of a message of a stream")
        })?;
        Ok(Self {
            person: who.caller.person().clone(),
            token: who.token.map(Into::into),
            topics,
            content,
            from,
            connection: parts.extensions.get::<StreamConnection>().cloned(),
        })
    }
}

/// Who asks: by the query, or as everywhere.
async fn identified(
    parts: &mut Parts,
    api: &PushApi,
    session: Option<String>,
) -> Result<Identified, PushError> {
    let Some(token) = session else {
        return Identified::from_request_parts(parts, api).await;
    };
    let caller = api.acts().caller_of_token(&token).await?;
    Ok(Identified {
        caller,
        token: Some(token),
    })
}

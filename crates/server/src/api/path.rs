//! The part of a path that names something.

use axum::extract::{FromRequestParts, OriginalUri, Path};
use axum::http::request::Parts;

use super::Api;
use super::error::ApiError;

/// An id as the client has written it. What is no text names nothing.
pub(crate) struct Named(pub(crate) String);

impl FromRequestParts<Api> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        if let Ok(Path(id)) = Path::from_request_parts(parts, api).await {
            return Ok(Self(id));
        }
        let uri = match parts.extensions.get::<OriginalUri>() {
            Some(OriginalUri(uri)) => uri,
            None => &parts.uri,
        };
        Err(ApiError::not_found(format!(
            "Could not find route {}",
            uri.path()
        )))
    }
}

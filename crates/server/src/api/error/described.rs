//! Errors as the OpenAPI document describes them: which answers share a status, a shape and a
//! sentence. What is answered is made in `error.rs`; the doc of each is the text that clients read.

#![expect(dead_code, reason = "the types describe what is answered")]

use utoipa::IntoResponses;

use super::{AuthenticationError, ErrorDocument};

/// Answers that any request may get.
#[derive(IntoResponses)]
pub(crate) enum AnyRequest {
    /// The request has neither a valid API token nor, from a trusted proxy, a valid identity.
    #[response(status = 401, content_type = "application/vnd.api+json")]
    Unauthenticated(AuthenticationError),
    /// The caller is known, but may not do this.
    #[response(status = 403, content_type = "application/vnd.api+json")]
    Forbidden(ErrorDocument),
    /// Too many accounts or users that a trusted proxy names are new at the moment. The header
    /// `Retry-After` says when to send the request again.
    #[response(status = 429, content_type = "application/vnd.api+json")]
    TooManyNew(ErrorDocument),
    /// The database or the log cannot be used at the moment. The header `Retry-After` says when to
    /// send the request again.
    #[response(status = 503, content_type = "application/vnd.api+json")]
    Unavailable(ErrorDocument),
}

/// Answers to a request with a body that cannot be read.
#[derive(IntoResponses)]
pub(crate) enum UnreadableBody {
    /// The body cannot be read, or a required part of it is missing.
    #[response(status = 400, content_type = "application/vnd.api+json")]
    BadRequest(ErrorDocument),
    /// The body is too large.
    #[response(status = 413, content_type = "application/vnd.api+json")]
    TooLarge(ErrorDocument),
    /// The body has a `Content-Type` that is not accepted here.
    #[response(status = 415, content_type = "application/vnd.api+json")]
    MediaType(ErrorDocument),
}

/// Answers that any request may get, whatever it asks for.
#[derive(IntoResponses)]
pub(crate) enum AnyTime {
    /// The body of the request did not arrive in time.
    #[response(status = 408, content_type = "text/plain")]
    Late(String),
    /// The server has failed; its log says why.
    #[response(status = 500, content_type = "application/vnd.api+json")]
    Failed(ErrorDocument),
}

/// The query cannot be read.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/vnd.api+json")]
pub(crate) struct UnreadableQuery(ErrorDocument);
/// The account has used up its quota, or it is new and too many accounts are new at the moment.
/// The header `Retry-After` says when to send the request again.
#[derive(IntoResponses)]
#[response(status = 429, content_type = "application/vnd.api+json")]
pub(crate) struct TooMuch(ErrorDocument);

/// There is no such resource, or it belongs to another account.
#[derive(IntoResponses)]
#[response(status = 404, content_type = "application/vnd.api+json")]
pub(crate) struct NotFound(ErrorDocument);

/// Values in the request are not valid. Each has an error that names its place.
#[derive(IntoResponses)]
#[response(status = 422, content_type = "application/vnd.api+json")]
pub(crate) struct Invalid(ErrorDocument);

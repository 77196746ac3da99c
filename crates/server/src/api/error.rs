//! Errors that requests are answered with, as JSON:API writes them.
//!
//! The client is told what it can mend; the rest is logged here, and the client gets a 500, or a
//! 503 where the same request may succeed later.

pub(super) mod described;
mod unavailable;

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dovecast_event::brief;
use dovecast_operations::{Fault, FaultPlace, Refusal, Resource};
use dovecast_store::{MemberKind, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::documents::MEDIA_TYPE;
use crate::past::SearchError;
use crate::sources::NotTaken;

/// When a search of the log may be asked for again that is refused because another one of its
/// account is under way: most take less.
const SEARCH_AGAIN: Duration = Duration::from_secs(1);

/// Why a request was refused or has failed.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// 401, in a shape of its own.
    Authentication(String),
    /// What may succeed later, and after how many seconds: 409 or 429.
    Later(StatusCode, ErrorObject, u64),
    /// Anything else.
    Errors(StatusCode, Vec<ErrorObject>),
}

/// What is wrong with a body, as far as it is answered: a body of a megabyte can be wrong in
/// hundreds of thousands of places.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<ErrorObject>);

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// Status of the answer.
    #[schema(example = "422")]
    pub(crate) status: String,
    /// Kind of the error.
    pub(crate) title: String,
    /// What is wrong.
    #[schema(example = "has already been taken")]
    pub(crate) detail: String,
    /// Part of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<ErrorSource>,
}

/// Part of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ErrorSource {
    /// JSON pointer into the body.
    #[schema(example = "/data/attributes/name")]
    Pointer(String),
    /// Name of a parameter of the query.
    Parameter(String),
}

/// The errors of a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDocument {
    errors: Vec<ErrorObject>,
}

/// The error of a request that is not authenticated.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuthenticationError {
    /// Why the request is not authenticated.
    #[schema(
        example = "Authentication error: `Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided"
    )]
    error: String,
}

impl ApiError {
    fn one(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        Self::Errors(status, vec![ErrorObject::new(status, title, detail)])
    }

    /// What may succeed after a time, which is told in whole seconds, at least one.
    fn later(status: StatusCode, title: &str, reason: String, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Self::Later(
            status,
            ErrorObject::new(status, title, reason),
            seconds.max(1),
        )
    }

    /// The answer in plain JSON, 401 in the shape of all others.
    pub(crate) fn into_plain_response(self) -> Response {
        let mut response = match self {
            Self::Authentication(reason) => {
                let status = StatusCode::UNAUTHORIZED;
                let errors = vec![ErrorObject::new(status, "Not authenticated", reason)];
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (status, challenge, Json(ErrorDocument { errors })).into_response()
            }
            other => other.into_response(),
        };
        let media_type = HeaderValue::from_static("application/json");
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, media_type);
        response
    }

    /// What it is about, without the time after which it may succeed.
    pub(crate) fn into_parts(self) -> (StatusCode, Vec<ErrorObject>, Option<u64>) {
        match self {
            Self::Errors(status, errors) => (status, errors, None),
            Self::Later(status, error, seconds) => (status, vec![error], Some(seconds)),
            // It has a shape of its own, and no objects.
            Self::Authentication(_) => (StatusCode::UNAUTHORIZED, Vec::new(), None),
        }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::one(StatusCode::NOT_FOUND, "Record not found", detail)
    }

    /// No resource has this id, or it belongs to another account.
    pub(crate) fn no_record(what: &str, id: &str) -> Self {
        Self::not_found(format!("Could not find {what} with 'id'={id}"))
    }

    pub(crate) fn bad_request(reason: impl std::fmt::Display) -> Self {
        let detail = format!("Server cannot accept given parameters: {reason}");
        Self::one(StatusCode::BAD_REQUEST, "Bad request", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::one(StatusCode::FORBIDDEN, "Forbidden", detail)
    }

    pub(crate) fn too_large() -> Self {
        let bytes = super::MAX_BODY_BYTES;
        Self::payload_too_large(format!("The body is longer than {bytes} bytes"))
    }

    pub(crate) fn payload_too_large(detail: impl Into<String>) -> Self {
        Self::one(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large", detail)
    }

    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        Self::one(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Unsupported media type",
            detail,
        )
    }

    /// The log has not taken a notification.
    pub(crate) fn not_taken(reason: &NotTaken) -> Self {
        let (status, title) = match reason {
            NotTaken::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "Payload too large"),
            NotTaken::Refused(_) | NotTaken::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "Not accepted")
            }
        };
        Self::one(status, title, reason.to_string())
    }

    /// The log could not be searched.
    pub(crate) fn unsearched(error: SearchError) -> Self {
        let (status, title) = match error {
            SearchError::Unreadable | SearchError::TooSlow | SearchError::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "Service unavailable")
            }
            SearchError::TooFar => (StatusCode::NOT_FOUND, "Record not found"),
            SearchError::UnderWay => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let reason = error.to_string();
                return Self::later(status, "Too many requests", reason, SEARCH_AGAIN);
            }
        };
        Self::one(status, title, error.to_string())
    }

    /// The store has failed: that is logged, the client learns whether to ask again.
    fn store(error: StoreError) -> Self {
        if error.is_unavailable() {
            unavailable::log(error);
            return Self::one(
                StatusCode::SERVICE_UNAVAILABLE,
                "Service unavailable",
                "The database cannot be used at the moment",
            );
        }
        let error = anyhow::Error::from(error);
        tracing::error!(error = format!("{error:#}"), "a request has failed");
        Self::one(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal server error",
            "Server encountered an unexpected error",
        )
    }

    /// Attributes that are not valid, each with its error.
    pub(crate) fn invalid(errors: impl Into<Errors>) -> Self {
        Self::Errors(StatusCode::UNPROCESSABLE_ENTITY, errors.into().0)
    }

    /// A parameter of the query that is not valid.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let mut error = ErrorObject::new(status, "Invalid parameter", detail);
        error.source = Some(ErrorSource::Parameter(name.to_owned()));
        Self::invalid(vec![error])
    }
}

impl Errors {
    /// Most errors in an answer: more help nobody, and a body can be wrong in as many places as it
    /// has bytes.
    pub(crate) const MAX_SHOWN: usize = 100;

    pub(crate) fn push(&mut self, error: ErrorObject) {
        if self.0.len() < Self::MAX_SHOWN {
            self.0.push(error);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<ErrorObject>> for Errors {
    fn from(mut errors: Vec<ErrorObject>) -> Self {
        errors.truncate(Self::MAX_SHOWN);
        Self(errors)
    }
}

impl ErrorObject {
    /// A long detail, which cites what was said, loses its middle.
    fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_str().to_owned(),
            title: title.to_owned(),
            detail: brief(&detail.into()),
            source: None,
        }
    }

    /// A part of the body that is not valid.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let mut error = Self::new(status, "Invalid attribute", detail);
        error.source = Some(ErrorSource::Pointer(brief(&pointer.into())));
        error
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden(text) => Self::forbidden(text),
            Refusal::BadToken(text) => Self::Authentication(text.to_owned()),
            Refusal::NotFound { what, id } => Self::no_record(named(what), &id),
            Refusal::Unreadable(reason) => Self::bad_request(reason),
            Refusal::Invalid(faults) => {
                let errors: Vec<_> = faults.into_iter().map(ErrorObject::from).collect();
                Self::invalid(errors)
            }
            Refusal::NotActive => Self::invalid(vec![ErrorObject::at(
                "/data/attributes/active",
                "is false: the endpoint receives nothing",
            )]),
            Refusal::NotWanted(reason) => Self::one(StatusCode::CONFLICT, "Not wanted", reason),
            Refusal::Conflict(reason) => Self::one(StatusCode::CONFLICT, "Conflict", reason),
            Refusal::UnderWay { reason, after } => {
                Self::later(StatusCode::CONFLICT, "Conflict", reason, after)
            }
            Refusal::TooMuch { reason, after } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::later(status, "Too many requests", reason, after)
            }
            Refusal::TestFailed(reason) => {
                Self::one(StatusCode::BAD_GATEWAY, "Delivery failed", reason)
            }
            Refusal::Unavailable(reason) => Self::one(
                StatusCode::SERVICE_UNAVAILABLE,
                "Service unavailable",
                reason,
            ),
            Refusal::Store(error) => Self::store(error),
        }
    }
}

/// Names as clients of hooks-backend know them.
fn named(what: Resource) -> &'static str {
    match what {
        Resource::Account => "Account",
        Resource::Application => "App",
        Resource::DeadLetter | Resource::Owed => "a dead letter",
        Resource::Endpoint => "Endpoint",
        Resource::Filter => "Filter of endpoint",
        Resource::Token => "Token",
        Resource::Subscription => "Subscription",
    }
}

impl From<Fault> for ErrorObject {
    fn from(fault: Fault) -> Self {
        let pointer = match fault.place {
            FaultPlace::All => "/data".to_owned(),
            FaultPlace::Attribute(name) => format!("/data/attributes/{name}"),
            FaultPlace::Members(kind) => {
                let relation = match kind {
                    MemberKind::Application => "apps",
                    MemberKind::EventType => "event_types",
                    MemberKind::Level => "levels",
                };
                format!("/data/relationships/filter/{relation}")
            }
            FaultPlace::Pointer(pointer) => pointer,
        };
        let mut error = Self::at(pointer, fault.detail);
        if fault.is_unknown {
            "Record not found".clone_into(&mut error.title);
        }
        error
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::from(Refusal::from(error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = match &self {
            Self::Later(_, _, seconds) => Some(HeaderValue::from(*seconds)),
            Self::Authentication(_) | Self::Errors(..) => None,
        };
        let mut response = match self {
            Self::Later(status, error, _) => {
                let errors = vec![error];
                (status, Json(ErrorDocument { errors })).into_response()
            }
            Self::Authentication(reason) => {
                let error = format!("Authentication error: {reason}");
                let body = Json(AuthenticationError { error });
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, challenge, body).into_response()
            }
            Self::Errors(status, errors) => {
                (status, Json(ErrorDocument { errors })).into_response()
            }
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = HeaderValue::from_static(unavailable::RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, media_type);
        response
    }
}

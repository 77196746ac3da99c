//! The parsers of the REST API as functions of bytes, see [`crate::parsers`].

use std::sync::LazyLock;

use dovecast_drivers::Drivers;
use dovecast_operations::{EndpointFields, Known, MemberNames, Sender, read_registration};
use dovecast_store::{EndpointEdit, EndpointQuery, NewEndpoint, Profile, Registration};
use jiff::Timestamp;

use super::body::{self, JsonBody};
use super::error::{ApiError, ErrorSource};
use super::messages;
use super::query::Query;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Form {
    Json,
    Yaml,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Status of HTTP.
    pub status: u16,
    /// All that is told.
    pub complaints: Vec<Complaint>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What.
    pub detail: String,
    /// A JSON pointer into the body, or the name of a parameter.
    pub place: Option<String>,
}

/// The part of a list that a query asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// What the store is asked.
    pub query: EndpointQuery,
    /// To the first part, to the last one, to the next and to the previous one as far as there are.
    pub links: Vec<String>,
}

/// The body of `POST /apps/register`.
pub fn registration(form: Form, bytes: &[u8]) -> Result<Registration, Refused> {
    let value = match form {
        Form::Json => body::json(bytes)?,
        Form::Yaml => body::yaml(bytes)?,
    };
    Ok(read_registration(&value).map_err(ApiError::from)?)
}

/// The body of `POST /endpoints`.
pub fn new_endpoint(bytes: &[u8]) -> Result<NewEndpoint, Refused> {
    let new = endpoint(bytes)?.into_new(&KNOWN);
    Ok(new.map(|(new, _)| new).map_err(ApiError::from)?)
}

/// The body of `PUT /endpoints/{id}`.
pub fn changed_endpoint(bytes: &[u8]) -> Result<EndpointEdit, Refused> {
    let edit = endpoint(bytes)?.into_edit(&KNOWN);
    Ok(edit.map(|(edit, _)| edit).map_err(ApiError::from)?)
}

/// An account that has no endpoint.
static KNOWN: LazyLock<Known<'static>> = LazyLock::new(|| {
    static DRIVERS: LazyLock<Drivers> = LazyLock::new(|| Drivers::from_iter([]));
    static NAMES: LazyLock<MemberNames> = LazyLock::new(MemberNames::default);
    Known {
        is_taken: false,
        account: "1",
        drivers: &DRIVERS,
        record: None,
        names: &NAMES,
    }
});

fn endpoint(bytes: &[u8]) -> Result<EndpointFields, ApiError> {
    JsonBody(body::json(bytes)?).under("endpoint")
}

/// The body of `POST /messages`, sent with an admin token at `now`: the value of its record.
pub fn message(bytes: &[u8], now: Timestamp) -> Result<Vec<u8>, Refused> {
    let notification = messages::read(bytes, "the body", &Sender::Anybody, now)?;
    Ok(serde_json::to_vec(&notification).map_err(ApiError::bad_request)?)
}

/// The header `X-RH-IDENTITY`: the number of the account, and the user.
pub fn identity(header: &[u8]) -> Option<(String, Profile)> {
    super::identity::parse(header)
}

/// The query of `GET /endpoints`, of which there are `total`; `base` is what is before the `?`.
pub fn list(base: &str, query: &str, total: i64) -> Result<List, Refused> {
    let query = Query::read(base.to_owned(), query)?;
    let (_, links) = query.describe(query.part()?, total);
    let links = [
        Some(links.first),
        Some(links.last),
        links.next,
        links.previous,
    ];
    Ok(List {
        query: query.endpoints()?,
        links: links.into_iter().flatten().collect(),
    })
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Authentication(detail) => Self {
                status: 401,
                complaints: vec![Complaint {
                    detail,
                    place: None,
                }],
            },
            error @ (ApiError::Errors(..) | ApiError::Later(..)) => {
                let (status, errors, _) = error.into_parts();
                let complaints = errors.into_iter().map(|error| Complaint {
                    detail: error.detail,
                    place: error.source.map(|source| match source {
                        ErrorSource::Pointer(place) | ErrorSource::Parameter(place) => place,
                    }),
                });
                Self {
                    status: status.as_u16(),
                    complaints: complaints.collect(),
                }
            }
        }
    }
}

//! What answers are made of: the resources of JSON:API as they are written.
//!
//! These types are the contract with clients: names and nesting are hooks-backend's. What was added
//! since stands after it.

use std::num::NonZeroU32;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dovecast_store as store;
use dovecast_store::FilterSet;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// The type of every answer with a body.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.api+json";

/// An answer.
pub(crate) struct Document<T>(pub(crate) StatusCode, pub(crate) T);

impl<T: Serialize> IntoResponse for Document<T> {
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(self.1)).into_response();
        let media_type = HeaderValue::from_static(MEDIA_TYPE);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, media_type);
        response
    }
}

/// Names another resource.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Link {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Other resources.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Many {
    data: Vec<Link>,
}

/// Another resource.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct One {
    data: Link,
}

impl Many {
    fn new<T: ToString>(kind: &'static str, ids: impl IntoIterator<Item = T>) -> Self {
        let link = |id: T| Link {
            id: id.to_string(),
            kind,
        };
        Self {
            data: ids.into_iter().map(link).collect(),
        }
    }
}

/// What a list says about itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListMeta {
    /// How many there are in all.
    pub(crate) total: i64,
    /// How many are shown at most.
    pub(crate) limit: i64,
    /// How many stand before these.
    pub(crate) offset: i64,
}

/// Other parts of a list, as full URLs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListLinks {
    /// The first part.
    pub(crate) first: String,
    /// The last part.
    pub(crate) last: String,
    /// The part after this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// The part before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<String>,
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct App {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: AppAttributes,
    relationships: AppRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppAttributes {
    /// What notifications call it.
    name: String,
    title: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppRelationships {
    event_types: Many,
}

/// What an application's resource refers to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Included {
    EventType(EventType),
    Level(Level),
}

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventType {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: NamedAttributes,
    relationships: EventTypeRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NamedAttributes {
    title: String,
    /// What notifications call it: the `id` of its registration.
    name: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventTypeRelationships {
    levels: Many,
}

/// A level.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Level {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: NamedAttributes,
}

impl App {
    /// The resource, and what it refers to.
    pub(crate) fn new(application: &store::Application) -> (Self, Vec<Included>) {
        let event_types = application.event_types.iter();
        let app = Self {
            id: application.id.to_string(),
            kind: "app",
            attributes: AppAttributes {
                name: application.name.clone(),
                title: application.title.clone(),
            },
            relationships: AppRelationships {
                event_types: Many::new("event_type", event_types.map(|one| one.id)),
            },
        };
        let mut included = Vec::new();
        for event_type in &application.event_types {
            included.push(Included::EventType(EventType::new(event_type)));
            let levels = event_type.levels.iter();
            included.extend(levels.map(|level| Included::Level(Level::new(level))));
        }
        (app, included)
    }
}

impl EventType {
    fn new(event_type: &store::EventType) -> Self {
        let levels = event_type.levels.iter();
        Self {
            id: event_type.id.to_string(),
            kind: "event_type",
            attributes: NamedAttributes {
                title: event_type.title.clone(),
                name: event_type.external_id.clone(),
            },
            relationships: EventTypeRelationships {
                levels: Many::new("level", levels.map(|level| level.id)),
            },
        }
    }
}

impl Level {
    fn new(level: &store::Level) -> Self {
        Self {
            id: level.id.to_string(),
            kind: "level",
            attributes: NamedAttributes {
                title: level.title.clone(),
                name: level.external_id.clone(),
            },
        }
    }
}

/// An endpoint. What is in `data`, and secrets, are never shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Endpoint {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: EndpointAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointAttributes {
    /// Unique in the account.
    name: String,
    url: String,
    /// One that is not gets nothing.
    active: bool,
    /// `success` or `failure`.
    last_delivery_status: Option<&'static str>,
    /// RFC 3339.
    last_delivery_time: Option<String>,
    /// RFC 3339: when the failures began.
    first_failure_time: Option<String>,
    /// `Endpoints::HttpEndpoint` or `Endpoints::HttpsEndpoint`, after the URL.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `default` or `hooks`.
    retry_policy: &'static str,
    /// How long it may take to answer; null: as long as the configuration says.
    timeout_seconds: Option<u32>,
    /// What is for it is kept until it is so no more.
    paused: bool,
    /// Deliveries in a second at most, from each node; null: no limit.
    rate_limit: Option<u32>,
    /// Seconds until each further attempt; null: as the retry policy says.
    retry_delays: Option<Vec<u32>>,
    /// The id of the endpoint that gets what cannot be delivered here.
    fallback_id: Option<String>,
}

impl Endpoint {
    pub(crate) fn new(endpoint: &store::Endpoint) -> Self {
        Self {
            id: endpoint.id.to_string(),
            kind: "endpoint",
            attributes: EndpointAttributes {
                name: endpoint.name.clone(),
                url: endpoint.url.clone(),
                active: endpoint.active,
                last_delivery_status: endpoint
                    .last_delivery_status
                    .map(store::DeliveryStatus::as_str),
                last_delivery_time: endpoint.last_delivery_ms.map(time),
                first_failure_time: endpoint.first_failure_ms.map(time),
                kind: endpoint.kind.as_str(),
                retry_policy: endpoint.retry_policy.as_str(),
                timeout_seconds: endpoint.timeout_seconds,
                paused: endpoint.flow.paused,
                rate_limit: endpoint.flow.rate_limit.map(NonZeroU32::get),
                retry_delays: endpoint.flow.retry_delays.clone(),
                fallback_id: endpoint.flow.fallback.map(|id| id.to_string()),
            },
        }
    }
}

/// A filter.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Filter {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: FilterAttributes,
    relationships: FilterRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterAttributes {
    /// One that is not matches nothing.
    enabled: bool,
    /// An expression that must hold besides.
    condition: Option<String>,
    /// Of `apps`, `event_types`, `levels`: sets that are empty because what was in them is gone.
    /// They match nothing, until somebody sets them again.
    stale: Vec<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FilterRelationships {
    apps: Many,
    event_types: Many,
    levels: Many,
    endpoint: One,
}

impl Filter {
    pub(crate) fn new(filter: &store::Filter) -> Self {
        Self {
            id: filter.id.to_string(),
            kind: "filter",
            attributes: FilterAttributes {
                enabled: filter.enabled,
                condition: filter.condition.clone(),
                stale: filter.stale.iter().map(|set| relation(*set)).collect(),
            },
            relationships: FilterRelationships {
                apps: Many::new("app", &filter.sets.applications),
                event_types: Many::new("event_type", &filter.sets.event_types),
                levels: Many::new("level", &filter.sets.levels),
                endpoint: One {
                    data: Link {
                        id: filter.endpoint.to_string(),
                        kind: "endpoint",
                    },
                },
            },
        }
    }
}

/// What a set of a filter is called here.
pub(crate) fn relation(set: FilterSet) -> &'static str {
    match set {
        FilterSet::Applications => "apps",
        FilterSet::EventTypes => "event_types",
        FilterSet::Levels => "levels",
    }
}

/// RFC 3339 with milliseconds.
pub(crate) fn time(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

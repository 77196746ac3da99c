//! Answers: the resources of JSON:API as they are written.
//!
//! These types are the contract with clients: names and nesting are hooks-backend's. What was added
//! since stands after it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dovecast_operations::FlowAttributes;
use dovecast_store as store;
use dovecast_store::{EndpointKind, FilterSet};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The type of every answer with a body.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.api+json";

/// An answer with a body.
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

/// Reference to another resource.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Link {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// References to other resources.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Many {
    data: Vec<Link>,
}

/// Reference to one other resource.
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

/// Which part of a list this is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListMeta {
    /// Number of resources in the whole list.
    pub(crate) total: i64,
    /// Most resources in this part.
    pub(crate) limit: i64,
    /// Number of resources before this part.
    pub(crate) offset: i64,
}

/// URLs of other parts of the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListLinks {
    /// First part.
    pub(crate) first: String,
    /// Last part.
    pub(crate) last: String,
    /// Part after this one, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// Part before this one, if there is one.
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
    /// Name that notifications have in `application`.
    name: String,
    /// Name for people.
    title: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AppRelationships {
    event_types: Many,
}

/// Resource that an application refers to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Included {
    EventType(EventType),
    Level(Level),
}

/// Type of the resource in JSON:API: that of an event type.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventTypeKind {
    EventType,
}

/// Type of the resource in JSON:API: that of a level.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LevelKind {
    Level,
}

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventType {
    id: String,
    #[serde(rename = "type")]
    kind: EventTypeKind,
    attributes: NamedAttributes,
    relationships: EventTypeRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NamedAttributes {
    /// Name for people.
    title: String,
    /// Name that notifications have: the `id` of the registration.
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
    kind: LevelKind,
    attributes: NamedAttributes,
}

impl App {
    /// The resource of an application, and those it refers to.
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
            kind: EventTypeKind::EventType,
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
            kind: LevelKind::Level,
            attributes: NamedAttributes {
                title: level.title.clone(),
                name: level.external_id.clone(),
            },
        }
    }
}

/// An endpoint. Its `data` and its signing secret are not shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Endpoint {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: EndpointAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointAttributes {
    /// Name, unique in the account.
    name: String,
    /// Where webhooks are sent; null for other drivers.
    url: Option<String>,
    /// Whether the endpoint receives notifications.
    active: bool,
    /// How the last delivery ended: `success` or `failure`; null before the first.
    last_delivery_status: Option<&'static str>,
    /// Time of the last delivery, RFC 3339.
    last_delivery_time: Option<String>,
    /// Time of the first failure since the last success, RFC 3339.
    first_failure_time: Option<String>,
    /// Time of the next retry, RFC 3339; null if no delivery waits for one. The retry comes later
    /// if the endpoint does not answer at all.
    next_attempt_time: Option<String>,
    /// `Endpoints::HttpEndpoint` or `Endpoints::HttpsEndpoint`, as the URL says; `Endpoint` for
    /// other drivers.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Retry policy: `default` or `hooks`.
    retry_policy: &'static str,
    /// Seconds that the endpoint has to answer; null for the time in the configuration.
    timeout_seconds: Option<u32>,
    /// Service that the webhook is of; null for none.
    preset: Option<String>,
    /// Template of the body; null for that of the preset, or for the form of hooks-backend.
    template: Option<String>,
    /// Type of the body that the template makes; null for that of the preset, or else for
    /// `application/json`.
    content_type: Option<String>,
    #[serde(flatten)]
    flow: FlowAttributes,
    /// Name of the driver: `webhook`, or another one.
    driver: String,
    /// Settings for the driver, without what is secret of them; null for webhooks.
    #[schema(value_type = Option<Object>)]
    settings: Option<Map<String, Value>>,
}

impl Endpoint {
    pub(crate) fn new(endpoint: &store::Endpoint) -> Self {
        let text = |key: &str| {
            let of_webhook = endpoint.url.as_ref().and(endpoint.settings.get(key));
            of_webhook
                .and_then(|value| value.as_str())
                .map(str::to_owned)
        };
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
                next_attempt_time: endpoint.next_attempt_ms.map(time),
                kind: endpoint.kind.map_or("Endpoint", EndpointKind::as_str),
                retry_policy: endpoint.retry_policy.as_str(),
                timeout_seconds: endpoint.timeout_seconds,
                preset: text("preset"),
                template: text("template"),
                content_type: text("content_type"),
                flow: FlowAttributes::new(&endpoint.flow),
                settings: endpoint.url.is_none().then(|| endpoint.settings.clone()),
                driver: endpoint.driver.clone(),
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
    /// Whether the filter matches anything.
    enabled: bool,
    /// CEL expression that must hold, too; null for none.
    condition: Option<String>,
    /// Sets whose members are not registered any more: `apps`, `event_types`, `levels`. They match
    /// nothing until they are set, or registered, again.
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

/// Name of a set of a filter in answers.
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

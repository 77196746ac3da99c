//! Applications, and what endpoints want, over the control socket.

use axum::Json;
use axum::extract::State;
use dovecast_store::{Application, EndpointRecord, FilterRecord, Members};

use super::deliveries::{each_endpoint, store};
use super::{Control, Failure, json};

/// Applications of one page.
const PAGE: i64 = 100;

/// `GET /v1/apps`.
pub(super) async fn apps(
    State(control): State<Control>,
) -> Result<Json<Vec<json::AppLine>>, Failure> {
    let store = store(&control)?;
    let (mut lines, mut offset) = (Vec::new(), 0);
    loop {
        let page = store.applications(PAGE, offset).await?;
        if page.items.is_empty() {
            return Ok(Json(lines));
        }
        offset += PAGE;
        lines.extend(page.items.into_iter().map(app));
    }
}

fn app(application: Application) -> json::AppLine {
    let event_types = application.event_types.into_iter();
    json::AppLine {
        id: application.id.uuid(),
        name: application.name,
        title: application.title,
        event_types: event_types
            .map(|event_type| json::EventTypeLine {
                name: event_type.external_id,
                title: event_type.title,
                levels: event_type
                    .levels
                    .into_iter()
                    .map(|level| json::LevelLine {
                        name: level.external_id,
                        title: level.title,
                    })
                    .collect(),
            })
            .collect(),
    }
}

/// `GET /v1/filters`.
pub(super) async fn filters(
    State(control): State<Control>,
) -> Result<Json<Vec<json::FilterLine>>, Failure> {
    let mut lines = Vec::new();
    each_endpoint(store(&control)?, |record| {
        lines.push(json::FilterLine {
            endpoint: record.endpoint.id.0,
            account: record.account_number.clone(),
            name: record.endpoint.name.clone(),
            active: record.endpoint.active,
            filter: record.filter.as_ref().map(shown),
            gets: gets(record),
        });
    })
    .await?;
    Ok(Json(lines))
}

fn shown(filter: &FilterRecord) -> json::FilterShown {
    json::FilterShown {
        enabled: filter.enabled,
        condition: filter.condition.clone(),
        applications: list(&filter.applications, Clone::clone),
        event_types: list(&filter.event_types, |of| json::MemberName {
            application: of.application.clone(),
            event_type: of.event_type.clone(),
            level: None,
        }),
        levels: list(&filter.levels, |of| json::MemberName {
            application: of.application.clone(),
            event_type: of.event_type.clone(),
            level: Some(of.level.clone()),
        }),
    }
}

fn list<T, U>(members: &Members<T>, of: impl Fn(&T) -> U) -> Option<Vec<U>> {
    match members {
        Members::Any => None,
        Members::These(list) => Some(list.iter().map(of).collect()),
    }
}

/// What an endpoint wants, in the words of `explain`.
fn gets(record: &EndpointRecord) -> String {
    let nothing = |why: &str| format!("nothing: {why}");
    let Some(filter) = &record.filter else {
        return nothing("the endpoint has no filter");
    };
    if !record.endpoint.active {
        return nothing("the endpoint is not active");
    }
    if !filter.enabled {
        return nothing("the filter is not enabled");
    }
    let sets = [
        ("application", list(&filter.applications, Clone::clone)),
        (
            "event type",
            list(&filter.event_types, |of| {
                format!("{}/{}", of.application, of.event_type)
            }),
        ),
        (
            "level",
            list(&filter.levels, |of| {
                format!("{}/{}/{}", of.application, of.event_type, of.level)
            }),
        ),
    ];
    let mut parts = Vec::new();
    for (what, names) in sets {
        match names {
            None => {}
            Some(names) if names.is_empty() => {
                return nothing(&format!("no {what} of the filter is registered any more"));
            }
            Some(mut names) => {
                names.sort();
                parts.push(format!("{what} {}", names.join(" or ")));
            }
        }
    }
    if let Some(condition) = &filter.condition {
        parts.push(format!("condition {condition}"));
    }
    if parts.is_empty() {
        return "everything of the account".to_owned();
    }
    parts.join(", ")
}

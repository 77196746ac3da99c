//! The REST API: applications, endpoints, filters and tokens, as JSON:API.
//!
//! Compatible with hooks-backend in paths, shapes, statuses and texts; `docs/rest.md` says all of
//! it. First the caller of a request is identified (`identity`), then its body and query are read
//! (`body`, `query`), then one of the [`Operations`] does what it says, and what that returns is
//! rendered (`documents`). An error is an [`ApiError`] everywhere.

mod accounts;
mod apps;
mod attempts;
pub(crate) mod body;
mod dead_letters;
pub(crate) mod documents;
mod endpoints;
pub(crate) mod error;
mod explanations;
mod filters;
pub(crate) mod filters_in_words;
pub(crate) mod forwarded;
mod held;
pub(crate) mod identity;
mod messages;
pub(crate) mod parsers;
mod path;
mod query;
mod redelivery;
mod reference;
mod registration;
mod rendering;
mod times;
mod tokens;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use dovecast_operations::Operations;
use ipnet::IpNet;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Config;
use crate::logs::Logs;
use crate::past::Past;
use crate::sources::Destination;
use error::ApiError;

/// Longest body of a request.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What requests are answered from. It is cloned several times for each: clones are the same one.
#[derive(Clone)]
pub(crate) struct Api(Arc<Parts>);

pub(crate) struct Parts {
    operations: Operations,
    /// Where notifications go.
    outbox: Destination,
    /// Where they are looked for.
    past: Past,
    trusted_proxies: Arc<[IpNet]>,
    /// How large arrays of notifications may be.
    messages: messages::Bounds,
}

impl Api {
    pub(crate) fn new(operations: Operations, logs: &Logs, config: &Config) -> Self {
        Self(Arc::new(Parts {
            operations,
            outbox: Destination::new(logs, &config.dispatch.outbox_topic),
            past: Past::new(logs, &config.dispatch),
            trusted_proxies: config.http.trusted_proxies.clone().into(),
            messages: messages::Bounds::new(&config.http),
        }))
    }
}

impl Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What a request has changed counts here when it is answered; on other nodes it does within a
/// second. Notifications change nothing, and wait for nothing that others have changed.
async fn count_at_once(State(api): State<Api>, request: Request, next: Next) -> Response {
    let may_change = !request.method().is_safe() && !request.uri().path().ends_with(messages::PATH);
    let response = next.run(request).await;
    if may_change {
        api.operations.settled().await;
    }
    response
}

/// The requests below `prefix` and what answers them.
pub(crate) fn router(api: Api, prefix: &str) -> Router {
    let (router, document) = described().split_for_parts();
    let router = router
        .merge(reference::router(document, prefix))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(api.clone(), count_at_once))
        .with_state(api);
    Router::new()
        .nest(prefix, router)
        // For axum the prefix with a slash is not below the prefix.
        .route(&format!("{prefix}/"), any(no_route))
}

/// Requests with their descriptions.
fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(reference::Reference::openapi())
        .routes(routes!(apps::list))
        .routes(routes!(apps::show, apps::remove))
        .routes(routes!(registration::register))
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(
            endpoints::show,
            endpoints::update,
            endpoints::patch,
            endpoints::delete
        ))
        .routes(routes!(endpoints::test))
        .routes(routes!(rendering::render))
        .routes(routes!(endpoints::rotate_secret))
        .routes(routes!(redelivery::redeliver))
        .routes(routes!(attempts::list))
        .routes(routes!(dead_letters::list, dead_letters::delete))
        .routes(routes!(filters::show))
        .routes(routes!(filters_in_words::list_all))
        .routes(routes!(explanations::explain))
        .routes(routes!(messages::create))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::show, accounts::close))
        .routes(routes!(accounts::reopen))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::update, tokens::patch, tokens::delete))
}

async fn no_route(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(format!("Could not find route {}", uri.path()))
}

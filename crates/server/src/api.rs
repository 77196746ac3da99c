//! The REST API: applications, endpoints, filters and tokens, as JSON:API.
//!
//! Compatible with hooks-backend in paths, shapes, statuses and texts; `docs/rest.md` says all of
//! it. First the caller of a request is identified (`identity`), then its body and query are read
//! (`body`, `query`), then the store does what it says. An error is an [`ApiError`] everywhere.

mod apps;
mod body;
mod documents;
mod endpoint_fields;
mod endpoints;
mod error;
mod filters;
mod identity;
mod messages;
mod path;
mod query;
pub(crate) mod readers;
mod redelivery;
mod reference;
mod registration;
mod test_delivery;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use dovecast_drivers::Drivers;
use dovecast_store::Store;
use ipnet::IpNet;
use tokio::sync::watch;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::Http;
use crate::sources::Destination;
use error::ApiError;

pub(crate) use test_delivery::TestDelivery;

/// Longest time that an answer waits until this process dispatches by what the request has changed.
const FOLLOW: Duration = Duration::from_secs(2);
/// Longest body of a request.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What requests are answered from.
#[derive(Clone)]
pub(crate) struct Api {
    store: Store,
    /// Where notifications go.
    outbox: Destination,
    trusted_proxies: Arc<[IpNet]>,
    /// Most endpoints of one account.
    max_endpoints: u64,
    /// How large arrays of notifications may be.
    messages: messages::Bounds,
    dispatcher: OfDispatcher,
}

/// What the dispatcher of this process has, that requests ask for.
#[derive(Clone)]
pub(crate) struct OfDispatcher {
    /// Check the settings of endpoints.
    pub(crate) drivers: Drivers,
    pub(crate) test_delivery: Arc<dyn TestDelivery>,
    /// The number of the last change that counts for deliveries of this process.
    pub(crate) follows: watch::Receiver<i64>,
}

impl Api {
    pub(crate) fn new(
        store: Store,
        outbox: Destination,
        http: &Http,
        dispatcher: OfDispatcher,
    ) -> Self {
        Self {
            store,
            outbox,
            trusted_proxies: http.trusted_proxies.clone().into(),
            max_endpoints: http.max_endpoints.get(),
            messages: messages::Bounds::new(http),
            dispatcher,
        }
    }
}

/// What a request has changed counts here when it is answered; on other nodes it does within a
/// second.
async fn count_at_once(State(api): State<Api>, request: Request, next: Next) -> Response {
    let may_change = !request.method().is_safe();
    let response = next.run(request).await;
    if may_change {
        let known = api.store.known_change();
        let mut follows = api.dispatcher.follows.clone();
        let counts = follows.wait_for(|applied| *applied >= known);
        // Late is better than never answered.
        let _ = tokio::time::timeout(FOLLOW, counts).await;
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
        .routes(routes!(apps::show))
        .routes(routes!(registration::register))
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(
            endpoints::show,
            endpoints::update,
            endpoints::delete
        ))
        .routes(routes!(endpoints::test))
        .routes(routes!(endpoints::rotate_secret))
        .routes(routes!(redelivery::redeliver))
        .routes(routes!(filters::show))
        .routes(routes!(messages::create))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
}

async fn no_route(OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::not_found(format!("Could not find route {}", uri.path()))
}

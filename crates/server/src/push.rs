//! Mail push over HTTP, `/api/push/v1`: sessions and subscriptions of persons, in plain JSON.
//!
//! A request is identified (`caller`), its body read, one of the acts of [`MailPush`] called, and
//! what that returns rendered (`documents`). What open windows are told is `streams`.
//! docs/push-api.md says all of it.

pub(crate) mod admin;
mod caller;
mod care;
mod caring;
mod conditions;
pub(crate) mod counters;
mod documents;
mod engine;
mod held_hosts;
mod log_in;
mod origin;
pub(crate) mod page;
mod routes;
mod sender;
mod streams;
pub(crate) mod wiring;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, delete, get, post};
use dovecast_operations::push::MailPush;
use ipnet::IpNet;

use crate::config::Config;
use crate::config::mail_push::PREFIX;
pub(crate) use origin::Origin;
use streams::Streams;
pub(crate) use streams::{Patience, StreamLimits, socket_io};

/// Longest body of a request.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What requests are answered from. Clones are the same one.
#[derive(Clone)]
pub(crate) struct PushApi(Arc<Parts>);

struct Parts {
    acts: MailPush,
    streams: Streams,
    trusted_proxies: Vec<IpNet>,
    /// Whose pages may ask in the name of the user whom a trusted proxy names.
    allowed_origins: Vec<Origin>,
    /// How long a request may take.
    request_time: Duration,
}

impl PushApi {
    pub(crate) fn new(acts: MailPush, streams: Streams, config: &Config) -> Self {
        Self(Arc::new(Parts {
            acts,
            streams,
            trusted_proxies: config.http.trusted_proxies.clone(),
            allowed_origins: config.mail_push.allowed_origins.clone(),
            request_time: Duration::from_secs(config.http.request_timeout_seconds.get()),
        }))
    }

    fn acts(&self) -> &MailPush {
        &self.0.acts
    }

    fn streams(&self) -> &Streams {
        &self.0.streams
    }

    fn request_time(&self) -> Duration {
        self.0.request_time
    }
}

/// The requests and what answers them.
pub(crate) fn router(api: PushApi) -> Router {
    let routes = Router::new()
        .route("/sessions", post(routes::begin_session))
        .route("/sessions/current", delete(routes::end_session))
        .route("/vapid", get(routes::vapid))
        .route("/subscriptions", get(routes::list).post(routes::subscribe))
        .route(
            "/subscriptions/{id}",
            get(routes::show)
                .put(routes::change)
                .delete(routes::unsubscribe),
        )
        .route("/subscriptions/{id}/test", post(routes::test))
        .merge(streams::routes())
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(api.clone());
    Router::new()
        .nest(PREFIX, routes)
        .merge(page::router())
        .merge(socket_io::routes().with_state(api))
        // For axum the prefix with a slash is not below the prefix.
        .route(&format!("{PREFIX}/"), any(routes::no_route))
}

#[cfg(test)]
mod tests;

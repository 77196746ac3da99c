//! The endpoint of a benchmark: answers every webhook with 204, and knows which came when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A running endpoint; it ends with the runtime.
pub(super) struct Sink {
    url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    webhooks: Mutex<HashMap<String, Arrival>>,
    news: Notify,
}

/// When a webhook came first, and how often.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) first: Instant,
    pub(super) times: usize,
}

impl Sink {
    pub(super) fn start(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr().context("no address")?;
        let shared = Arc::<Shared>::default();
        let router = Router::new()
            .route("/", post(take))
            .with_state(Arc::clone(&shared));
        let listener = listener.tap_io(|stream| {
            // A connection that refuses it is only slower.
            let _ = stream.set_nodelay(true);
        });
        // It ends with an error never, and with the process always.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            url: format!("http://{address}/"),
            shared,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What came so far, by `webhook-id`.
    pub(super) fn webhooks(&self) -> MutexGuard<'_, HashMap<String, Arrival>> {
        self.shared.webhooks()
    }

    /// Waits until something has come since this was asked last.
    pub(super) async fn news(&self) {
        self.shared.news.notified().await;
    }
}

impl Shared {
    fn webhooks(&self) -> MutexGuard<'_, HashMap<String, Arrival>> {
        self.webhooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body has been read when this is called.
async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, _body: Bytes) -> StatusCode {
    let now = Instant::now();
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let Some(id) = id else {
        return StatusCode::BAD_REQUEST;
    };
    shared
        .webhooks()
        .entry(id.to_owned())
        .and_modify(|arrival| arrival.times += 1)
        .or_insert(Arrival {
            first: now,
            times: 1,
        });
    shared.news.notify_one();
    StatusCode::NO_CONTENT
}

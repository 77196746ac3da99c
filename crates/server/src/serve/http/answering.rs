//! What each request goes through: it is counted, has a time until it is answered, and its answer
//! says to browsers what they must not make of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};

use super::stats::{HttpStats, Kind, Slow};

/// Counts a request by its route, and how long it took.
pub(super) async fn counted(
    State(stats): State<Arc<HttpStats>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    stats.answered(
        Kind::new(route, &method, response.status()),
        began.elapsed(),
    );
    response
}

/// What a browser may load for an answer, and where it may be shown: nothing, and nowhere. A page
/// says its own.
const NOTHING: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'");

/// Keeps browsers from taking an answer for something else than it is, and from running what is in
/// it: texts in answers come from others.
pub(super) async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(NOTHING);
    response
}

/// Ends a request that takes too long: 408 if its body did not arrive, 503 if it was not answered.
pub(super) async fn bounded(
    State((patience, stats)): State<(Duration, Arc<HttpStats>)>,
    request: Request,
    next: Next,
) -> Response {
    let is_awaited = Arc::<AtomicBool>::default();
    let request = request.map(|body| {
        Body::new(Watched {
            body,
            is_awaited: Arc::clone(&is_awaited),
        })
    });
    if let Ok(response) = tokio::time::timeout(patience, next.run(request)).await {
        return response;
    }
    stats.was_slow(Slow::Request);
    let (answer, text) = if is_awaited.load(Ordering::Relaxed) {
        let text = "the body of the request did not arrive in time\n";
        (StatusCode::REQUEST_TIMEOUT, text)
    } else {
        let text = "the request has taken too long\n";
        (StatusCode::SERVICE_UNAVAILABLE, text)
    };
    (answer, [(header::CONNECTION, "close")], text).into_response()
}

/// A body that tells whether somebody waits for more of it.
struct Watched {
    body: Body,
    is_awaited: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.is_awaited
            .store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

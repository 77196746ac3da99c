//! `/push/`: a page to try mail push with. It subscribes this browser and shows live events; plain
//! HTML and modules that are in the binary, nothing from elsewhere.

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

/// Where it is.
pub(crate) const PATH: &str = "/push";
/// What the page may load: itself. Requests go to this server only, and forms nowhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    worker-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// A file of the page: its name, its type and what is in it.
type File = (&'static str, &'static str, &'static str);

const FILES: [File; 4] = [
    (
        "/push/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/push/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
    (
        "/push/worker.js",
        "text/javascript; charset=utf-8",
        include_str!("page/worker.js"),
    ),
    (
        "/push/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
];

pub(super) fn router() -> Router {
    let mut router = Router::new().route(PATH, get(async || Redirect::permanent("/push/")));
    for (path, kind, text) in FILES {
        router = router.route(path, get(async move || file(kind, text)));
    }
    router
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another release has other files.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let mut response = (headers, text).into_response();
    response.headers_mut().insert(
        "permissions-policy",
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    );
    response
}

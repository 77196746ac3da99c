//! `/socket.io/appsuite/`: streams as Open-Xchange's clients speak them: Socket.IO over Engine.IO 3
//! or 4, by WebSocket or by long polling. What is told is `ox:mail:new` with the original's fields,
//! unless `topics` asks for something else.
//!
//! A connection stays with the transport it has begun with (`upgrades` is empty).

mod packets;
mod polling;
mod window;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dovecast_mail_push::{PushContent, Topics};
use serde_json::json;
use url::form_urlencoded;

use super::request::Asked;
use super::websocket::Handshake;
use crate::push::PushApi;
use crate::push::routes::PushError;
pub(super) use polling::Polls;

/// Where it is asked for.
pub(crate) const PATH: &str = "/socket.io/appsuite/";
/// How long a client waits for a ping beyond its interval, as Open-Xchange says it.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest body of a client, in bytes: it has nothing to say but pongs.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// Version of Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// The client pings; packets of a payload have their lengths.
    Three,
    /// The server pings; packets of a payload are divided by a separator.
    Four,
}

/// Why a request is refused, in the form of Engine.IO.
#[derive(Clone, Copy, Debug)]
enum Refused {
    UnknownTransport,
    UnknownSession,
    BadRequest,
    UnknownVersion,
}

/// What the query says besides what each stream's does.
struct Asking {
    version: Version,
    is_polling: bool,
    /// The stream of a client that polls.
    sid: Option<String>,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadRequest => (3, "Bad request"),
            Self::UnknownVersion => (5, "Unsupported protocol version"),
        };
        let body = axum::Json(json!({ "code": code, "message": message }));
        (StatusCode::BAD_REQUEST, body).into_response()
    }
}

impl Asking {
    fn read(query: &str) -> Result<Self, Refused> {
        let named = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let version = match named("EIO").as_deref() {
            Some("3") => Version::Three,
            Some("4") => Version::Four,
            _ => return Err(Refused::UnknownVersion),
        };
        let is_polling = match named("transport").as_deref() {
            Some("polling") => true,
            Some("websocket") => false,
            _ => return Err(Refused::UnknownTransport),
        };
        Ok(Self {
            version,
            is_polling,
            sid: named("sid"),
        })
    }
}

/// The requests of such clients.
pub(in crate::push) fn routes() -> Router<PushApi> {
    let methods = get(answer)
        .post(answer)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    Router::new()
        .route(PATH, methods.clone())
        .route(PATH.trim_end_matches('/'), methods)
}

async fn answer(State(api): State<PushApi>, request: Request) -> Result<Response, PushError> {
    let asking = match Asking::read(request.uri().query().unwrap_or_default()) {
        Ok(asking) => asking,
        Err(refused) => return Ok(refused.into_response()),
    };
    let (mut parts, body) = request.into_parts();
    let mut asked =
        <Asked as axum::extract::FromRequestParts<_>>::from_request_parts(&mut parts, &api).await?;
    asked
        .topics
        .get_or_insert_with(|| Topics::parse(["ox:mail:new"]).unwrap_or_else(|_| Topics::all()));
    asked.content.get_or_insert(PushContent::Snippet);
    let request = Request::from_parts(parts, body);
    match (asking.is_polling, asking.sid) {
        (true, None) => polling::begin(&api, asking.version, asked).await,
        (true, Some(sid)) => polling::go_on(&api, &sid, asked, request).await,
        // Nothing that polls becomes a WebSocket.
        (false, Some(_)) => Ok(Refused::BadRequest.into_response()),
        (false, None) => match Handshake::read(request.headers()) {
            Ok(handshake) => window::begin(&api, asking.version, asked, (handshake, request)).await,
            Err(refused) => Ok(refused.into_response()),
        },
    }
}

/// A name that nobody guesses.
fn new_sid() -> Result<String, PushError> {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes)
        .map_err(|_| crate::api::error::ApiError::from(unavailable()))
        .map_err(PushError::from)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn unavailable() -> dovecast_operations::Refusal {
    dovecast_operations::Refusal::Unavailable("The system has no random numbers".into())
}

/// A payload of packets, as text.
fn payload(text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=UTF-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text).into_response()
}

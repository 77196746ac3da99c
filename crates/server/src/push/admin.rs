//! What `dovecast pushusers -s` asks another dovecast over HTTP: the requests of the control socket
//! about listeners, for whoever says user and password of `[mail_push.admin]`.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use ipnet::IpNet;

use crate::api::forwarded;
use crate::basic::Expected;
use crate::config::Config;
use crate::config::mail_push::PREFIX;
use crate::control::{self, Control, json};
use crate::sources::ox::Guesses;

/// What the paths begin with, behind that of mail push.
pub(crate) const ADMIN: &str = "/admin";

/// Who may ask.
#[derive(Clone)]
struct Door {
    /// `None`: nobody.
    expected: Option<Expected>,
    guesses: Guesses,
    trusted_proxies: Arc<[IpNet]>,
}

/// The requests, and what answers them.
pub(crate) fn router(control: Control, config: &Config) -> Result<Router> {
    let admin = &config.mail_push.admin;
    let password = admin.password.as_ref().or(admin.password_file.as_ref());
    let expected = match (&admin.user, password) {
        (Some(user), Some(password)) => {
            let place = "`password_file` of [mail_push.admin]";
            let password = password.read().context(place)?;
            Some(Expected::new(user, &password))
        }
        _ => None,
    };
    let door = Door {
        expected,
        guesses: Guesses::of("[mail_push.admin]"),
        trusted_proxies: config.http.trusted_proxies.as_slice().into(),
    };
    let routes = control::push_router(control).layer(middleware::from_fn_with_state(door, admit));
    Ok(Router::new().nest(&format!("{PREFIX}{ADMIN}"), routes))
}

/// Lets through whoever says the right user and password; an address that has said a few wrong ones
/// has to wait.
async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let Some(expected) = &door.expected else {
        let text = "`user` and `password` of [mail_push.admin] are not configured";
        return refused(StatusCode::FORBIDDEN, text);
    };
    let (parts, body) = request.into_parts();
    let Some(address) = forwarded::client(&parts, &door.trusted_proxies) else {
        return refused(
            StatusCode::FORBIDDEN,
            "it is not known from where this comes",
        );
    };
    if let Err(wait) = door.guesses.admit(address) {
        let text = "this address has said too many wrong passwords; it has to wait";
        let mut response = refused(StatusCode::TOO_MANY_REQUESTS, text);
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        response.headers_mut().insert(RETRY_AFTER, seconds);
        return response;
    }
    if !expected.is_said(&parts.headers) {
        door.guesses.was_wrong(address);
        let text = "user or password is not that of [mail_push.admin]";
        let mut response = refused(StatusCode::UNAUTHORIZED, text);
        let challenge = HeaderValue::from_static("Basic realm=\"dovecast\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        return response;
    }
    door.guesses.was_right(address);
    next.run(Request::from_parts(parts, body)).await
}

fn refused(status: StatusCode, text: &str) -> Response {
    let error = text.to_owned();
    (status, Json(json::Failed { error })).into_response()
}

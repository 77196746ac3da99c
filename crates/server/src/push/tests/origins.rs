//! Pages of other sites: what they may not ask in the name of the user whom a proxy names.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;

use super::{Door, World};
use crate::config::Config;

const SUBSCRIPTIONS: &str = "/api/push/v1/subscriptions";
const ELSEWHERE: (&str, &str) = ("origin", "https://evil.example");
/// All that asks in somebody's name, and what it is answered where the caller is let through:
/// requests for streams are such as begin none.
const ASKED: [(&str, &str, u16); 9] = [
    ("GET", "/api/push/v1/events?last_event_id=x", 422),
    ("GET", "/api/push/v1/ws", 426),
    ("GET", "/socket.io/appsuite/?EIO=4&transport=websocket", 426),
    (
        "GET",
        "/socket.io/appsuite/?EIO=4&transport=polling&sid=x",
        400,
    ),
    (
        "POST",
        "/socket.io/appsuite/?EIO=4&transport=polling&sid=x",
        400,
    ),
    ("GET", SUBSCRIPTIONS, 200),
    ("POST", SUBSCRIPTIONS, 400),
    ("POST", "/api/push/v1/subscriptions/1/test", 404),
    ("DELETE", "/api/push/v1/subscriptions/1", 404),
];

fn config(mail_push: &str) -> Config {
    let text = format!("[http]\ntrusted_proxies = ['127.0.0.1']\n[mail_push]\n{mail_push}");
    Config::parse(&text).expect("a configuration")
}

/// Asks through the proxy, as the user 11 of the context 3.
async fn ask(door: &Door, what: (&str, &str), headers: &[(&str, &str)]) -> (StatusCode, Value) {
    send(door, what, headers, Body::empty()).await
}

async fn send(
    door: &Door,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: Body,
) -> (StatusCode, Value) {
    let identity = r#"{"identity":{"account_number":"3","user":{"username":"11"}}}"#;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))))
        .header("host", "mail.example.org")
        .header("content-type", "application/json")
        .header("x-rh-identity", STANDARD.encode(identity));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body).expect("a request");
    let service = TowerToHyperService::new(door.router.clone());
    let (parts, body) = service.call(request).await.expect("answered").into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let json = serde_json::from_slice(&bytes).unwrap_or_default();
    (parts.status, json)
}

#[tokio::test]
async fn a_page_of_another_site_asks_nothing_in_the_name_of_a_proxys_user() {
    let world = World::new().await;
    let door = world.door(&config(""));
    for (method, path, status) in ASKED {
        let (refused, said) = ask(&door, (method, path), &[ELSEWHERE]).await;
        assert_eq!(refused, StatusCode::FORBIDDEN, "{method} {path}: {said}");
        assert_eq!(said["errors"][0]["status"], "403");
        let detail = said["errors"][0]["detail"].as_str().expect("a detail");
        assert!(detail.contains("`https://evil.example`"), "{detail}");
        let own = [("origin", "https://mail.example.org")];
        for headers in [&own[..], &[]] {
            let (answered, said) = ask(&door, (method, path), headers).await;
            assert_eq!(answered.as_u16(), status, "{method} {path}: {said}");
        }
    }
}

#[tokio::test]
async fn the_host_itself_and_configured_origins_are_the_persons_own() {
    let world = World::new().await;
    let allowed = "allowed_origins = ['https://portal.example.org', 'capacitor://localhost']";
    let door = world.door(&config(allowed));
    let https = ("x-forwarded-proto", "https");
    for (headers, is_taken) in [
        (&[("origin", "http://mail.example.org")][..], true),
        (&[("origin", "https://MAIL.example.org")], true),
        (&[("origin", "https://portal.example.org")], true),
        (&[("origin", "capacitor://localhost")], true),
        (&[("origin", "http://portal.example.org")], false),
        (&[("origin", "https://mail.example.org:8443")], false),
        (
            &[("origin", "https://mail.example.org.evil.example")],
            false,
        ),
        (&[("origin", "null")], false),
        (&[("origin", "")], false),
        // Each of two counts.
        (&[("origin", "https://mail.example.org"), ELSEWHERE], false),
        (&[https, ("origin", "https://mail.example.org")], true),
        (&[https, ("origin", "http://mail.example.org")], false),
        (
            &[
                ("x-forwarded-host", "www.example.org:443, inner"),
                ("origin", "https://www.example.org"),
            ],
            true,
        ),
        (
            &[
                ("x-forwarded-host", "www.example.org"),
                ("origin", "https://mail.example.org"),
            ],
            false,
        ),
        // Images and scripts have no origin.
        (&[("sec-fetch-site", "same-origin")], true),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "same-site")], false),
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ],
            true,
        ),
    ] {
        let (status, said) = ask(&door, ("GET", SUBSCRIPTIONS), headers).await;
        let expected = if is_taken { 200 } else { 403 };
        assert_eq!(status.as_u16(), expected, "{headers:?}: {said}");
    }
}

#[tokio::test]
async fn a_proxys_user_logs_in_as_the_person_of_these_numbers() {
    let world = World::new().await;
    let door = world.door(&config(""));
    let body = r#"{"client":"c","transport":"webhook","topics":["*"],"webhook":{"url":"https://a.example/"}}"#;
    let post = ("POST", SUBSCRIPTIONS);
    let (status, said) = send(&door, post, &[], Body::from(body)).await;
    assert_eq!(status, StatusCode::CREATED, "{said}");
    let clients = world.store.push_clients().await.expect("clients");
    assert_eq!(&*clients[0].person.login, "11@3");
}

#[tokio::test]
async fn whoever_shows_a_token_may_ask_from_wherever_it_likes() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    door.log_in("11@3").await;
    let token = door.token.clone().expect("a token");
    // No proxy is trusted: the identity is nothing.
    let bearer = format!("Bearer {token}");
    let headers = [ELSEWHERE, ("authorization", &*bearer)];
    let (status, said) = ask(&door, ("GET", SUBSCRIPTIONS), &headers).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    // In the query it goes before the identity.
    let door = world.door(&config(""));
    let path = format!("/api/push/v1/ws?session={token}");
    let (status, said) = ask(&door, ("GET", &path), &[ELSEWHERE]).await;
    assert_eq!(status, StatusCode::UPGRADE_REQUIRED, "{said}");
}

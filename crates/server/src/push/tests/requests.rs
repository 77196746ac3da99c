//! Who may ask for what, and what is refused.

use axum::http::StatusCode;
use dovecast_mail_push::{Person, PushVerdict};
use dovecast_store::Scope;
use serde_json::{Value, json};

use super::{World, said};
use crate::config::Config;

const SUBSCRIPTIONS: &str = "/api/push/v1/subscriptions";
const SESSIONS: &str = "/api/push/v1/sessions";

fn phone(token: &str) -> Value {
    json!({ "client": "phone", "transport": "fcm", "fcm": { "token": token }, "topics": ["*"] })
}

#[tokio::test]
async fn who_says_nothing_or_something_wrong_is_unauthenticated_in_the_shape_of_errors() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    for (token, detail) in [
        (None, "`Authorization: Bearer TOKEN` should be provided"),
        (Some("dps_unknown"), "The session is not valid"),
        (Some("dct_unknown"), "The API token is not valid"),
    ] {
        door.token = token.map(ToOwned::to_owned);
        let (status, said) = door.ask("GET", SUBSCRIPTIONS, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(said["errors"][0]["detail"], detail);
        assert_eq!(said["errors"][0]["status"], "401");
    }
    let (status, _) = door.ask("GET", "/api/push/v1/nothing", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (status, _) = door.ask("PATCH", SUBSCRIPTIONS, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_byte_order_mark_before_json_is_passed_over() {
    let world = World::new().await;
    let door = world.door(&Config::default());
    let login = json!({ "login": "joe", "password": "secret" });
    let (status, said) = door
        .ask_text("POST", SESSIONS, format!("\u{feff}{login}"))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{said}");
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_is_refused_by_login_and_by_address() {
    let world = World::new().await;
    let door = world.door(&Config::default());
    let ask = async |login: &str| {
        let body = json!({ "login": login, "password": "wrong" });
        door.ask("POST", SESSIONS, Some(&body)).await.0
    };
    for _ in 0..10 {
        assert_eq!(ask("joe").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(ask("JOE").await, StatusCode::TOO_MANY_REQUESTS);
    for number in 0..19 {
        assert_eq!(
            ask(&format!("user{number}")).await,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(ask("another").await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_session_begins_with_a_token_of_oauth_as_with_a_password() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    for (token, expected) in [("wrong", 401), ("secret", 201)] {
        let body = json!({ "login": "11@3", "oauth_token": token });
        let (status, said) = door.ask("POST", SESSIONS, Some(&body)).await;
        assert_eq!(status.as_u16(), expected, "{said}");
        let session = said["session"].as_str();
        door.token = session.map(ToOwned::to_owned);
    }
    let (status, _) = door.ask("GET", SUBSCRIPTIONS, None).await;
    assert_eq!(status, StatusCode::OK);
    let both = json!({ "login": "11@3", "oauth_token": "secret", "password": "secret" });
    let (status, said) = door.ask("POST", SESSIONS, Some(&both)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
}

#[tokio::test]
async fn who_logs_in_by_other_letters_is_who_the_mail_server_takes_them_for() {
    let world = World::new().await;
    let as_written = Config::parse("[mail_push.auth]\nlower_case_logins = false");
    for (config, login, status_of_away) in [
        (Config::default(), "alice@example.org", 503),
        (
            as_written.expect("a configuration"),
            "ALICE@Example.org",
            201,
        ),
    ] {
        let door = world.door(&config);
        let ask = async |login: &str| {
            let body = json!({ "login": login, "password": "secret" });
            door.ask("POST", SESSIONS, Some(&body)).await
        };
        let (status, begun) = ask("ALICE@Example.org").await;
        assert_eq!(status, StatusCode::CREATED, "{begun}");
        let person = &begun["person"];
        assert_eq!(
            (&person["login"], &person["user"]),
            (&json!(login), &json!(login))
        );
        // The mail server is asked for the same name: it is away for `away` only.
        let (status, said) = ask("AWAY").await;
        assert_eq!(status.as_u16(), status_of_away, "{said}");
    }
}

#[tokio::test]
async fn what_has_expired_opens_nothing() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    door.log_in("11@3").await;
    let session = door.token.clone();
    let person = Person::new("3", "11", "11@3").expect("a person");
    let token = world.store.create_token("phone", Scope::Person(person));
    let token = token.await.expect("a token").secret;
    for aged in [
        "UPDATE push_session SET expires_ms = 1",
        "UPDATE api_token SET expires_ms = 1",
    ] {
        assert_eq!(world.change(aged).await, 1, "{aged}");
    }
    for (token, detail) in [
        (session, "The session has expired"),
        (Some(token), "The API token has expired"),
    ] {
        door.token = token;
        let (status, said) = door.ask("GET", SUBSCRIPTIONS, None).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
        assert_eq!(said["errors"][0]["detail"], detail);
    }
}

#[tokio::test]
async fn a_person_has_as_many_subscriptions_as_one_may_have_and_a_body_its_bound() {
    let world = World::new().await;
    let config = "[mail_push]\nmax_subscriptions = 2";
    let mut door = world.door(&Config::parse(config).expect("a configuration"));
    door.log_in("11@3").await;
    for (token, expected) in [("a", 201), ("b", 201), ("c", 409), ("a", 200)] {
        let body = phone(token);
        let (status, said) = door.ask("POST", SUBSCRIPTIONS, Some(&body)).await;
        assert_eq!(status.as_u16(), expected, "{token}: {said}");
        if expected == 409 {
            let detail = said["errors"][0]["detail"].as_str().expect("a detail");
            assert!(detail.contains("2 subscriptions"), "{detail}");
        }
    }
    let mut large = phone("d");
    large["topics"] = json!(["x".repeat(1024 * 1024)]);
    let (status, said) = door.ask("POST", SUBSCRIPTIONS, Some(&large)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{said}");
    assert_eq!(said["errors"][0]["status"], "413");
}

#[tokio::test]
async fn of_a_thousand_subscriptions_a_person_has_as_many_as_one_may_have() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    door.log_in("11@3").await;
    let subscribe = async |number: u32| {
        let body = phone(&format!("token-{number}"));
        let (status, made) = door.ask("POST", SUBSCRIPTIONS, Some(&body)).await;
        (status.as_u16(), made)
    };
    let database = rusqlite::Connection::open(world.dir.path().join("state.db"));
    let database = database.expect("the file");
    let rows = || -> i64 {
        let count = "SELECT COUNT(*) FROM push_subscription";
        let count = database.query_row(count, [], |row| row.get(0));
        count.expect("a number")
    };
    let mut last = String::new();
    for number in 0..1000 {
        let (status, made) = subscribe(number).await;
        let expected = if number < 50 { 201 } else { 409 };
        assert_eq!(status, expected, "{number}: {made}");
        if let Some(id) = made["subscription"]["id"].as_str() {
            id.clone_into(&mut last);
        }
    }
    assert_eq!(rows(), 50);
    let path = format!("{SUBSCRIPTIONS}/{last}");
    let (status, _) = door.ask("DELETE", &path, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(subscribe(1000).await.0, 201);
    assert_eq!(subscribe(1001).await.0, 409);
    assert_eq!(rows(), 50);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_unavailable() {
    let mut world = World::new().await;
    let body = json!({ "login": "away", "password": "secret" });
    let (status, _) = world
        .door(&Config::default())
        .ask("POST", SESSIONS, Some(&body))
        .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    world.ports = super::Ports::default();
    let door = world.door(&Config::default());
    let (status, said) = door.ask("POST", SESSIONS, Some(&body)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let detail = said["errors"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("[mail_push.auth] imap"), "{detail}");
    let (status, _) = door.ask("GET", "/api/push/v1/vapid", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn what_is_anothers_is_not_found_and_a_token_moves_with_its_device() {
    let mut world = World::new().await;
    let mut joe = world.door(&Config::default());
    let mut ann = joe.clone();
    joe.log_in("11@3").await;
    ann.log_in("12@3").await;
    let (_, made) = joe
        .ask("POST", SUBSCRIPTIONS, Some(&phone("token-1")))
        .await;
    let path = format!(
        "{SUBSCRIPTIONS}/{}",
        made["subscription"]["id"].as_str().expect("an id")
    );
    let test = format!("{path}/test");
    for (method, path) in [
        ("GET", &path),
        ("PUT", &path),
        ("DELETE", &path),
        ("POST", &test),
    ] {
        let (status, _) = ann.ask(method, path, Some(&json!({}))).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method}");
    }
    assert!(world.sent.try_recv().is_err(), "another's device is tested");
    let (status, again) = joe
        .ask("POST", SUBSCRIPTIONS, Some(&phone("token-1")))
        .await;
    assert_eq!((status, &again), (StatusCode::OK, &made));
    let (status, _) = ann
        .ask("POST", SUBSCRIPTIONS, Some(&phone("token-1")))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let (_, list) = joe.ask("GET", SUBSCRIPTIONS, None).await;
    assert_eq!(list, json!({ "subscriptions": [] }));
    let change = json!({ "transport": "webhook" });
    let (_, list) = ann.ask("GET", SUBSCRIPTIONS, None).await;
    let id = list["subscriptions"][0]["id"].as_str().expect("an id");
    let path = format!("{SUBSCRIPTIONS}/{id}");
    let (status, said) = ann.ask("PUT", &path, Some(&change)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
    assert_eq!(said["errors"][0]["source"]["pointer"], "/transport");
    for (body, pointer) in [
        (phone("bad-token"), "/fcm/token"),
        (
            json!({ "client": "c", "transport": "apns", "apns": { "token": "ab" }, "topics": ["*"] }),
            "/transport",
        ),
    ] {
        let (status, said) = ann.ask("POST", SUBSCRIPTIONS, Some(&body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(said["errors"][0]["source"]["pointer"], pointer, "{said}");
    }
}

#[tokio::test]
async fn a_test_says_what_the_service_has_said_and_removes_what_is_gone() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    door.log_in("11@3").await;
    let (_, made) = door
        .ask("POST", SUBSCRIPTIONS, Some(&phone("token-1")))
        .await;
    let path = format!(
        "{SUBSCRIPTIONS}/{}",
        made["subscription"]["id"].as_str().expect("an id")
    );
    world.answer([
        said(PushVerdict::Refused, 400),
        said(PushVerdict::Gone, 410),
    ]);
    for (status, left) in [(400, 1), (410, 0)] {
        let (_, test) = door.ask("POST", &format!("{path}/test"), None).await;
        assert_eq!(
            test,
            json!({ "accepted": false, "answer": { "status": status, "reason": "said" } })
        );
        let (_, list) = door.ask("GET", SUBSCRIPTIONS, None).await;
        assert_eq!(list["subscriptions"].as_array().map(Vec::len), Some(left));
    }
}

#[tokio::test]
async fn a_person_tests_devices_so_often_in_a_minute_and_another_has_tests_of_his_own() {
    let world = World::new().await;
    let config = Config::parse("[mail_push]\ntests_per_minute = 2").expect("a configuration");
    let mut joe = world.door(&config);
    let mut ann = joe.clone();
    joe.log_in("11@3").await;
    ann.log_in("12@3").await;
    for (door, token) in [(&joe, "token-1"), (&ann, "token-2")] {
        let (_, made) = door.ask("POST", SUBSCRIPTIONS, Some(&phone(token))).await;
        let id = made["subscription"]["id"].as_str().expect("an id");
        let path = format!("{SUBSCRIPTIONS}/{id}/test");
        for _ in 0..2 {
            let (status, said) = door.ask("POST", &path, None).await;
            assert_eq!(status, StatusCode::OK, "{said}");
        }
        let (status, said) = door.ask("POST", &path, None).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{said}");
    }
}

#[tokio::test]
async fn a_token_of_a_person_asks_for_them_and_one_of_an_account_for_nobody() {
    let world = World::new().await;
    let mut door = world.door(&Config::default());
    let person = Person::new("3", "11", "11@3").expect("a person");
    let token = world
        .store
        .create_token("phone", Scope::Person(person))
        .await
        .expect("a token");
    door.token = Some(token.secret);
    let (status, _) = door
        .ask("POST", SUBSCRIPTIONS, Some(&phone("token-1")))
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, _) = door
        .ask("DELETE", "/api/push/v1/sessions/current", None)
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let account = Scope::Account("3".to_owned());
    let token = world
        .store
        .create_token("account", account)
        .await
        .expect("a token");
    door.token = Some(token.secret);
    let (status, _) = door.ask("GET", SUBSCRIPTIONS, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

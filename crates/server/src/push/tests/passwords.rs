//! How long a password that is stored stays.

use std::sync::Arc;

use dovecast_store::Passcrypt;
use serde_json::json;

use super::World;
use crate::config::Config;

const PATH: &str = "/api/push/v1/subscriptions";

#[tokio::test]
async fn a_password_that_a_session_needs_stays_when_the_last_subscription_goes() {
    let mut world = World::new().await;
    world.ports.passcrypt = Some(Arc::new(Passcrypt::of("passphrase")));
    let stored = "[mail_push.credstorage]\nenabled = true\nrdb = true\npasscrypt = 'passphrase'\n";
    let config = Config::parse(stored).expect("a configuration");
    let mut joe = world.door(&config);
    joe.log_in("11@3").await;
    let body =
        json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "a" }, "topics": ["*"] });
    let known = async || world.store.known_credentials().await.expect("passwords");
    let subscribe = async || {
        let (_, made) = joe.ask("POST", PATH, Some(&body)).await;
        let id = made["subscription"]["id"].as_str().expect("an id");
        format!("{PATH}/{id}")
    };
    let path = subscribe().await;
    joe.ask("DELETE", &path, None).await;
    assert_eq!(known().await.len(), 1, "the session needs it");
    let path = subscribe().await;
    joe.ask("DELETE", "/api/push/v1/sessions/current", None)
        .await;
    assert_eq!(known().await.len(), 1, "the subscription needs it");
    let mut again = joe.clone();
    again.log_in("11@3").await;
    again.ask("DELETE", &path, None).await;
    again
        .ask("DELETE", "/api/push/v1/sessions/current", None)
        .await;
    world.store.forget_unheard().await.expect("swept");
    assert!(known().await.is_empty(), "nothing needs it");
}

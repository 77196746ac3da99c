//! What passwords are sealed with, and how long they stay.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use dovecast_drivers::http::sockets::Sockets;
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_operations::Caller;
use dovecast_operations::push::{CredentialStorage, Vault};
use dovecast_store::{MailboxCredentials, Passcrypt};
use serde_json::json;

use super::World;
use crate::config::Config;
use crate::push::wiring::{Ports, acts};

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
    // It is some minutes old now.
    let aged = "UPDATE push_credential SET changed_ms = changed_ms - 120000";
    assert_eq!(world.change(aged).await, 1);
    world.store.forget_unheard().await.expect("swept");
    assert!(known().await.is_empty(), "nothing needs it");
}

fn joe() -> Person {
    Person::new("3", "11", "11@3").expect("a person")
}

fn credentials(password: &str) -> MailboxCredentials {
    MailboxCredentials {
        login: "11@3".to_owned(),
        password: password.to_owned(),
    }
}

fn vault(world: &World, storage: CredentialStorage) -> Vault {
    let passcrypt = Arc::new(Passcrypt::of("passphrase"));
    Vault::new(world.store.clone(), storage, passcrypt)
}

#[tokio::test]
async fn a_password_is_opened_by_whoever_has_the_same_file_of_a_passphrase() {
    let world = World::new().await;
    let dir = world.dir.path().display();
    let file = world.dir.path().join("passcrypt");
    let text = format!(
        "data_dir = '{dir}'\n[mail_push.credstorage]\nenabled = true\nrdb = true\n\
         passcrypt_file = '{}'\n",
        file.display()
    );
    let config = Config::parse(&text).expect("a configuration");
    let vault = |passphrase: &str| {
        fs::write(&file, passphrase).expect("a file");
        let ports = Ports::configured(&config, &Sockets::new(64)).expect("ports");
        let acts = acts(&config, &world.store, &ports).expect("acts");
        acts.vault().clone()
    };
    vault("of a file\n")
        .keep(&joe(), &credentials("geheim"))
        .await;
    let opened = vault("of a file").open(&joe()).await;
    assert_eq!(opened.expect("it is opened"), Some(credentials("geheim")));
    let refused = vault("another\n").open(&joe()).await;
    let refused = refused.expect_err("another passphrase opens it");
    assert!(!refused.to_string().contains("geheim"), "{refused}");
}

#[tokio::test]
async fn a_password_that_cannot_be_sealed_is_kept_nowhere() {
    for storage in [
        CredentialStorage::None,
        CredentialStorage::Memory,
        CredentialStorage::Store,
    ] {
        let world = World::new().await;
        let broken = Arc::new(Passcrypt::broken().expect("a key"));
        let vault = Vault::new(world.store.clone(), storage, broken);
        vault.keep(&joe(), &credentials("geheim")).await;
        assert!(!vault.has(&joe()).await.expect("an answer"), "{storage:?}");
        assert!(vault.known().await.expect("passwords").is_empty());
        let database = rusqlite::Connection::open(world.dir.path().join("state.db"));
        let rows = "SELECT COUNT(*) FROM push_credential";
        let database = database.expect("the file");
        let rows = database.query_row(rows, [], |row| row.get::<_, i64>(0));
        assert_eq!(rows.expect("a number"), 0, "{storage:?}");
    }
}

#[tokio::test]
async fn a_password_that_is_given_while_it_is_asked_who_needs_one_stays() {
    let world = World::new().await;
    let vault = vault(&world, CredentialStorage::None);
    let asked = Instant::now();
    // The session began after all sessions were read.
    vault.keep(&joe(), &credentials("geheim")).await;
    vault.forget_others(asked, |_| false);
    assert!(vault.has(&joe()).await.expect("an answer"));
    vault.forget_others(Instant::now(), |_| false);
    assert!(!vault.has(&joe()).await.expect("an answer"));
}

#[tokio::test]
async fn a_password_that_is_refused_hides_none_that_is_stored() {
    let world = World::new().await;
    let vault = vault(&world, CredentialStorage::Store);
    let opened = async || vault.open(&joe()).await.expect("it is opened");
    vault.keep(&joe(), &credentials("stored")).await;
    // The store is away for the second one, which is in memory then.
    world
        .change("ALTER TABLE push_credential RENAME TO push_away")
        .await;
    vault.keep(&joe(), &credentials("kept")).await;
    world
        .change("ALTER TABLE push_away RENAME TO push_credential")
        .await;
    assert_eq!(opened().await, Some(credentials("kept")));
    for left in [Some(credentials("stored")), None] {
        let known = vault.known().await.expect("passwords");
        let name = &known.get(&joe()).expect("a password").name;
        vault.refuse(&joe(), name).await.expect("refused");
        assert_eq!(opened().await, left);
    }
    assert!(vault.known().await.expect("passwords").is_empty());
}

#[tokio::test]
async fn a_password_in_memory_that_is_refused_is_opened_no_more() {
    let world = World::new().await;
    let vault = vault(&world, CredentialStorage::Memory);
    vault.keep(&joe(), &credentials("geheim")).await;
    let known = vault.known().await.expect("passwords");
    let name = &known.get(&joe()).expect("a password").name;
    vault.refuse(&joe(), name).await.expect("refused");
    assert_eq!(vault.open(&joe()).await.expect("an answer"), None);
}

#[tokio::test]
async fn a_password_in_the_memory_of_another_node_shows_by_what_that_hears() {
    let mut world = World::new().await;
    world.ports.passcrypt = Some(Arc::new(Passcrypt::of("passphrase")));
    let config = "[mail_push]\nallowed_clients = ['phone']\n\
        [mail_push.credstorage]\nenabled = true\npasscrypt = 'passphrase'\n\
        [mail_push.sources]\norder = ['imapidle']\n\
        [mail_push.imapidle]\nserver = 'imaps://h'\nsupports_permanent_listeners = true\n";
    let config = Config::parse(config).expect("a configuration");
    let mut there = world.door(&config);
    there.log_in("11@3").await;
    let body =
        json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "a" }, "topics": ["*"] });
    there.ask("POST", PATH, Some(&body)).await;
    there
        .ask("DELETE", "/api/push/v1/sessions/current", None)
        .await;
    let here = acts(&config, &world.store, &world.ports).expect("acts");
    let operator = Caller::host().operator().expect("an operator");
    for is_heard in [false, true] {
        let users = here.push_users(&operator).await.expect("users");
        let shown: Vec<_> = users
            .iter()
            .map(|one| (one.is_permanent, one.source))
            .collect();
        let expected = [(true, SourceKind::ImapIdle)];
        assert_eq!(shown, expected[..usize::from(is_heard)]);
        let decision = here.explain_listener(&operator, ("3", "11")).await;
        assert_eq!(decision.expect("a decision").outcome.is_ok(), is_heard);
        if !is_heard {
            let node = world.store.another_node();
            node.beat_push_node().await.expect("a node that lives");
            let leased = node.take_leases(&[joe()]).await;
            assert_eq!(leased.expect("a lease").len(), 1);
        }
    }
}

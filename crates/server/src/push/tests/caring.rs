//! Which mailboxes a node hears, as sessions and subscriptions come and go.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::Person;
use dovecast_mail_push::placement::{Care, Lease};
use dovecast_mail_push::push::Sending;
use serde_json::json;
use tokio::sync::Notify;

use super::World;
use crate::config::Config;
use crate::logs::Logs;
use crate::push::wiring::Pushing;

const PATH: &str = "/api/push/v1/subscriptions";

/// Who is heard.
#[derive(Default)]
struct Heard {
    users: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Care for Heard {
    fn begin(&self, lease: Lease) -> Sending<'_, ()> {
        Box::pin(async move {
            self.users
                .lock()
                .expect("a lock")
                .insert(lease.person.user.to_string());
            self.news.notify_one();
        })
    }

    fn end<'a>(&'a self, person: &'a Person) -> Sending<'a, ()> {
        Box::pin(async move {
            self.users.lock().expect("a lock").remove(&*person.user);
            self.news.notify_one();
        })
    }
}

impl Heard {
    async fn until(&self, users: &[&str]) {
        let wanted: BTreeSet<String> = users.iter().map(|&user| user.to_owned()).collect();
        let heard = async {
            while *self.users.lock().expect("a lock") != wanted {
                self.news.notified().await;
            }
        };
        let patience = std::time::Duration::from_mins(1);
        tokio::time::timeout(patience, heard)
            .await
            .expect("it is heard in time");
    }
}

#[tokio::test]
async fn a_mailbox_is_heard_while_a_session_or_an_allowed_client_is_there() {
    let mut world = World::new().await;
    let heard = Arc::<Heard>::default();
    world.ports.care = Some(Arc::clone(&heard) as Arc<dyn Care>);
    let config =
        Config::parse("[mail_push]\nallowed_clients = ['phone*']").expect("a configuration");
    let mut joe = world.door(&config);
    let mut ann = joe.clone();
    joe.log_in("11@3").await;
    ann.log_in("12@3").await;
    let subscribe = |client: &str, token: &str| json!({ "client": client, "transport": "fcm", "fcm": { "token": token }, "topics": ["*"] });
    joe.ask("POST", PATH, Some(&subscribe("phone1", "a"))).await;
    ann.ask("POST", PATH, Some(&subscribe("desk", "b"))).await;
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let log = log.expect("a log");
    let logs = Logs::of(&config, &log).expect("logs");
    let _pushing = Pushing::start(&config, &logs, &world.store, &world.ports);
    heard.until(&["11", "12"]).await;
    // Without sessions the allowed client alone counts.
    for door in [&ann, &joe] {
        door.ask("DELETE", "/api/push/v1/sessions/current", None)
            .await;
    }
    heard.until(&["11"]).await;
    assert_eq!(
        world
            .store
            .delete_client("3", "11", "phone1")
            .await
            .expect("deleted"),
        1
    );
    heard.until(&[]).await;
}

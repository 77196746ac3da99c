//! Which mailboxes a node hears, as sessions and subscriptions come and go.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::Person;
use dovecast_mail_push::placement::{Care, Ending, Lease, Wish};
use dovecast_mail_push::push::Sending;
use dovecast_operations::Caller;
use dovecast_store::{Clock, DatabasePlace, NODE_LIFE_MS, Store, StoreOptions};
use serde_json::json;
use tokio::sync::Notify;

use super::{Door, World};
use crate::config::Config;
use crate::logs::Logs;
use crate::push::caring::Caring;
use crate::push::counters::{Count, Counters};
use crate::push::wiring::{Pushing, acts};

const PATH: &str = "/api/push/v1/subscriptions";

/// Who is heard.
#[derive(Default)]
struct Heard {
    users: Mutex<BTreeSet<String>>,
    /// Users whose mailboxes are known no more.
    forgotten: Mutex<Vec<String>>,
    news: Notify,
}

impl Care for Heard {
    fn begin(&self, lease: Lease, _: Wish) -> Sending<'_, ()> {
        Box::pin(async move {
            self.users
                .lock()
                .expect("a lock")
                .insert(lease.person.user.to_string());
            self.news.notify_one();
        })
    }

    fn end<'a>(&'a self, person: &'a Person, ending: Ending) -> Sending<'a, ()> {
        Box::pin(async move {
            if ending == Ending::Over {
                let mut forgotten = self.forgotten.lock().expect("a lock");
                forgotten.push(person.user.to_string());
            }
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
    let _pushing = Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
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

/// As after a time without the store, in which all listeners of this node have ended.
#[tokio::test]
async fn what_is_leased_and_was_not_begun_is_heard_again() {
    let mut world = World::new().await;
    let heard = Arc::<Heard>::default();
    world.ports.care = Some(Arc::clone(&heard) as Arc<dyn Care>);
    let config = Config::parse("[mail_push]").expect("a configuration");
    let mut joe = world.door(&config);
    joe.log_in("11@3").await;
    world.store.beat_push_node().await.expect("a node");
    let person = Person::new("3", "11", "11@3").expect("a person");
    let leases = world.store.take_leases(&[person]).await.expect("leases");
    assert_eq!(leases.len(), 1);
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let log = log.expect("a log");
    let logs = Logs::of(&config, &log).expect("logs");
    let _pushing = Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
    heard.until(&["11"]).await;
}

/// Listeners that never begin.
struct Hanging(Notify);

impl Care for Hanging {
    fn begin(&self, _: Lease, _: Wish) -> Sending<'_, ()> {
        self.0.notify_one();
        Box::pin(std::future::pending())
    }

    fn end<'a>(&'a self, _: &'a Person, _: Ending) -> Sending<'a, ()> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_node_lives_while_one_of_its_listeners_hangs() {
    let mut world = World::new().await;
    let place = DatabasePlace::Sqlite(world.dir.path().join("standing.db"));
    let mut options = StoreOptions::new(place);
    options.clock = Clock::standing(0);
    world.store = Store::open(&options).await.expect("a store");
    let hanging = Arc::new(Hanging(Notify::new()));
    world.ports.care = Some(Arc::clone(&hanging) as Arc<dyn Care>);
    let config = Config::parse("[mail_push]").expect("a configuration");
    let mut joe = world.door(&config);
    joe.log_in("11@3").await;
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let logs = Logs::of(&config, &log.expect("a log")).expect("logs");
    let _pushing = Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
    hanging.0.notified().await;
    let lease = Lease {
        person: Person::new("3", "11", "11@3").expect("a person"),
        fence: 1,
    };
    let is_held = async || world.store.holds_lease(&lease).await.expect("an answer");
    // Without a beat the node would be dead now, and is alive again with the next one.
    options.clock.pass(NODE_LIFE_MS + 1);
    let lives = async {
        while !is_held().await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let patience = std::time::Duration::from_mins(1);
    tokio::time::timeout(patience, lives)
        .await
        .expect("the node says that it lives");
}

#[tokio::test]
async fn others_take_the_mailboxes_of_a_node_whose_round_hangs() {
    let mut world = World::new().await;
    let place = DatabasePlace::Sqlite(world.dir.path().join("standing.db"));
    let mut options = StoreOptions::new(place);
    options.clock = Clock::standing(0);
    world.store = Store::open(&options).await.expect("a store");
    let config = Config::parse("[mail_push]").expect("a configuration");
    world.door(&config).log_in("11@3").await;
    let acts = acts(&config, &world.store, &world.ports).expect("acts");
    let hanging = Arc::new(Hanging(Notify::new()));
    let counters = Arc::<Counters>::default();
    let caring = Caring {
        store: world.store.clone(),
        care: Arc::clone(&hanging) as Arc<dyn Care>,
        rules: acts.rules().clone(),
        vault: acts.vault().clone(),
        counters: Arc::clone(&counters),
        round_limit: std::time::Duration::from_millis(100),
    };
    let node = tokio::spawn(async move { caring.run().await });
    let lost = async {
        while counters.get(Count::NodeLost) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let patience = std::time::Duration::from_mins(1);
    tokio::time::timeout(patience, lost)
        .await
        .expect("the life ends");
    options.clock.pass(NODE_LIFE_MS + 1);
    let other = world.store.another_node();
    let person = Person::new("3", "11", "11@3").expect("a person");
    other.beat_push_node().await.expect("a node");
    let taken = other.take_leases(&[person]).await.expect("leases");
    assert_eq!(taken.len(), 1);
    node.abort();
}

#[tokio::test]
async fn a_node_that_cannot_say_that_it_lives_ends_all_listeners_and_begins_them_again() {
    let mut world = World::new().await;
    let heard = Arc::<Heard>::default();
    world.ports.care = Some(Arc::clone(&heard) as Arc<dyn Care>);
    let config = Config::parse("[mail_push]").expect("a configuration");
    world.door(&config).log_in("11@3").await;
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let logs = Logs::of(&config, &log.expect("a log")).expect("logs");
    let pushing = Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
    heard.until(&["11"]).await;
    world
        .change("ALTER TABLE push_node RENAME TO push_away")
        .await;
    heard.until(&[]).await;
    assert_eq!(pushing.counters().get(Count::NodeLost), 1);
    world
        .change("ALTER TABLE push_away RENAME TO push_node")
        .await;
    heard.until(&["11"]).await;
}

const IDLE: &str = "[mail_push]\nallowed_clients = ['phone*']\n[mail_push.sources]\n\
    order = ['imapidle']\n[mail_push.imapidle]\nserver = 'imaps://127.0.0.1:1'\n";

/// Who is heard while joe has a session and a subscription of this client, and then without the
/// session: ann's session, which needs no round of its own to be seen, says that it is over.
async fn check(more: &str, client: &str, with_session: &[&str], without: &[&str]) {
    let mut world = World::new().await;
    let heard = Arc::<Heard>::default();
    world.ports.care = Some(Arc::clone(&heard) as Arc<dyn Care>);
    let config = Config::parse(&format!("{IDLE}{more}")).expect("a configuration");
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let log = log.expect("a log");
    let logs = Logs::of(&config, &log).expect("logs");
    let pushing = Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
    let mut joe = Door {
        router: Pushing::router_of(Some(&pushing)),
        token: None,
    };
    let mut ann = joe.clone();
    joe.log_in("11@3").await;
    let body =
        json!({ "client": client, "transport": "fcm", "fcm": { "token": "a" }, "topics": ["*"] });
    joe.ask("POST", PATH, Some(&body)).await;
    heard.until(with_session).await;
    joe.ask("DELETE", "/api/push/v1/sessions/current", None)
        .await;
    ann.log_in("12@3").await;
    let expected: Vec<&str> = without.iter().copied().chain(["12"]).collect();
    heard.until(&expected).await;
}

#[tokio::test]
async fn without_a_session_a_mailbox_is_heard_where_a_password_a_source_and_a_client_are_there() {
    let permanent = "supports_permanent_listeners = true\n";
    let memory = "[mail_push.credstorage]\nenabled = true\npasscrypt = 'a'\n";
    let stored = &format!("{memory}rdb = true\n");
    for (more, client, without) in [
        (&format!("{permanent}{memory}"), "phone", &["11"][..]),
        (&format!("{permanent}{stored}"), "phone", &["11"]),
        // No client that is allowed, no source, no credentials.
        (&format!("{permanent}{stored}"), "desk", &[]),
        (stored, "phone", &[]),
        (&permanent.to_owned(), "phone", &[]),
    ] {
        check(more, client, &["11"], without).await;
    }
}

#[tokio::test]
async fn what_is_known_of_a_mailbox_stays_when_its_password_is_refused() {
    let mut world = World::new().await;
    let heard = Arc::<Heard>::default();
    world.ports.care = Some(Arc::clone(&heard) as Arc<dyn Care>);
    let config = format!(
        "{IDLE}supports_permanent_listeners = true\n\
         [mail_push.credstorage]\nenabled = true\npasscrypt = 'a'\nrdb = true\n"
    );
    let config = Config::parse(&config).expect("a configuration");
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let logs = Logs::of(&config, &log.expect("a log")).expect("logs");
    let pushing = Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
    let mut joe = Door {
        router: Pushing::router_of(Some(&pushing)),
        token: None,
    };
    joe.log_in("11@3").await;
    let body =
        json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "a" }, "topics": ["*"] });
    joe.ask("POST", PATH, Some(&body)).await;
    heard.until(&["11"]).await;
    let known = world.store.known_credentials().await.expect("passwords");
    let person = Person::new("3", "11", "11@3").expect("a person");
    let refused = world.store.refuse_credentials(&person, &known[0].name);
    refused.await.expect("refused");
    heard.until(&[]).await;
    // Another password brings what came meanwhile.
    joe.log_in("11@3").await;
    heard.until(&["11"]).await;
    let forgotten = heard.forgotten.lock().expect("a lock");
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[tokio::test]
async fn without_a_source_nobody_is_heard() {
    let config =
        "[mail_push]\nallowed_clients = ['phone']\n[mail_push.sources]\norder = ['mailnotify']\n";
    let world = World::new().await;
    let config = Config::parse(config).expect("a configuration");
    let acts = acts(&config, &world.store, &world.ports).expect("acts");
    let person = Person::new("3", "11", "11@3").expect("a person");
    let mut door = world.door(&config);
    door.log_in("11@3").await;
    let body =
        json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "a" }, "topics": ["*"] });
    for expected in [
        "permanent listener: denied: no subscription for new mail",
        "permanent listener: denied: no source supports permanent listeners",
    ] {
        let decision = acts.listener_decision(&person).await.expect("a decision");
        assert_eq!(decision.steps.last().map(String::as_str), Some(expected));
        door.ask("POST", "/api/push/v1/subscriptions", Some(&body))
            .await;
    }
    assert!(acts.rules().of_session(true).is_none());
    // The session hears nothing either.
    let operator = Caller::host().operator().expect("an operator");
    let users = acts.push_users(&operator).await.expect("users");
    assert!(users.is_empty(), "{users:?}");
}

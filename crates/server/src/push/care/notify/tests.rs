//! Datagrams: whom they call, however listeners begin and end, and whom they ring.

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::sources::WhoseName;
use dovecast_operations::push::CredentialStorage;
use dovecast_store::{Clock, DatabasePlace, Passcrypt, StoreOptions};
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::logs::Logs;
use crate::push::care::Listeners;
use crate::push::tests::World;

fn config(world: &World) -> Config {
    let config = "[mail_push.sources]\norder = ['mailnotify']\n\
        [mail_push.mailnotify]\nlisten = '127.0.0.1:0'\n";
    let mut config = Config::parse(config).expect("a configuration");
    config.data_dir = world.dir.path().to_owned();
    config
}

fn listeners(world: &World) -> Listeners {
    let config = config(world);
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let logs = Logs::of(&config, &log.expect("a log")).expect("logs");
    let passcrypt = Arc::new(Passcrypt::of("passphrase"));
    let vault = Vault::new(world.store.clone(), CredentialStorage::Memory, passcrypt);
    let listeners = Listeners::start(
        &config,
        &logs,
        (&world.store, &vault),
        (&Arc::default(), &Arc::default()),
    );
    listeners.expect("listeners")
}

fn person(user: &str) -> Person {
    Person::new("3", user, &format!("{user}@3")).expect("a person")
}

#[tokio::test]
async fn all_persons_are_read_every_few_seconds_whatever_begins_and_ends() {
    let world = World::new().await;
    let (store, [joe, ann]) = (&world.store, ["11", "12"].map(person));
    store
        .create_session(&joe, 3_600_000)
        .await
        .expect("a session");
    let listeners = listeners(&world);
    let ringing = &listeners.parts.ringing;
    let find = async |name: &str| ringing.names().await.find(name);
    let before = store.statements();
    assert_eq!(find("11@3").await, WhoseName::One(joe.clone()));
    let once = store.statements() - before;
    for _ in 0..20 {
        ringing.add(&joe, None);
        assert!(ringing.is_rung(&joe));
        assert_eq!(find("11@3").await, WhoseName::One(joe.clone()));
        ringing.remove(&joe);
        assert!(!ringing.is_rung(&joe));
        assert_eq!(find("11@3").await, WhoseName::One(joe.clone()));
    }
    let sent = store.statements() - before;
    assert!(sent < 20 * once, "{sent} statements, {once} at a time");
    // Who begins before all persons are read again is called as well.
    assert_eq!(find("12@3").await, WhoseName::Nobody);
    ringing.add(&ann, None);
    assert_eq!(find("12@3").await, WhoseName::One(ann));
}

#[tokio::test]
async fn names_are_used_for_a_while_when_the_store_is_away() {
    let world = World::new().await;
    let joe = person("11");
    let made = world.store.create_session(&joe, 3_600_000).await;
    made.expect("a session");
    let listeners = listeners(&world);
    let ringing = &listeners.parts.ringing;
    let find = async |name: &str| ringing.names().await.find(name);
    assert_eq!(find("11@3").await, WhoseName::One(joe.clone()));
    let file = world.dir.path().join("state.db");
    let database = rusqlite::Connection::open(file).expect("the file");
    let away = "ALTER TABLE push_session RENAME TO push_away";
    database.execute_batch(away).expect("a change");
    ringing.persons().asked = None;
    assert_eq!(find("11@3").await, WhoseName::One(joe));
    {
        let mut persons = ringing.persons();
        persons.asked = None;
        persons.read = Instant::now().checked_sub(LONGEST_USE);
    }
    assert_eq!(find("11@3").await, WhoseName::Nobody);
}

#[tokio::test]
async fn a_datagram_rings_whoever_is_leased_here_and_nobody_else() {
    let mut world = World::new().await;
    let file = world.dir.path().join("standing.db");
    let mut options = StoreOptions::new(DatabasePlace::Sqlite(file.clone()));
    options.clock = Clock::standing(0);
    world.store = Store::open(&options).await.expect("a store");
    let mut door = world.door(&config(&world));
    door.log_in("11@3").await;
    let body =
        json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "a" }, "topics": ["*"] });
    let path = "/api/push/v1/subscriptions";
    door.ask("POST", path, Some(&body)).await;
    let joe = person("11");
    world.store.beat_push_node().await.expect("a node");
    let leases = world.store.take_leases(std::slice::from_ref(&joe)).await;
    let lease = leases.expect("leases").pop().expect("a lease");
    let listeners = listeners(&world);
    let database = rusqlite::Connection::open(file).expect("the file");
    let rung = async |mailbox: &str| -> i64 {
        listeners
            .parts
            .ringing
            .ring
            .ring(&joe, Some(mailbox), None)
            .await;
        let waiting = "SELECT COUNT(*) FROM push_waiting";
        let waiting = database.query_row(waiting, [], |row| row.get(0));
        waiting.expect("a number")
    };
    // Somebody else has leased joe meanwhile.
    let mut old = lease.clone();
    old.fence -= 1;
    listeners.parts.sink.has_leased(old);
    assert_eq!(rung("Work").await, 0);
    listeners.parts.sink.has_leased(lease);
    assert_eq!(rung("Work").await, 1);
}

//! Datagrams: whom they call, however listeners begin and end, and whom they ring.

use std::collections::BTreeSet;

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::sources::WhoseName;
use dovecast_operations::push::{CredentialStorage, Vault};
use dovecast_store::{Clock, DatabasePlace, MailboxCredentials, Passcrypt, Store, StoreOptions};
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::logs::Logs;
use crate::push::care::Listeners;
use crate::push::tests::{World, change};

fn config(world: &World) -> Config {
    let config = "[mail_push.sources]\norder = ['mailnotify']\n\
        [mail_push.mailnotify]\nlisten = '127.0.0.1:0'\n";
    let mut config = Config::parse(config).expect("a configuration");
    config.data_dir = world.dir.path().to_owned();
    config
}

fn listeners(world: &World) -> Listeners {
    listeners_of(world, &config(world))
}

fn listeners_of(world: &World, config: &Config) -> Listeners {
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let logs = Logs::of(config, &log.expect("a log")).expect("logs");
    let passcrypt = Arc::new(Passcrypt::of("passphrase"));
    let vault = Vault::new(world.store.clone(), CredentialStorage::Memory, passcrypt);
    let listeners = Listeners::start(
        config,
        &logs,
        (&world.store, &vault),
        (&Arc::default(), &Arc::default()),
    );
    listeners.expect("listeners")
}

fn person(user: &str) -> Person {
    Person::new("3", user, &format!("{user}@3")).expect("a person")
}

/// A world whose leases last for ever, and in which joe has a device.
async fn standing() -> World {
    let mut world = World::new().await;
    let file = world.dir.path().join("standing.db");
    let mut options = StoreOptions::new(DatabasePlace::Sqlite(file));
    options.clock = Clock::standing(0);
    world.store = Store::open(&options).await.expect("a store");
    let mut door = world.door(&config(&world));
    door.log_in("11@3").await;
    let body =
        json!({ "client": "phone", "transport": "fcm", "fcm": { "token": "a" }, "topics": ["*"] });
    let path = "/api/push/v1/subscriptions";
    door.ask("POST", path, Some(&body)).await;
    world
}

/// Leases persons for these listeners.
async fn lease(world: &World, listeners: &Listeners, persons: &[Person]) {
    world.store.beat_push_node().await.expect("a node");
    let leases = world.store.take_leases(persons).await.expect("leases");
    assert_eq!(leases.len(), persons.len());
    for lease in leases {
        listeners
            .parts
            .sink
            .has_leased(lease, SourceKind::MailNotify);
    }
}

/// Waits until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waits = tokio::time::timeout(Duration::from_mins(1), waits).await;
    waits.expect("it is so in time");
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
    let away = "ALTER TABLE push_session RENAME TO push_away";
    world.change(away).await;
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
async fn a_store_that_hangs_holds_up_no_datagrams() {
    let world = World::new().await;
    let joe = person("11");
    let made = world.store.create_session(&joe, 3_600_000).await;
    made.expect("a session");
    let listeners = listeners(&world);
    let names = listeners.parts.ringing.names().await;
    // The same, where nobody ever hears what the store says.
    let hanging = Ringing {
        ring: Arc::clone(&listeners.parts.ringing.ring),
        use_full_email_address: false,
        persons: Mutex::default(),
        wanted: Notify::new(),
        answered: Notify::new(),
        looks: Waiting::new(1),
        tells: Waiting::new(1),
    };
    {
        let mut persons = hanging.persons();
        persons.names = Some(names);
        persons.read = Some(Instant::now());
    }
    tokio::time::pause();
    for waits in [NAMES_LIMIT, Duration::ZERO, Duration::ZERO] {
        let begun = tokio::time::Instant::now();
        let whose = hanging.names().await.find("11@3");
        assert_eq!(whose, WhoseName::One(joe.clone()));
        assert_eq!(begun.elapsed().as_secs(), waits.as_secs());
    }
}

#[tokio::test]
async fn a_datagram_rings_whoever_is_leased_here_and_nobody_else() {
    let world = standing().await;
    let file = world.dir.path().join("standing.db");
    let joe = person("11");
    world.store.beat_push_node().await.expect("a node");
    let leases = world.store.take_leases(std::slice::from_ref(&joe)).await;
    let lease = leases.expect("leases").pop().expect("a lease");
    let listeners = listeners(&world);
    let database = rusqlite::Connection::open(file).expect("the file");
    let rung = async |mailbox: &str| -> i64 {
        let ring = &listeners.parts.ringing.ring;
        let mailboxes = BTreeSet::from([mailbox.to_owned()]);
        ring.tell_where_heard(&joe, &mailboxes).await;
        let waiting = "SELECT COUNT(*) FROM push_waiting";
        let waiting = database.query_row(waiting, [], |row| row.get(0));
        waiting.expect("a number")
    };
    // Somebody else has leased joe meanwhile.
    let mut old = lease.clone();
    old.fence -= 1;
    listeners.parts.sink.has_leased(old, SourceKind::MailNotify);
    assert_eq!(rung("Work").await, 0);
    listeners
        .parts
        .sink
        .has_leased(lease, SourceKind::MailNotify);
    assert_eq!(rung("Work").await, 1);
}

#[tokio::test]
async fn a_mail_server_that_hangs_keeps_nobody_from_being_told_who_needs_none() {
    let world = standing().await;
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("an address").port();
    let more = format!(
        "[mail_push.sources]\norder = ['mailnotify']\n[mail_push.mailnotify]\nlisten = '127.0.0.1:0'\n\
         [mail_push.imapidle]\nserver = 'imap://127.0.0.1:{port}'\nimap_insecure = true\n"
    );
    let mut config = Config::parse(&more).expect("a configuration");
    config.data_dir = world.dir.path().to_owned();
    let listeners = listeners_of(&world, &config);
    let ringing = &listeners.parts.ringing;
    let joe = person("11");
    // More than are looked at, so that some wait.
    let others: Vec<Person> = (0..=LOOKED_INTO_AT_ONCE)
        .map(|number| person(&format!("1{number:03}")))
        .collect();
    let all: Vec<Person> = others.iter().chain([&joe]).cloned().collect();
    lease(&world, &listeners, &all).await;
    for other in &others {
        let credentials = MailboxCredentials {
            login: other.login.to_string(),
            password: "geheim".to_owned(),
        };
        listeners.parts.vault.keep(other, &credentials).await;
        ringing.add(other, Some("a password".into()));
        ringing.ring(other.clone(), "INBOX".to_owned());
    }
    ringing.add(&joe, None);
    ringing.ring(joe.clone(), "INBOX".to_owned());
    let waiting = async || world.store.waiting_pushes().await.expect("a number");
    until(async || waiting().await == 1).await;
    assert_eq!(ringing.ring.counters.get(Count::DatagramDropped), 0);
    drop(server);
}

#[tokio::test]
async fn a_datagram_waits_for_a_store_that_is_away() {
    let world = standing().await;
    let listeners = listeners(&world);
    let (ringing, joe) = (&listeners.parts.ringing, person("11"));
    lease(&world, &listeners, std::slice::from_ref(&joe)).await;
    let file = world.dir.path().join("standing.db");
    change(file.clone(), "ALTER TABLE push_lease RENAME TO push_away").await;
    ringing.add(&joe, None);
    let before = world.store.statements();
    ringing.ring(joe.clone(), "Work".to_owned());
    until(async || world.store.statements() > before + 1).await;
    change(file, "ALTER TABLE push_away RENAME TO push_lease").await;
    let waiting = async || world.store.waiting_pushes().await.expect("a number");
    until(async || waiting().await == 1).await;
}

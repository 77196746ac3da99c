//! Datagrams: whom they call, however listeners begin and end, and whom they ring.

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::sources::WhoseName;
use dovecast_operations::push::CredentialStorage;
use dovecast_store::Passcrypt;

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

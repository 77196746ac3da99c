//! What was set at a mail server is taken away in the end, whatever was away meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::Person;
use dovecast_testkit::endpoint::{HookEndpoint, Reply};

use super::World;
use crate::config::Config;
use crate::logs::Logs;
use crate::push::counters::Count;
use crate::push::wiring::Pushing;

/// How long something that has to come is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A doveadm that is away for the first request, and knows joe's entry until it is taken away.
fn doveadm() -> HookEndpoint {
    let (was_asked, is_set) = (AtomicBool::new(false), AtomicBool::new(true));
    let answering = HookEndpoint::answering(move |hook| {
        if !was_asked.swap(true, Ordering::SeqCst) {
            return Reply {
                status: 503,
                body: String::new(),
            };
        }
        if hook.body.contains("mailboxMetadataUnset") {
            is_set.store(false, Ordering::SeqCst);
        }
        let value = if is_set.load(Ordering::SeqCst) {
            r#"{"value":"user=11@3"}"#
        } else {
            ""
        };
        Reply {
            status: 200,
            body: format!(r#"[["doveadmResponse",[{value}],"dovecast"]]"#),
        }
    });
    answering.expect("an endpoint")
}

#[tokio::test]
async fn metadata_of_who_left_while_no_server_ran_is_taken_away_by_the_next_one() {
    let world = World::new().await;
    let store = &world.store;
    let doveadm = doveadm();
    let key = world.dir.path().join("api.key");
    fs::write(&key, "key").expect("written");
    let config = format!(
        "[mail_push.sources]\norder = ['dovecot']\n[mail_push.dovecot]\ndoveadm_url = '{}'\n\
         doveadm_api_key_file = 'file:{}'\n",
        doveadm.url().replace("/hook", "/doveadm/v1"),
        key.display()
    );
    let config = Config::parse(&config).expect("a configuration");
    // A server has set the entry, and was killed; then the last subscription went.
    store.beat_push_node().await.expect("a node");
    let joe = Person::new("3", "11", "11@3").expect("a person");
    let leases = store.take_leases(std::slice::from_ref(&joe)).await;
    let lease = leases.expect("leases").pop().expect("a lease");
    assert!(store.put_metadata(&lease).await.expect("an answer"));
    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let logs = Logs::of(&config, &log.expect("a log")).expect("logs");
    let pushing = Pushing::start(&config, &logs, store, &world.ports).expect("mail push");
    let left = async {
        while !(store.persons_with_metadata().await.expect("persons")).is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left)
        .await
        .expect("it is taken away");
    let asked = doveadm.hooks();
    let is_unset = |body: &str| body.contains("mailboxMetadataUnset") && body.contains("11@3");
    assert!(asked.iter().any(|hook| is_unset(&hook.body)));
    assert_eq!(pushing.counters().get(Count::NotTakenAway), 1);
}

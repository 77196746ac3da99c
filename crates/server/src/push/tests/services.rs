//! From an event in the log to browsers and phones by their services, which are stand-ins: a mail
//! rings everywhere, and stops when it was read.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use dovecast_drivers::http::sockets::Sockets;
use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_log::{Log, NewRecord};
use dovecast_testkit::push::{
    APNS_KEY_ID, APNS_TEAM_ID, APNS_TOPIC, ApnsService, FcmService, WebPushService,
};
use serde_json::{Value, json};

use super::{Passwords, World};
use crate::config::Config;
use crate::logs::Logs;
use crate::push::counters::Count;
use crate::push::wiring::{Ports, Pushing};

/// How long something that has to come is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// A device token of APNs.
const DEVICE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

struct Services {
    webpush: WebPushService,
    fcm: FcmService,
    apns: ApnsService,
}

impl Services {
    fn start() -> Self {
        let services = Self {
            webpush: WebPushService::start().expect("a service"),
            fcm: FcmService::start().expect("a service"),
            apns: ApnsService::start().expect("a service"),
        };
        services.fcm.register("phone", true);
        services.apns.register(DEVICE, true);
        services
    }

    /// The configuration by which they are reached.
    fn config(&self, world: &World) -> Config {
        let dir = world.dir.path().display();
        let write = |name: &str, text: &str| {
            fs::write(world.dir.path().join(name), text).expect("written");
        };
        write("account.json", &self.fcm.service_account());
        write("key.p8", self.apns.key());
        let (fcm, apns) = (self.fcm.endpoint(), self.apns.endpoint());
        let text = format!(
            "data_dir = '{dir}'\n\
             [dispatch]\nallowed_networks = ['127.0.0.0/8']\n\
             [mail_push.webpush]\nsubject = 'mailto:postmaster@example.org'\n\
             [mail_push.fcm]\nservice_account_file = '{dir}/account.json'\nendpoint = '{fcm}'\n\
             [mail_push.apns]\nkey_file = '{dir}/key.p8'\nkey_id = '{APNS_KEY_ID}'\n\
             team_id = '{APNS_TEAM_ID}'\ntopic = '{APNS_TOPIC}'\nendpoint = '{apns}'\n"
        );
        Config::parse(&text).expect("a configuration")
    }
}

fn event(uid: u32, kind: &str, more: &str) -> NewRecord {
    let value = format!(
        r#"{{"user":"11@3","mailbox":"INBOX","event":"{kind}","uidvalidity":7,"uid":{uid}{more}}}"#
    );
    NewRecord {
        topic: "dovecot".into(),
        key: Some(b"11@3".to_vec().into()),
        headers: Vec::new(),
        value: value.into_bytes().into(),
        timestamp_ms: dovecast_log::now_ms(),
        id: None,
    }
}

async fn until(pushing: &Pushing, what: Count, least: u64) {
    let counted = async {
        while pushing.counters().get(what) < least {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, counted).await;
    waited.expect("it is counted in time");
}

#[tokio::test]
async fn a_mail_rings_at_each_service_and_is_closed_at_each_when_it_was_read() {
    let services = Services::start();
    let mut world = World::new().await;
    let config = services.config(&world);
    let ports = Ports::configured(&config, &Sockets::new(64)).expect("services");
    world.ports = Ports {
        log_in: Some(Arc::new(Passwords)),
        ..ports
    };
    let mut door = world.door(&config);
    door.log_in("11@3").await;
    let (_, vapid) = door.ask("GET", "/api/push/v1/vapid", None).await;
    let key = vapid["public_key"].as_str().expect("a key");
    let browser = services.webpush.subscribe(key).expect("a browser");
    let keys = json!({"p256dh": browser.p256dh, "auth": browser.auth});
    for (transport, address) in [
        (
            "webpush",
            json!({"endpoint": browser.endpoint, "keys": keys}),
        ),
        ("fcm", json!({"token": "phone"})),
        ("apns", json!({"token": DEVICE})),
    ] {
        let body = json!({
            "client": transport, "transport": transport, "topics": ["mail:new", "mail:flags"], transport: address,
        });
        let asked = door.ask("POST", "/api/push/v1/subscriptions", Some(&body));
        let (_, made) = asked.await;
        let id = made["subscription"]["id"].as_str();
        let id = id.unwrap_or_else(|| panic!("{made}"));
        let path = format!("/api/push/v1/subscriptions/{id}/test");
        let (_, answer) = door.ask("POST", &path, None).await;
        assert_eq!(answer["accepted"], true, "{transport}: {answer}");
    }

    let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
    let log = log.expect("a log");
    let logs = Logs::of(&config, &log).expect("logs");
    let pushing = Pushing::start(&config, &logs, &world.store, &world.ports).expect("mail push");
    let mail = event(
        2,
        "MessageNew",
        r#","from":"Alice <a@b.example>","subject":"s","unseen":1"#,
    );
    log.append(vec![mail]).await.expect("appended");
    until(&pushing, Count::Accepted, 3).await;
    let read = event(2, "MessageRead", r#","unseen":0"#);
    log.append(vec![read]).await.expect("appended");
    until(&pushing, Count::Accepted, 6).await;
    let flagged = |uid| event(uid, "FlagsSet", r#","flags":["\\Flagged"]"#);
    let appended = log.append(vec![flagged(2), flagged(5)]);
    appended.await.expect("appended");
    until(&pushing, Count::Accepted, 9).await;

    let webpush = services.webpush.taken();
    let [_, shown, closed, gathered] = &*webpush else {
        panic!("{webpush:?}");
    };
    let changes = gathered.message["changes"].as_array().expect("changes");
    let uids: Vec<&Value> = changes.iter().map(|one| &one["message"]["uid"]).collect();
    assert_eq!(uids, [&json!(2), &json!(5)]);
    // A push of its own: what is shown for a mail is not replaced by it.
    assert!(gathered.topic.is_some() && gathered.topic != shown.topic);
    let notification = &shown.message["notification"];
    assert_eq!(
        (&notification["title"], &notification["body"]),
        (&json!("Alice"), &json!("s"))
    );
    let tag = shown.topic.clone().expect("a topic");
    assert_eq!(closed.topic.as_deref(), Some(&*tag));
    let close = json!({"topic": "mail:close", "id": tag, "close": true, "badge": 0});
    assert_eq!(closed.message, close);

    let fcm = services.fcm.taken();
    let [_, shown, closed, _] = &*fcm else {
        panic!("{fcm:?}");
    };
    assert_eq!(shown["android"]["collapse_key"], tag);
    assert_eq!(closed["android"]["collapse_key"], tag);
    let message: Value =
        serde_json::from_str(closed["data"]["message"].as_str().expect("a text")).expect("JSON");
    assert_eq!(message, close);

    let apns = services.apns.taken();
    let [_, shown, closed, _] = &*apns else {
        panic!("{apns:?}");
    };
    assert_eq!(shown.collapse_id.as_deref(), Some(&*tag));
    assert_eq!(closed.collapse_id.as_deref(), Some(&*tag));
    let expected = json!({
        "aps": {"content-available": 1}, "topic": "mail:close", "id": tag, "badge": 0,
    });
    assert_eq!(closed.payload, expected);
    assert_eq!(services.apns.connections(), 1);
}

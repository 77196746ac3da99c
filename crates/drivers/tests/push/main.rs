//! Pushes to stand-ins for services over real sockets: what arrives, and what each answer means for
//! the push and its device.

mod apns;
mod fcm;
mod webhook;
mod webpush;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::push::{
    ApnsOptions, FcmOptions, PushOptions, PushServices, ServiceKey, WebPushOptions,
};
use dovecast_mail_push::subscription::Urgency;
use dovecast_mail_push::{Person, Push, Tag, Topic, Transport, TransportKind};
use serde_json::{Value, json};

/// Template of the URL that a click leads to, with all that it knows.
const NAVIGATE: &str =
    "https://mail.example.org/{{ person.context }}/{{ person.user }}#{{ message.uid }}";

/// Loopback is allowed: that is where the stand-ins are.
fn options(directory: &Path) -> PushOptions {
    PushOptions {
        guard: Guard::new(&["127.0.0.0/8".parse().expect("a network")]),
        sockets: Sockets::default(),
        timeout: Duration::from_secs(20),
        webpush: WebPushOptions {
            key: directory.join("vapid.key").into(),
            subject: Some("mailto:postmaster@example.org".to_owned()),
            navigate: Some(NAVIGATE.to_owned()),
        },
        fcm: None,
        apns: None,
    }
}

fn services(options: &PushOptions) -> PushServices {
    PushServices::configured(options).expect("services")
}

fn transport(services: &PushServices, kind: TransportKind) -> Arc<dyn Transport> {
    services.transport(kind).expect("a transport")
}

fn push(topic: Topic, message: Value) -> Push {
    let person = Person::new("3", "11", "11@3").expect("a person");
    Push {
        tag: Tag::of_mail(&person, "INBOX", 7, 113),
        person,
        topic,
        message,
        urgency: Urgency::High,
        badge: Some(4),
        time_to_live: Duration::from_hours(1),
        time_ms: 1_700_000_000_123,
    }
}

fn new_mail() -> Push {
    push(
        Topic::MailNew,
        json!({
            "person": {"context": "3", "user": "11"},
            "mailbox": "INBOX",
            "uidvalidity": 7,
            "uid": 113,
            "from": "Alice <alice@example.org>",
            "subject": "Lunch?",
            "unseen": 4,
        }),
    )
}

/// Makes a setting one that cannot be used.
type Change<'a> = &'a dyn Fn(&mut PushOptions);

#[test]
fn a_setting_that_cannot_be_used_is_named_and_its_secret_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("secret.json");
    std::fs::write(&file, r#"{"private_key":"geheim"}"#).expect("written");
    let apns = |key_id: &str, topic: &str| ApnsOptions {
        endpoint: Some("https://127.0.0.1:1".to_owned()),
        ca_file: Some(file.clone()),
        key: directory.path().join("vapid.key").into(),
        key_id: key_id.to_owned(),
        team_id: "TEAM567890".to_owned(),
        topic: topic.to_owned(),
    };
    let cases: [(&str, Change<'_>); 6] = [
        ("mail_push.webpush.subject", &|options| {
            options.webpush.subject = Some("postmaster".to_owned());
        }),
        ("mail_push.webpush.navigate", &|options| {
            options.webpush.navigate = Some("{{ message".to_owned());
        }),
        ("mail_push.fcm.service_account_file", &|options| {
            options.fcm = Some(FcmOptions {
                service_account: file.clone().into(),
                endpoint: None,
                token_endpoint: None,
            });
        }),
        ("mail_push.apns.key_id", &|options| {
            options.apns = Some(apns("short", "org.example.mail"));
        }),
        ("mail_push.apns.topic", &|options| {
            options.apns = Some(apns("ABCDE12345", "org example"));
        }),
        ("mail_push.apns.ca_file", &|options| {
            options.apns = Some(apns("ABCDE12345", "org.example.mail"));
        }),
    ];
    // The key of Web Push stands for that of a team: it is of the same kind.
    services(&options(directory.path()));
    for (setting, change) in cases {
        let mut options = options(directory.path());
        change(&mut options);
        // What needs no file is refused without one, too.
        let is_of_a_file = setting.ends_with("_file");
        assert_eq!(
            PushServices::check(&options).is_ok(),
            is_of_a_file,
            "{setting}"
        );
        let error = PushServices::configured(&options).err().expect(setting);
        let error = error.to_string();
        assert!(error.starts_with(&format!("`{setting}` ")), "{error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn end_points_are_refused_where_the_keys_are_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let nowhere = || ServiceKey::File("/nowhere/key".into());
    let cases: [(&str, Change<'_>); 3] = [
        ("mail_push.fcm.endpoint", &|options| {
            options.fcm = Some(FcmOptions {
                service_account: nowhere(),
                endpoint: Some("push.example.org".to_owned()),
                token_endpoint: None,
            });
        }),
        ("mail_push.fcm.token_endpoint", &|options| {
            options.fcm = Some(FcmOptions {
                service_account: nowhere(),
                endpoint: None,
                token_endpoint: Some("ftp://push.example.org".to_owned()),
            });
        }),
        ("mail_push.apns.endpoint", &|options| {
            options.apns = Some(ApnsOptions {
                endpoint: Some("push.example.org".to_owned()),
                ca_file: None,
                key: nowhere(),
                key_id: "ABCDE12345".to_owned(),
                team_id: "TEAM567890".to_owned(),
                topic: "org.example.mail".to_owned(),
            });
        }),
    ];
    for (setting, change) in cases {
        let mut options = options(directory.path());
        change(&mut options);
        let error = PushServices::check(&options).expect_err(setting);
        let error = error.to_string();
        assert!(error.starts_with(&format!("`{setting}` ")), "{error}");
    }
}

#[test]
fn a_key_may_be_given_as_text_and_is_shown_nowhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut of_file = options(directory.path());
    let public = services(&of_file).vapid_public_key().to_owned();
    let pem = std::fs::read_to_string(directory.path().join("vapid.key")).expect("a key");
    of_file.webpush.key = ServiceKey::text("credential:vapid", pem.clone());
    assert_eq!(services(&of_file).vapid_public_key(), public);
    assert!(!format!("{:?}", of_file.webpush).contains("PRIVATE"));
    of_file.apns = Some(ApnsOptions {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        ca_file: None,
        key: ServiceKey::text("credential:apns", pem),
        key_id: "ABCDE12345".to_owned(),
        team_id: "TEAM567890".to_owned(),
        topic: "org.example.mail".to_owned(),
    });
    services(&of_file);
    of_file.fcm = Some(FcmOptions {
        service_account: ServiceKey::text("credential:fcm", "geheim".to_owned()),
        endpoint: None,
        token_endpoint: None,
    });
    let error = PushServices::configured(&of_file)
        .err()
        .expect("no account");
    let error = error.to_string();
    assert!(
        error.contains("names `credential:fcm`, which is not") && !error.contains("geheim"),
        "{error}"
    );
}

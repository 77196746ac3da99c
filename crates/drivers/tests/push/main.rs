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
use dovecast_drivers::push::{PushOptions, PushServices, WebPushOptions};
use dovecast_mail_push::subscription::Urgency;
use dovecast_mail_push::{Person, Push, Tag, Topic, Transport, TransportKind};
use serde_json::{Value, json};

/// Loopback is allowed: that is where the stand-ins are.
fn options(directory: &Path) -> PushOptions {
    PushOptions {
        guard: Guard::new(&["127.0.0.0/8".parse().expect("a network")]),
        sockets: Sockets::default(),
        timeout: Duration::from_secs(20),
        webpush: WebPushOptions {
            key_file: directory.join("vapid.pem"),
            subject: Some("mailto:postmaster@example.org".to_owned()),
            navigate: Some("https://mail.example.org/#{{ message.uid }}".to_owned()),
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

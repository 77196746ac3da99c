//! Webhooks in the form of Open-Xchange: what is signed, and which answers end the subscription.

use std::time::Duration;

use dovecast_mail_push::{DeviceAddress, Person, PushVerdict, Topic, TransportKind};
use dovecast_testkit::endpoint::{Answer, OK, ScriptedEndpoint};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{options, push, services, transport};

const SECRET: &str = "not to be guessed";

fn address(url: String) -> DeviceAddress {
    DeviceAddress::Webhook {
        url,
        signing_secret: SECRET.to_owned(),
    }
}

#[tokio::test]
async fn a_webhook_has_the_form_and_the_signature_of_the_original() {
    let directory = tempfile::tempdir().expect("a directory");
    let services = services(&options(directory.path()));
    let webhook = transport(&services, TransportKind::Webhook);
    let endpoint = ScriptedEndpoint::start([OK]).expect("an endpoint");
    let address = address(endpoint.url("/hook?a=b"));
    webhook.check(&address).expect("an address");
    let message = json!({"folder": "default0/INBOX", "id": "113", "unread": 4});
    let mut push = push(Topic::OxMailNew, message);
    for (person, user, context, email) in [
        (push.person.clone(), json!(11), json!(3), None),
        (
            Person::new("3", "a@b.example", "a@b.example").expect("a person"),
            json!("a@b.example"),
            json!(3),
            Some("a@b.example"),
        ),
    ] {
        push.person = person;
        let answer = webhook.send(&address, &push).await;
        assert!(answer.is_accepted(), "{answer:?}");
        let hook = endpoint.next().expect("a request");
        assert_eq!(hook.head[0], "POST /hook?a=b HTTP/1.1");
        let body: Value = serde_json::from_str(&hook.body).expect("JSON");
        let mut payload = json!({
            "folder": "default0/INBOX", "id": "113", "unread": 4, "user": user, "context": context,
        });
        if let Some(email) = email {
            payload["email1"] = json!(email);
        }
        let expected = json!({
            "event": "ox:mail:new",
            "payload": payload,
            "timestamp": 1_700_000_000_123_u64,
        });
        assert_eq!(body, expected);

        let signature = hook.header("x-ox-signature").expect("a signature");
        let (time, hex) = signature.split_once(", v1=").expect(signature);
        let time = time.strip_prefix("t=").expect(signature);
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(format!("v1:{time}:{}", hook.body).as_bytes());
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect(hex))
            .collect();
        mac.verify_slice(&bytes).expect("the signature of the body");
    }
}

#[tokio::test]
async fn only_410_says_that_a_webhook_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let services = services(&options(directory.path()));
    let webhook = transport(&services, TransportKind::Webhook);
    for (status, verdict) in [
        ("200 OK", PushVerdict::Accepted),
        ("400 Bad Request", PushVerdict::Refused),
        ("307 Temporary Redirect", PushVerdict::Later(None)),
        ("401 Unauthorized", PushVerdict::Later(None)),
        ("403 Forbidden", PushVerdict::Later(None)),
        ("404 Not Found", PushVerdict::Later(None)),
        ("410 Gone", PushVerdict::Gone),
        ("413 Too Large", PushVerdict::TooLarge),
        ("500 Oops", PushVerdict::Later(None)),
        (
            "429 Slow\r\nretry-after: 7",
            PushVerdict::Later(Some(Duration::from_secs(7))),
        ),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let endpoint = ScriptedEndpoint::start([Answer::Last(answer.leak())]);
        let endpoint = endpoint.expect("an endpoint");
        let address = address(endpoint.url("/"));
        let message = json!({"folder": "default0/INBOX"});
        let answer = webhook
            .send(&address, &push(Topic::OxMailNew, message))
            .await;
        assert_eq!(answer.verdict, verdict, "{status}");
    }
}

#[tokio::test]
async fn only_what_has_left_may_have_come() {
    let directory = tempfile::tempdir().expect("a directory");
    let services = services(&options(directory.path()));
    let webhook = transport(&services, TransportKind::Webhook);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}/", free.local_addr().expect("an address"));
    drop(free);
    let silent = ScriptedEndpoint::start([Answer::Last("")]).expect("an endpoint");
    for (url, may_have_come) in [
        (nobody, false),
        ("http://nowhere.invalid/".to_owned(), false),
        ("http://10.0.0.1/".to_owned(), false),
        (silent.url("/"), true),
    ] {
        let message = json!({"folder": "default0/INBOX"});
        let push = push(Topic::OxMailNew, message);
        let answer = webhook.send(&address(url.clone()), &push).await;
        assert_eq!(
            answer.verdict,
            PushVerdict::Later(None),
            "{url}: {answer:?}"
        );
        assert_eq!(answer.may_have_come, may_have_come, "{url}: {answer:?}");
    }
}

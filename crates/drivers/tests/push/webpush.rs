//! Web Push: sealed for the browser, signed for the service, and gone only when that is said.

use std::time::Duration;

use dovecast_drivers::guard::Guard;
use dovecast_mail_push::{
    DeviceAddress, Push, PushAnswer, PushVerdict, Topic, Transport, TransportKind,
};
use dovecast_testkit::push::{Browser, Reply, WebPushService};
use serde_json::json;
use tempfile::TempDir;

use crate::{new_mail, options, push, services, transport};

struct Case {
    service: WebPushService,
    browser: Browser,
    transport: std::sync::Arc<dyn Transport>,
    _directory: TempDir,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let services = services(&options(directory.path()));
        let service = WebPushService::start().expect("a service");
        let browser = service.subscribe(services.vapid_public_key());
        Self {
            browser: browser.expect("a browser"),
            service,
            transport: transport(&services, TransportKind::WebPush),
            _directory: directory,
        }
    }

    async fn send(&self, push: &Push) -> PushAnswer {
        self.transport.send(&address(&self.browser), push).await
    }
}

fn address(browser: &Browser) -> DeviceAddress {
    DeviceAddress::WebPush {
        endpoint: browser.endpoint.clone(),
        p256dh: browser.p256dh.clone(),
        auth: browser.auth.clone(),
    }
}

#[tokio::test]
async fn new_mail_comes_to_the_browser_in_the_declarative_form() {
    let case = Case::new();
    let push = new_mail();
    let answer = case.send(&push).await;
    assert_eq!(case.service.refused(), [""; 0]);
    assert_eq!(answer.verdict, PushVerdict::Accepted, "{answer:?}");
    assert_eq!(answer.status, Some(201));
    let taken = case.service.taken();
    let [taken] = &*taken else {
        panic!("{taken:?}");
    };
    assert_eq!(taken.topic.as_deref(), Some(push.tag.as_str()));
    assert_eq!(taken.urgency.as_deref(), Some("high"));
    assert_eq!(taken.ttl, 3600);
    assert_eq!(taken.subject, "mailto:postmaster@example.org");
    let expected = json!({
        "web_push": 8030,
        "notification": {
            "title": "Alice",
            "body": "Lunch?",
            "navigate": "https://mail.example.org/3/11#113",
            "tag": push.tag.as_str(),
            "data": push.message,
        },
        "app_badge": 4,
        "mutable": true,
    });
    assert_eq!(taken.message, expected);
}

#[tokio::test]
async fn no_badge_is_set_where_it_is_not_known_how_many_mails_are_unseen() {
    let case = Case::new();
    let mut push = new_mail();
    push.badge = None;
    let answer = case.send(&push).await;
    assert!(answer.is_accepted(), "{answer:?}");
    let taken = case.service.taken().pop().expect("a push");
    assert_eq!(taken.message["notification"]["title"], "Alice");
    assert_eq!(taken.message.get("app_badge"), None);
}

#[tokio::test]
async fn what_is_closed_or_changed_is_plain_json_with_the_same_topic() {
    let case = Case::new();
    let tag = new_mail().tag;
    let close = json!({"topic": "mail:close", "id": tag.as_str(), "close": true, "badge": 3});
    let flags = json!({"uid": 113, "set": ["\\Seen"], "cleared": []});
    let with_topic = json!({"topic": "mail:flags", "id": tag.as_str(), "message": flags});
    for (topic, message, expected) in [
        (Topic::MailClose, close.clone(), close),
        (Topic::MailFlags, flags.clone(), with_topic),
    ] {
        let answer = case.send(&push(topic, message)).await;
        assert!(answer.is_accepted(), "{answer:?}");
        let taken = case.service.taken().pop().expect("a push");
        assert_eq!(taken.message, expected);
        assert_eq!(taken.topic.as_deref(), Some(tag.as_str()));
    }
}

#[tokio::test]
async fn each_answer_means_one_thing_for_the_push_and_its_device() {
    let case = Case::new();
    let later = |seconds: u64| PushVerdict::Later(Some(Duration::from_secs(seconds)));
    for (reply, verdict, reason) in [
        (Reply::new(202, ""), PushVerdict::Accepted, "202 Accepted"),
        (Reply::new(404, "unknown"), PushVerdict::Gone, "unknown"),
        (Reply::new(410, ""), PushVerdict::Gone, "410 Gone"),
        (
            Reply::new(413, ""),
            PushVerdict::TooLarge,
            "413 Payload Too Large",
        ),
        (
            Reply::new(429, "slow down").header("retry-after", "120"),
            later(120),
            "slow down",
        ),
        (
            Reply::new(503, "").header("retry-after", "5"),
            later(5),
            "503 Service Unavailable",
        ),
        (
            Reply::new(500, "<html>"),
            PushVerdict::Later(None),
            "500 Internal Server Error",
        ),
        (
            Reply::new(403, "{\"reason\":\"BadJwtToken\"}"),
            PushVerdict::Later(None),
            "{\"reason\":\"BadJwtToken\"}",
        ),
        (
            Reply::new(301, "").header("location", "/elsewhere"),
            PushVerdict::Refused,
            "301 Moved Permanently",
        ),
    ] {
        let status = reply.status;
        case.service.answer_next(reply);
        let expected = PushAnswer {
            verdict,
            status: Some(status),
            reason: reason.to_owned(),
            may_have_come: false,
        };
        assert_eq!(case.send(&new_mail()).await, expected);
    }
    case.service.unsubscribe(&case.browser);
    assert_eq!(case.send(&new_mail()).await.verdict, PushVerdict::Gone);
}

#[tokio::test]
async fn what_is_longer_than_services_take_is_not_sent() {
    let case = Case::new();
    let mut push = new_mail();
    push.message["snippet"] = "x".repeat(4000).into();
    push.message["folder"] = "y".repeat(4000).into();
    let answer = case.send(&push).await;
    assert_eq!(answer.verdict, PushVerdict::TooLarge);
    assert_eq!(case.service.taken(), []);
}

#[tokio::test]
async fn nothing_goes_where_the_guard_does_not_allow_it() {
    let case = Case::new();
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = options(directory.path());
    options.guard = Guard::new(&[]);
    let services = services(&options);
    let guarded = transport(&services, TransportKind::WebPush);
    let mut address = address(&case.browser);
    let fault = guarded.check(&address).expect_err("at http").to_string();
    assert_eq!(fault, "`endpoint` does not begin with `https://`");
    if let DeviceAddress::WebPush { endpoint, .. } = &mut address {
        *endpoint = endpoint.replace("http:", "https:");
    }
    let answer = guarded.send(&address, &new_mail()).await;
    assert_eq!(answer.verdict, PushVerdict::Later(None));
    assert!(answer.reason.contains("allowed_networks"), "{answer:?}");
    assert_eq!(case.service.taken(), []);
}

#[tokio::test]
async fn an_address_is_checked_when_it_is_registered() {
    let case = Case::new();
    let check = |endpoint: &str, p256dh: &str, auth: &str| {
        let address = DeviceAddress::WebPush {
            endpoint: endpoint.to_owned(),
            p256dh: p256dh.to_owned(),
            auth: auth.to_owned(),
        };
        let fault = case.transport.check(&address).err();
        fault.map(|fault| fault.to_string())
    };
    let Browser {
        endpoint,
        p256dh,
        auth,
        ..
    } = &case.browser;
    assert_eq!(check(endpoint, p256dh, auth), None);
    assert_eq!(check("https://push.example.org/x", p256dh, auth), None);
    for (endpoint, p256dh, expected) in [
        (
            &**endpoint,
            format!("B{}", "A".repeat(86)),
            "`keys/p256dh` is no point of the curve P-256",
        ),
        (
            endpoint,
            "AAAA".to_owned(),
            "`keys/p256dh` is not an uncompressed point of P-256 in base64url",
        ),
        (
            "http://push.example.org/x",
            p256dh.clone(),
            "`endpoint` does not begin with `https://`",
        ),
        (
            "https://push.example.org:25/x",
            p256dh.clone(),
            "`endpoint` has the port 25, which is of other services",
        ),
        (
            "https://user:secret@push.example.org/x",
            p256dh.clone(),
            "`endpoint` has a user or a password in it",
        ),
    ] {
        let fault = check(endpoint, &p256dh, auth);
        assert_eq!(fault.as_deref(), Some(expected), "{endpoint}");
    }
    assert_eq!(case.transport.host(&address(&case.browser)), {
        let host = case.browser.endpoint.split('/').nth(2);
        host.expect("a host")
    });
}

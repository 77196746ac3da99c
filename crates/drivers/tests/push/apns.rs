//! APNs: one connection with many streams, what a device gets, and which answers mean that it is
//! gone; connections that end lose nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dovecast_drivers::guard::Guard;
use dovecast_drivers::push::{ApnsOptions, PushOptions};
use dovecast_mail_push::{
    DeviceAddress, Push, PushAnswer, PushVerdict, Topic, Transport, TransportKind,
};
use dovecast_testkit::push::{APNS_KEY_ID, APNS_TEAM_ID, APNS_TOPIC, ApnsService, Reply};
use futures_util::future::join_all;
use serde_json::json;

use crate::{new_mail, options, push, services, transport};

/// A device token.
const DEVICE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

struct Case {
    service: ApnsService,
    transport: Arc<dyn Transport>,
}

impl Case {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// A case with other options.
    fn with(change: impl FnOnce(&mut PushOptions)) -> Self {
        Self::of(ApnsService::start().expect("a service"), change)
    }

    fn of(service: ApnsService, change: impl FnOnce(&mut PushOptions)) -> Self {
        service.register(DEVICE, true);
        let directory = tempfile::tempdir().expect("a directory");
        let key_file = directory.path().join("key.p8");
        std::fs::write(&key_file, service.key()).expect("written");
        let mut options = options(directory.path());
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, service.certificate()).expect("written");
        options.apns = Some(ApnsOptions {
            endpoint: Some(service.endpoint()),
            ca_file: Some(ca_file).filter(|_| !service.certificate().is_empty()),
            key: key_file.into(),
            key_id: APNS_KEY_ID.to_owned(),
            team_id: APNS_TEAM_ID.to_owned(),
            topic: APNS_TOPIC.to_owned(),
        });
        change(&mut options);
        Self {
            transport: transport(&services(&options), TransportKind::Apns),
            service,
        }
    }

    async fn send_to(&self, token: &str, push: &Push) -> PushAnswer {
        let address = DeviceAddress::Apns {
            token: token.to_owned(),
        };
        self.transport.send(&address, push).await
    }

    async fn send(&self) -> PushAnswer {
        self.send_to(DEVICE, &new_mail()).await
    }
}

#[tokio::test]
async fn new_mail_is_an_alert_and_a_closing_push_is_for_the_background() {
    let case = Case::new();
    let mail = new_mail();
    let tag = mail.tag.as_str();
    let message = json!({"topic": "mail:close", "id": tag, "close": true, "badge": 4});
    let close = push(Topic::MailClose, message);
    let alert = json!({
        "aps": {
            "alert": {"title": "Alice", "body": "Lunch?"},
            "badge": 4,
            "sound": "default",
            "mutable-content": 1,
        },
        "topic": "mail:new",
        "id": tag,
        "message": mail.message,
    });
    let background = json!({
        "aps": {"content-available": 1}, "topic": "mail:close", "id": tag, "badge": 4,
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("a time").as_secs();
    for (push, push_type, priority, payload) in [
        (&mail, "alert", "10", alert),
        (&close, "background", "5", background),
    ] {
        let answer = case.send_to(DEVICE, push).await;
        assert_eq!(case.service.refused(), [""; 0]);
        assert!(answer.is_accepted(), "{answer:?}");
        let taken = case.service.taken().pop().expect("a push");
        assert_eq!(taken.device, DEVICE);
        assert_eq!(taken.push_type, push_type);
        assert_eq!(taken.priority, priority);
        assert_eq!(taken.collapse_id.as_deref(), Some(tag));
        assert!(taken.expiration >= now + 3600, "{taken:?}");
        assert_eq!(taken.payload, payload);
    }
}

#[tokio::test]
async fn no_badge_is_set_where_it_is_not_known_how_many_mails_are_unseen() {
    let case = Case::new();
    let mail = new_mail();
    let message = json!({"topic": "mail:close", "id": mail.tag.as_str(), "close": true});
    for mut push in [mail, push(Topic::MailClose, message)] {
        push.badge = None;
        let answer = case.send_to(DEVICE, &push).await;
        assert!(answer.is_accepted(), "{answer:?}");
        let payload = case.service.taken().pop().expect("a push").payload;
        assert!(payload["aps"].is_object(), "{payload}");
        assert!(payload["aps"]["badge"].is_null(), "{payload}");
        assert!(payload["badge"].is_null(), "{payload}");
    }
}

#[tokio::test]
async fn an_end_point_that_the_operator_names_is_not_guarded() {
    let case = Case::with(|options| options.guard = Guard::new(&[]));
    let answer = case.send().await;
    assert!(answer.is_accepted(), "{answer:?}");
    assert_eq!(case.service.taken().len(), 1);
}

#[tokio::test]
async fn tls_is_that_of_the_authority_that_is_named_and_carries_http2() {
    let service = ApnsService::start_with_tls().expect("a service");
    let case = Case::of(service, |_| {});
    let answer = case.send().await;
    assert!(answer.is_accepted(), "{answer:?}");
    assert_eq!(case.service.taken().len(), 1);
}

#[tokio::test]
async fn many_pushes_go_over_one_connection_at_the_same_time() {
    let case = Case::new();
    // None is answered before all are there: one after the other they would wait for ever.
    case.service.hold_until(100);
    let mail = new_mail();
    let answers = join_all((0..100).map(|_| case.send_to(DEVICE, &mail))).await;
    assert!(answers.iter().all(PushAnswer::is_accepted), "{answers:?}");
    assert_eq!(case.service.connections(), 1);
    assert_eq!(case.service.taken().len(), 100);
}

#[tokio::test]
async fn only_410_and_a_bad_device_token_say_that_a_device_is_gone() {
    let case = Case::new();
    let reason = |status, reason: &str| Reply::new(status, json!({"reason": reason}).to_string());
    for (reply, verdict, reason) in [
        (
            reason(410, "Unregistered"),
            PushVerdict::Gone,
            "Unregistered",
        ),
        (
            reason(400, "BadDeviceToken"),
            PushVerdict::Gone,
            "BadDeviceToken",
        ),
        (
            reason(400, "DeviceTokenNotForTopic"),
            PushVerdict::Refused,
            "DeviceTokenNotForTopic",
        ),
        (reason(404, "BadPath"), PushVerdict::Refused, "BadPath"),
        (
            reason(413, "PayloadTooLarge"),
            PushVerdict::TooLarge,
            "PayloadTooLarge",
        ),
        (
            reason(429, "TooManyRequests").header("retry-after", "60"),
            PushVerdict::LaterAlone(Duration::from_mins(1)),
            "TooManyRequests",
        ),
        (
            reason(429, "TooManyRequests"),
            PushVerdict::Later(None),
            "TooManyRequests",
        ),
        (
            reason(503, "Shutdown").header("retry-after", "3"),
            PushVerdict::Later(Some(Duration::from_secs(3))),
            "Shutdown",
        ),
        (
            reason(403, "InvalidProviderToken"),
            PushVerdict::Later(None),
            "InvalidProviderToken",
        ),
        // A token that is young is not replaced: Apple would refuse the next one.
        (
            reason(403, "ExpiredProviderToken"),
            PushVerdict::Later(None),
            "ExpiredProviderToken",
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
        assert_eq!(case.send().await, expected);
    }
    assert!(case.send().await.is_accepted());
    case.service.register(DEVICE, false);
    assert_eq!(case.send().await.verdict, PushVerdict::Gone);
    assert_eq!(
        case.send_to("00", &new_mail()).await.verdict,
        PushVerdict::Gone
    );
    assert_eq!(case.service.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_is_ended_loses_no_push_and_repeats_none() {
    let case = Case::new();
    // Not looked at, says the first connection of all that comes over it.
    case.service.cut_next_connection();
    let mail = new_mail();
    let answers = join_all((0..20).map(|_| case.send_to(DEVICE, &mail))).await;
    assert!(answers.iter().all(PushAnswer::is_accepted), "{answers:?}");
    assert_eq!(case.service.taken().len(), 20);
    assert_eq!(case.service.connections(), 2);
    // What is under way is answered, and what comes next goes over another connection.
    case.service.go_away();
    for count in 21..25 {
        assert!(case.send().await.is_accepted());
        assert_eq!(case.service.taken().len(), count);
    }
    assert_eq!(case.service.connections(), 3);
}

#[tokio::test]
async fn a_push_that_is_not_accepted_on_any_connection_is_left_for_later() {
    let case = Case::new();
    for _ in 0..4 {
        case.service.cut_next_connection();
    }
    let answer = case.send().await;
    assert_eq!(answer.verdict, PushVerdict::Later(None), "{answer:?}");
    assert_eq!(answer.status, None);
    assert!(case.send().await.is_accepted());
    // One stream is refused, and the connection goes on.
    case.service.answer_next(Reply::new(0, ""));
    assert!(case.send().await.is_accepted());
    assert_eq!(case.service.connections(), 5);
}

#[tokio::test]
async fn what_is_longer_than_apns_takes_is_not_sent() {
    let case = Case::new();
    let mut mail = new_mail();
    mail.message["snippet"] = "x".repeat(4096).into();
    let answer = case.send_to(DEVICE, &mail).await;
    assert_eq!(answer.verdict, PushVerdict::TooLarge);
    assert_eq!(case.service.connections(), 0);
    let fault = case.transport.check(&DeviceAddress::Apns {
        token: "../x".to_owned(),
    });
    let fault = fault.expect_err("no token").to_string();
    assert_eq!(fault, "`token` is not hexadecimal");
}

//! FCM: who we are, what a device gets, and which answers mean that it is gone.

use std::sync::Arc;
use std::time::Duration;

use dovecast_drivers::guard::Guard;
use dovecast_drivers::push::{FcmOptions, PushOptions};
use dovecast_mail_push::{
    DeviceAddress, Push, PushAnswer, PushVerdict, Topic, Transport, TransportKind,
};
use dovecast_testkit::push::{FcmService, Reply, fcm_error};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{new_mail, options, push, services, transport};

struct Case {
    service: FcmService,
    transport: Arc<dyn Transport>,
}

impl Case {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// A case with other options.
    fn with(change: impl FnOnce(&mut PushOptions)) -> Self {
        let service = FcmService::start().expect("a service");
        service.register("device", true);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("account.json");
        std::fs::write(&file, service.service_account()).expect("written");
        let mut options = options(directory.path());
        options.fcm = Some(FcmOptions {
            service_account: file.into(),
            endpoint: Some(service.endpoint()),
            token_endpoint: None,
        });
        change(&mut options);
        Self {
            transport: transport(&services(&options), TransportKind::Fcm),
            service,
        }
    }

    async fn send_to(&self, token: &str, push: &Push) -> PushAnswer {
        let address = DeviceAddress::Fcm {
            token: token.to_owned(),
        };
        self.transport.send(&address, push).await
    }

    async fn send(&self) -> PushAnswer {
        self.send_to("device", &new_mail()).await
    }
}

#[tokio::test]
async fn a_device_gets_data_of_three_texts_that_collapse_by_the_mail() {
    let case = Case::new();
    let mail = new_mail();
    let close = json!({"topic": "mail:close", "id": mail.tag.as_str(), "close": true, "badge": 3});
    let close = push(Topic::MailClose, close);
    for (push, priority) in [(mail, "HIGH"), (close, "NORMAL")] {
        let answer = case.send_to("device", &push).await;
        assert_eq!(case.service.refused(), [""; 0]);
        assert!(answer.is_accepted(), "{answer:?}");
        let mut taken = case.service.taken().pop().expect("a push");
        let message = taken["data"]["message"].take();
        let message: Value = serde_json::from_str(message.as_str().expect("a text")).expect("JSON");
        assert_eq!(message, push.message);
        let expected = json!({
            "token": "device",
            "data": {"topic": push.topic.name(), "id": push.tag.as_str(), "message": null},
            "android": {"collapse_key": push.tag.as_str(), "priority": priority, "ttl": "3600s"},
        });
        assert_eq!(taken, expected);
    }
    assert_eq!(case.service.granted(), 1, "the access token is kept");
}

#[tokio::test]
async fn an_end_point_that_the_operator_names_is_not_guarded() {
    let case = Case::with(|options| options.guard = Guard::new(&[]));
    let answer = case.send().await;
    assert!(answer.is_accepted(), "{answer:?}");
    assert_eq!(case.service.taken().len(), 1);
}

#[tokio::test]
async fn an_access_token_is_renewed_when_it_ends_or_is_refused() {
    let case = Case::new();
    // Shorter than the time before its end at which another one is asked for, and kept all the
    // same: else each push would ask.
    case.service.expire_in(60);
    for _ in 0..2 {
        assert!(case.send().await.is_accepted());
    }
    assert_eq!(case.service.granted(), 1);
    case.service.revoke();
    assert!(case.send().await.is_accepted());
    assert_eq!(case.service.granted(), 2);
    assert_eq!(case.service.taken().len(), 3);
}

#[tokio::test]
async fn pushes_at_the_same_time_ask_for_one_access_token() {
    let case = Case::new();
    let mail = new_mail();
    let answers = join_all((0..16).map(|_| case.send_to("device", &mail))).await;
    assert!(answers.iter().all(PushAnswer::is_accepted), "{answers:?}");
    assert_eq!(case.service.granted(), 1);
}

#[tokio::test]
async fn only_unregistered_says_that_a_device_is_gone() {
    let case = Case::new();
    let later = |seconds| PushVerdict::Later(Some(Duration::from_secs(seconds)));
    for (reply, verdict, reason) in [
        (
            fcm_error(404, "NOT_FOUND", Some("UNREGISTERED"), "gone"),
            PushVerdict::Gone,
            "UNREGISTERED: gone",
        ),
        (
            fcm_error(404, "NOT_FOUND", None, "no such project"),
            PushVerdict::Refused,
            "NOT_FOUND: no such project",
        ),
        (
            fcm_error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), "bad"),
            PushVerdict::Refused,
            "INVALID_ARGUMENT: bad",
        ),
        (
            fcm_error(
                403,
                "PERMISSION_DENIED",
                Some("SENDER_ID_MISMATCH"),
                "other",
            ),
            PushVerdict::Refused,
            "SENDER_ID_MISMATCH: other",
        ),
        (
            fcm_error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), "slow"),
            PushVerdict::LaterAlone(Duration::from_mins(1)),
            "QUOTA_EXCEEDED: slow",
        ),
        (
            fcm_error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), "slow")
                .header("retry-after", "90"),
            later(90),
            "QUOTA_EXCEEDED: slow",
        ),
        (
            fcm_error(503, "UNAVAILABLE", Some("UNAVAILABLE"), "busy").header("retry-after", "7"),
            later(7),
            "UNAVAILABLE: busy",
        ),
        (
            Reply::new(502, "<html>Bad gateway"),
            PushVerdict::Later(None),
            "502 Bad Gateway",
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
    case.service.register("device", false);
    assert_eq!(case.send().await.verdict, PushVerdict::Gone);
    let unknown = case.send_to("unknown", &new_mail()).await;
    assert_eq!(unknown.verdict, PushVerdict::Refused);
}

#[tokio::test]
async fn what_is_longer_than_fcm_takes_is_not_sent() {
    let case = Case::new();
    let mut mail = new_mail();
    mail.message["snippet"] = "x".repeat(4096).into();
    let answer = case.send_to("device", &mail).await;
    assert_eq!(answer.verdict, PushVerdict::TooLarge);
    assert_eq!(case.service.granted(), 0, "nothing was asked");
    let big = fcm_error(400, "INVALID_ARGUMENT", None, "Android message is too big");
    case.service.answer_next(big);
    assert_eq!(case.send().await.verdict, PushVerdict::TooLarge);
}

#[tokio::test]
async fn without_an_access_token_a_push_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    let (service, other) = (FcmService::start(), FcmService::start());
    let (service, other) = (service.expect("a service"), other.expect("a service"));
    let file = directory.path().join("account.json");
    // For the other one, which this one does not take.
    std::fs::write(&file, other.service_account()).expect("written");
    let mut options = options(directory.path());
    options.fcm = Some(FcmOptions {
        service_account: file.into(),
        endpoint: Some(service.endpoint()),
        token_endpoint: Some(format!("{}/elsewhere", service.endpoint())),
    });
    let fcm = transport(&services(&options), TransportKind::Fcm);
    let address = DeviceAddress::Fcm {
        token: "device".to_owned(),
    };
    let answer = fcm.send(&address, &new_mail()).await;
    assert_eq!(answer.verdict, PushVerdict::Later(None));
    assert_eq!(answer.status, None);
    assert!(
        answer.reason.starts_with("no access token: 404"),
        "{answer:?}"
    );
    assert_eq!(service.taken(), [Value::Null; 0]);
}

//! The driver `mail` at a mail server: what arrives, who is told again, and what is never told.

mod tls;

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::Bytes;
use dovecast_dispatch::driver::{Attempt, Delivery, Driver, Outcome, Part, Settings, Target};
use dovecast_drivers::mail::{MailDriver, MailOptions, MailTls};
use dovecast_drivers::template::Templates;
use dovecast_notification::{Notification, NotificationId};
use dovecast_testkit::smtp::MailServer;
use serde_json::{Value, json};
use uuid::Uuid;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;

fn options(port: u16) -> MailOptions {
    MailOptions {
        server: "127.0.0.1".to_owned(),
        port: Some(port),
        tls: MailTls::None,
        ca: None,
        login: None,
        from: "dovecast <noreply@example.org>".to_owned(),
        envelope_from: None,
        recipients: vec!["example.org".to_owned(), "X.org".to_owned()],
        list_id: Some("<notifications.example.org>".to_owned()),
        timeout: PATIENCE,
        key: [7; 32],
    }
}

fn target(server: &MailServer, settings: &Value) -> Result<Arc<dyn Target>, String> {
    let driver =
        MailDriver::new(Some(&options(server.port())), Templates::Trusted).expect("a driver");
    checked(&driver, settings)
}

fn checked(driver: &MailDriver, settings: &Value) -> Result<Arc<dyn Target>, String> {
    let settings = settings.as_object().expect("an object");
    let target = driver.target(&Settings {
        account: &Arc::from("1"),
        open: settings,
        secret: &serde_json::Map::new(),
    });
    target.map_err(|error| error.to_string())
}

fn delivery(number: u32, event_type: &str, message: &Value) -> Delivery {
    let notification = Notification {
        id: NotificationId(Uuid::from_u128(1)),
        application: "dovecot".into(),
        event_type: event_type.into(),
        level: None,
        account: "1".into(),
        timestamp: Bytes::from_static(b"\"t\""),
        message: message.to_string().into(),
        key: None,
        headers: Vec::new(),
    };
    Delivery {
        note: String::new(),
        id: "msg_1".to_owned(),
        number,
        notifications: vec![Arc::new(notification)],
        part: Part::WHOLE,
    }
}

fn mail() -> Value {
    json!({
        "fromDisplayName": "Jörg", "subjectDecoded": "Lunch\nBcc: all@example.org", "snippet": ".\nAt noon. ü",
        "messageID": "<1@example.org>", "mailbox": "INBOX",
    })
}

async fn attempt(target: &Arc<dyn Target>, delivery: &Delivery) -> Attempt {
    Arc::clone(target).open().deliver(delivery).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_says_what_it_is_and_nothing_of_a_notification_becomes_a_header() {
    let server = MailServer::start().expect("a server");
    let target = target(
        &server,
        &json!({"to": "Ann <ann@example.org>", "html": "<p>{{ title }}</p>"}),
    );
    let made = attempt(
        &target.expect("a target"),
        &delivery(1, "MessageNew", &mail()),
    )
    .await;
    assert_eq!(made.outcome, Outcome::Delivered, "{made:?}");
    let taken = server.taken();
    assert_eq!(taken.len(), 1, "{taken:?}");
    let mail = &taken[0];
    let envelope = (&*mail.from, &*mail.to);
    assert_eq!(envelope, ("noreply@example.org", "ann@example.org"));
    for (name, expected) in [
        ("From", Some("dovecast <noreply@example.org>")),
        ("To", Some("Ann <ann@example.org>")),
        ("Auto-Submitted", Some("auto-generated")),
        ("List-Id", Some("<notifications.example.org>")),
        ("Dovecast-Delivery", Some("msg_1")),
        ("Bcc", None),
    ] {
        assert_eq!(mail.header(name).as_deref(), expected, "{}", mail.text);
    }
    assert!(
        mail.header("Message-ID")
            .is_some_and(|id| id.starts_with("<dovecast."))
    );
    assert!(mail.text.contains("multipart/alternative"), "{}", mail.text);
    let words = mail.text.replace("=\n", "");
    assert!(words.contains("At noon. =C3=BC"), "{words}");
    assert!(words.contains("Lunch Bcc: all@example.org"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bounces_go_to_the_sender_or_where_the_operator_wants_them() {
    for (envelope_from, expected) in [
        (None, "MAIL FROM:<noreply@example.org>"),
        (Some(""), "MAIL FROM:<>"),
        (
            Some("bounces@example.org"),
            "MAIL FROM:<bounces@example.org>",
        ),
    ] {
        let server = MailServer::start().expect("a server");
        let options = MailOptions {
            envelope_from: envelope_from.map(str::to_owned),
            ..options(server.port())
        };
        let driver = MailDriver::new(Some(&options), Templates::Trusted).expect("a driver");
        let target = checked(&driver, &json!({"to": "ann@example.org"})).expect("a target");
        let made = attempt(&target, &delivery(1, "MessageNew", &mail())).await;
        assert_eq!(made.outcome, Outcome::Delivered, "{made:?}");
        let commands = server.commands();
        let is_said = commands.iter().any(|line| line.starts_with(expected));
        assert!(is_said, "no {expected} in {commands:?}");
        let from = server.taken()[0].header("From");
        assert_eq!(from.as_deref(), Some("dovecast <noreply@example.org>"));
    }
    let options = MailOptions {
        envelope_from: Some("nobody".to_owned()),
        ..options(1)
    };
    let error = MailDriver::new(Some(&options), Templates::Trusted).map(drop);
    let error = error.expect_err("no address").to_string();
    assert_eq!(error, "`envelope_from` in [mail] is no address: `nobody`");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_is_told_once_whatever_becomes_of_the_others() {
    let server = MailServer::start().expect("a server");
    let target = target(&server, &json!({"to": ["a@x.org", "b@x.org", "c@x.org"]}));
    let target = target.expect("a target");
    server.answer("b@x.org", Some("450 4.2.1 later"));
    server.answer("c@x.org", Some("550 5.1.1 no such user"));
    for number in 1..=2 {
        let made = attempt(&target, &delivery(number, "MessageNew", &mail())).await;
        let Outcome::Failed { reason, .. } = made.outcome else {
            panic!("{made:?}");
        };
        assert!(
            reason.starts_with("b@x.org: ") && reason.contains("450"),
            "{reason}"
        );
    }
    server.answer("b@x.org", None);
    // Who will never take it is not forgotten when the others have it.
    let made = attempt(&target, &delivery(3, "MessageNew", &mail())).await;
    let Outcome::Refused { reason } = made.outcome else {
        panic!("{made:?}");
    };
    assert!(
        reason.starts_with("c@x.org: ") && !reason.contains("b@x.org"),
        "{reason}"
    );
    let taken = server.taken();
    let to: Vec<_> = taken.iter().map(|mail| &*mail.to).collect();
    assert_eq!(to, ["a@x.org", "b@x.org"]);
    let ids: BTreeSet<_> = taken.iter().map(|mail| mail.header("Message-ID")).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    // Redelivered, it goes to whom it was refused for, and is no second mail to the others.
    server.answer("c@x.org", None);
    let made = attempt(&target, &delivery(1, "MessageNew", &mail())).await;
    assert!(matches!(made.outcome, Outcome::Delivered), "{made:?}");
    let to: Vec<_> = server.taken().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, ["a@x.org", "b@x.org", "c@x.org"]);
    server.answer("c@x.org", Some("550 5.1.1 no such user"));
    // One who will never take it ends the delivery when no other may take it later.
    server.answer("b@x.org", Some("550 5.1.1 no such user"));
    let mut other = delivery(1, "MessageNew", &mail());
    other.id = "msg_2".to_owned();
    let made = attempt(&target, &other).await;
    let Outcome::Refused { reason } = made.outcome else {
        panic!("{made:?}");
    };
    assert!(
        reason.contains("b@x.org: ") && reason.contains("c@x.org: "),
        "{reason}"
    );
    assert!(!reason.contains("a@x.org"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_mail_does_not_get_it_again_after_a_restart() {
    let server = MailServer::start().expect("a server");
    let settings = json!({"to": ["a@x.org", "b@x.org", "c@x.org"]});
    server.answer("b@x.org", Some("450 4.2.1 later"));
    server.answer("c@x.org", Some("550 5.1.1 no such user"));
    let mut delivery = delivery(1, "MessageNew", &mail());
    // Each attempt is made by a process that knows nothing but what is noted with the delivery.
    for (settings, is_failed) in [
        (&settings, true),
        // The endpoint was changed meanwhile.
        (&json!({"to": ["c@x.org", "a@x.org", "b@x.org"]}), true),
        (&settings, false),
    ] {
        if !is_failed {
            server.answer("b@x.org", None);
        }
        let target = target(&server, settings).expect("a target");
        let made = attempt(&target, &delivery).await;
        let has_failed = matches!(made.outcome, Outcome::Failed { .. });
        assert_eq!(has_failed, is_failed, "{made:?}");
        delivery.note = made.note.expect("a note");
    }
    // Redelivered, it goes to the one whom it was refused for.
    server.answer("c@x.org", None);
    let target = target(&server, &settings).expect("a target");
    let made = attempt(&target, &delivery).await;
    assert_eq!(made.outcome, Outcome::Delivered, "{made:?}");
    let to: Vec<_> = server.taken().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, ["a@x.org", "b@x.org", "c@x.org"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_does_not_wait_for_those_before_it() {
    // None of the mails is taken before all of them are there.
    let together = Barrier::new(5);
    let server = MailServer::handing_on(move |_| {
        together.wait();
        Ok(())
    });
    let server = server.expect("a server");
    let to = ["e@x.org", "d@x.org", "c@x.org", "b@x.org", "a@x.org"];
    let target = target(&server, &json!({"to": to})).expect("a target");
    let made = attempt(&target, &delivery(1, "MessageNew", &mail())).await;
    assert_eq!(made.outcome, Outcome::Delivered, "{made:?}");
    // What is said of them has their order.
    let said = made.answer.expect("an answer").head;
    let said = said.split("; ").filter_map(|one| one.split_once(": "));
    assert!(said.map(|(to, _)| to).eq(to));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_of_ours_is_told_by_none() {
    let server = MailServer::start().expect("a server");
    let target = target(&server, &json!({"to": "ann@example.org"})).expect("a target");
    attempt(&target, &delivery(1, "MessageNew", &mail())).await;
    let ours = server.taken()[0].header("Message-ID").expect("an id");
    for (event_type, message) in [
        ("MessageNew", json!({"messageID": ours})),
        ("MessageAppend", json!({"messageID": ours})),
        (
            "MessageNew",
            json!({"from": "dovecast <NoReply@example.org>"}),
        ),
        ("FlagsSet", json!({"flags": ["\\Seen"]})),
        ("MessageRead", json!({})),
        ("MessageNew", json!({"mailbox": "INBOX", "uid": 7})),
        // A mail server on the way has given it another id.
        (
            "MessageNew",
            json!({"messageID": "<1@mx.example.net>", "fromAddress": "noreply@example.org"}),
        ),
        // A bounce of one of ours.
        (
            "MessageNew",
            json!({"user": "noreply", "messageID": "<b@mx>", "from": "MAILER-DAEMON@mx"}),
        ),
        (
            "MessageNew",
            json!({"user": "NoReply@example.org", "messageID": "<b@mx>", "from": "MAILER-DAEMON@mx"}),
        ),
    ] {
        let made = attempt(&target, &delivery(1, event_type, &message)).await;
        assert_eq!(made.outcome, Outcome::Delivered, "{message}");
        let said = made.answer.map(|answer| answer.head).unwrap_or_default();
        assert!(said.starts_with("not sent: "), "{said}");
    }
    // Others may have a name or a domain that is like ours, or call themselves so.
    for from in [
        "no-noreply@example.org",
        "noreply@example.org.example",
        "\"noreply@example.org\" <mallory@example.net>",
    ] {
        attempt(&target, &delivery(1, "MessageNew", &json!({"from": from}))).await;
    }
    assert_eq!(server.taken().len(), 4);
    // An id of another kind is none of ours.
    let foreign = json!({
        "user": "ann@noreply.example", "messageID": "<dovecast.a.b@example.org>", "from": "bob@example.org"});
    attempt(&target, &delivery(1, "MessageNew", &foreign)).await;
    assert_eq!(server.taken().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_the_server_cannot_be_told_is_refused_for_good() {
    // It does not offer SMTPUTF8.
    let server = MailServer::start().expect("a server");
    let target = target(&server, &json!({"to": "jörg@example.org"})).expect("a target");
    let made = attempt(&target, &delivery(1, "MessageNew", &mail())).await;
    assert!(matches!(made.outcome, Outcome::Refused { .. }), "{made:?}");
    assert_eq!(server.taken().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_now_is_told_later() {
    let server = MailServer::start().expect("a server");
    let template = target(&server, &json!({"to": "a@x.org", "text": "{{ nothing }}"}));
    let made = attempt(
        &template.expect("a target"),
        &delivery(1, "MessageNew", &mail()),
    )
    .await;
    let Outcome::NotMade { reason } = made.outcome else {
        panic!("{made:?}");
    };
    assert_eq!(reason, "the template line 1, column 4: undefined value");
    // Nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let driver = MailDriver::new(Some(&options(port)), Templates::Trusted).expect("a driver");
    let target = checked(&driver, &json!({"to": "a@x.org"})).expect("a target");
    let made = attempt(&target, &delivery(1, "MessageNew", &mail())).await;
    assert!(matches!(made.outcome, Outcome::Failed { .. }), "{made:?}");
    assert_eq!(made.answer, None, "nobody has answered");
}

#[tokio::test]
async fn settings_are_checked() {
    let server = MailServer::start().expect("a server");
    let many: Vec<String> = (0..11).map(|number| format!("{number}@x.org")).collect();
    for (settings, expected) in [
        (json!({}), "`to` is missing"),
        (json!({"to": []}), "`to` is not one to 10 addresses"),
        (json!({"to": many}), "`to` is not one to 10 addresses"),
        (json!({"to": "ann"}), "`to` has `ann`, which is no address"),
        (
            json!({"to": ["a@x.org", "A <a@x.org>"]}),
            "`to` has `A <a@x.org>` twice",
        ),
        (
            json!({"to": "a@elsewhere.org"}),
            "`to` has `a@elsewhere.org`, whom this dovecast may not write to",
        ),
        (
            json!({"to": 7}),
            "`to` is neither an address nor a list of addresses",
        ),
        (
            json!({"to": "a@x.org", "text": "{{"}),
            "`text` line 1, column",
        ),
        (
            json!({"to": "a@x.org", "server": "x"}),
            "`server` is not known to this driver",
        ),
    ] {
        let error = target(&server, &settings).map(drop).expect_err("wrong");
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
    let none = MailDriver::new(None, Templates::Trusted).expect("a driver");
    let error = checked(&none, &json!({"to": "a@x.org"})).map(drop);
    let error = error.expect_err("no server");
    assert!(error.contains("no mail server"), "{error}");
}

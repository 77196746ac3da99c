//! Blocks in both spellings of Dovecot, and what is wrong with some; what `dlog` writes, and what
//! `ox` sends.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dovecast_dispatch::driver::{Delivery, Part};
use dovecast_notification::{DOVECOT, Notification, NotificationId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

pub(super) fn block(driver: &str, options: &[(&str, &str)]) -> Block {
    let option = |(key, value): &(&str, &str)| {
        let value = match *value {
            "true" => Written::Truth(true),
            text => Written::Text(text.to_owned()),
        };
        ((*key).to_owned(), value)
    };
    Block {
        name: "one".to_owned(),
        driver: driver.to_owned(),
        options: options.iter().map(option).collect(),
        plugin: BTreeMap::new(),
        settings: None,
    }
}

/// Lines that are logged on this thread.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Collects them for as long as the guard is there.
    pub(super) fn collect() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let into = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || into.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&lines).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn made(block: &Block) -> Result<ConfiguredDriver, String> {
    let surroundings = Surroundings {
        sockets: Sockets::default(),
        lua_host: Vec::new(),
        lua_script_file: None,
        lua_attempt_limit: crate::configured::LUA_ATTEMPT_LIMIT,
    };
    block.make(&surroundings).map_err(|error| error.to_string())
}

pub(super) fn delivery(events: &[Value], part: Part) -> Delivery {
    let notification = |event: &Value| {
        Arc::new(Notification {
            id: NotificationId(Uuid::nil()),
            application: DOVECOT.into(),
            event_type: event["event"].as_str().unwrap_or_default().into(),
            level: None,
            account: "a".into(),
            timestamp: Bytes::from_static(b"null"),
            message: event.to_string().into(),
            key: None,
            headers: Vec::new(),
        })
    };
    Delivery {
        note: String::new(),
        id: "msg_1".to_owned(),
        number: 1,
        notifications: events.iter().map(notification).collect(),
        part,
    }
}

#[test]
fn options_are_known_by_their_names_in_both_spellings() {
    const URL: &str = "http://login:p%40ss@ox.example:8009/preliminary/http-notify/v1/notify";
    for (driver, options) in [
        ("dlog", &[][..]),
        (
            "ox",
            &[
                ("ox_url", URL),
                ("ox_user_from_metadata", "true"),
                ("ox_cache_ttl", "60s"),
            ],
        ),
        (
            "ox",
            &[
                ("push_notification_ox_url", URL),
                ("push_notification_ox_cache_ttl", "10 secs"),
            ],
        ),
        (
            "ox",
            &[
                ("url", URL),
                ("user_from_metadata", "yes"),
                ("cache_lifetime", "60"),
            ],
        ),
        (
            "ox",
            &[
                ("url", URL),
                ("http_client_request_timeout", "500ms"),
                ("max_retries", "0"),
            ],
        ),
        (
            "ox",
            &[("url", URL), ("http_client_request_max_attempts", "3")],
        ),
        (
            "ox:url=http://ox.example/ user_from_metadata cache_lifetime=10 timeout_msecs=700",
            &[],
        ),
        ("DLog", &[]),
        ("OX:url=http://ox.example/", &[]),
    ] {
        let made = made(&block(driver, options)).expect("a driver");
        let name = driver.split(':').next().unwrap_or_default();
        assert_eq!(made.kind, name.to_ascii_lowercase());
        assert!(!format!("{made:?}").contains("p%40ss"));
    }
}

#[test]
fn what_is_wrong_with_a_block_is_named_without_its_password() {
    const URL: (&str, &str) = ("url", "http://u:s3cret@ox.example/");
    for (driver, options, expected) in [
        (
            "oxx",
            &[][..],
            if cfg!(feature = "lua") {
                "[push_notification.one] driver: Unknown push notification driver: oxx, expected one of `dlog`, `lua`, `ox`"
            } else {
                "[push_notification.one] driver: Unknown push notification driver: oxx, expected one of `dlog`, `ox`"
            },
        ),
        (
            "dlog",
            &[("path", "/")],
            "[push_notification.one] path: unknown option, `dlog` has none",
        ),
        (
            "ox",
            &[],
            "[push_notification.one] url: push_notification_ox_url is missing or empty",
        ),
        (
            "ox",
            &[("ox_url", "")],
            "[push_notification.one] url: push_notification_ox_url is missing or empty",
        ),
        (
            "ox",
            &[("ox_url", "http://u:s3cret@")],
            "[push_notification.one] ox_url: Invalid push_notification_ox_url: empty host",
        ),
        (
            "ox",
            &[("url", "ftp://u:s3cret@h/")],
            "[push_notification.one] url: Invalid push_notification_ox_url: expected http:// or https://",
        ),
        (
            "ox",
            &[URL, ("ox_cache_ttl", "0")],
            "[push_notification.one] ox_cache_ttl: push_notification_ox_cache_ttl must not be 0",
        ),
        (
            "ox",
            &[URL, ("cache_lifetime", "abc")],
            "[push_notification.one] cache_lifetime: Invalid time interval: abc",
        ),
        (
            "ox",
            &[URL, ("max_retries", "x")],
            "[push_notification.one] max_retries: `x` is not a number",
        ),
        (
            "ox",
            &[URL, ("timeout_msecs", "60000")],
            "[push_notification.one] timeout_msecs: all tries together may take 50 seconds at most, and not 0",
        ),
        (
            "ox",
            &[URL, ("http_client_request_timeout", "60s")],
            "[push_notification.one] http_client_request_timeout: all tries together may take 50 seconds at most, and not 0",
        ),
        (
            "ox",
            &[URL, ("max_retries", "100")],
            "[push_notification.one] max_retries: all tries together may take 50 seconds at most, and not 0",
        ),
        (
            "ox",
            &[URL, ("ox_url", "http://h/")],
            "[push_notification.one] url: is there twice",
        ),
        (
            "ox",
            &[URL, ("user_from_metadata", "perhaps")],
            "[push_notification.one] user_from_metadata: Invalid boolean value: perhaps (use yes or no)",
        ),
    ] {
        let error = made(&block(driver, options)).expect_err(expected);
        assert_eq!(error, expected);
    }
}

#[test]
fn dlog_writes_the_calls_of_a_transaction() {
    let mail = |event: &str, uid: u32| json!({"user": "ann", "mailbox": "INBOX", "event": event, "uidvalidity": 9, "uid": uid});
    let mut set = mail("FlagsSet", 2);
    set["flags"] = json!(["\\Seen"]);
    set["keywords"] = json!(["$label1"]);
    let mut new = mail("MessageNew", 3);
    new["from"] = json!("Bob <bob@example.org>");
    let renamed =
        json!({"user": "ann", "mailbox": "b", "event": "MailboxRename", "oldMailbox": "a"});
    let events = [set, mail("MessageRead", 2), new, renamed];
    let (user, lines) = dlog::lines(&delivery(&events, Part::WHOLE)).expect("events");
    assert_eq!(user, "ann");
    let expected = [
        "Called begin_txn push_notification plugin hook.",
        "Called process_msg push_notification plugin hook.",
        "Message data: Mailbox [INBOX], UID [2], UIDVALIDITY [9]",
        "FlagsSet: Seen flag set",
        "FlagsSet: Keyword set [$label1]",
        "MessageRead: Message was flagged as seen",
        "Called process_msg push_notification plugin hook.",
        "Message data: Mailbox [INBOX], UID [3], UIDVALIDITY [9]",
        "MessageNew: From [Bob <bob@example.org>]",
        "Called process_mbox push_notification plugin hook.",
        "Mailbox data: Mailbox [b]",
        "MailboxRename: Mailbox was renamed (old name: a)",
        "Called end_txn push_notification plugin hook.",
    ];
    assert_eq!(lines, expected);
    let part = Part {
        is_first: false,
        is_last: false,
        ..Part::WHOLE
    };
    let (_, middle) = dlog::lines(&delivery(&events[1..2], part)).expect("an event");
    assert_eq!(middle.len(), 3);
    // What it is of was logged before.
    let end = dlog::lines(&delivery(&events[1..2], Part::LOST_END)).expect("an event");
    assert_eq!(end, ("ann".to_owned(), vec![expected[12].to_owned()]));
}

#[test]
fn what_dlog_writes_of_a_mail_begins_no_other_line() {
    let event = json!({
        "user": "ann", "mailbox": "a\nb", "event": "MessageNew", "uidvalidity": 9, "uid": 3,
        "subject": "a\r\n\t2026-11-28 ERROR dovecast: \u{1b}[31mb", "snippet": "Grüße",
    });
    let (_, lines) = dlog::lines(&delivery(&[event], Part::WHOLE)).expect("an event");
    let expected = [
        "Called begin_txn push_notification plugin hook.",
        "Called process_msg push_notification plugin hook.",
        r"Message data: Mailbox [a\nb], UID [3], UIDVALIDITY [9]",
        "MessageNew: Snippet [Grüße]",
        r"MessageNew: Subject [a\r\n\t2026-11-28 ERROR dovecast: \u{1b}[31mb]",
        "Called end_txn push_notification plugin hook.",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn dlog_says_once_a_minute_what_the_plugin_leaves_out() {
    let event = |kind: &str, more: &Value| {
        let mut event = json!({"user": "ann", "mailbox": "INBOX", "event": kind});
        let more = more.as_object().expect("an object").clone();
        event.as_object_mut().expect("an object").extend(more);
        delivery(&[event], Part::WHOLE)
    };
    let keywords = json!({"timestamp": "t", "keywords": []});
    for (told, expected) in [
        (event("MessageRead", &json!({})), "missing=\"detail=full\""),
        (event("FlagsSet", &keywords), "missing=\"keyword_prefix=\""),
        (event("MessageRead", &json!({"timestamp": "t"})), ""),
    ] {
        let (lines, _guard) = Lines::collect();
        let dlog = dlog::Dlog::default();
        for _ in 0..3 {
            dlog.look(&told);
        }
        let log = lines.text();
        let times = log
            .matches("events lack what the driver dlog shows")
            .count();
        assert_eq!(times, usize::from(!expected.is_empty()), "{log}");
        assert!(log.contains(expected), "{log}");
    }
}

async fn body_of(target: &Arc<dyn Target>, event: &Value) -> Result<String, String> {
    let delivery = delivery(std::slice::from_ref(event), Part::WHOLE);
    let made = target.render(&delivery).await.expect("a body");
    made.map(|made| String::from_utf8(made.body.to_vec()).expect("UTF-8"))
}

#[tokio::test]
async fn ox_escapes_controls_as_the_dovecot_does_whose_spelling_the_block_has() {
    let event = json!({
        "user": "ann", "mailbox": "INBOX", "event": "MessageNew", "uidvalidity": 9, "uid": 3,
        "subject": "a\u{b}\u{1f}\t\u{2028}",
        "metadata": {"/private/vendor/vendor.dovecot/http-notify": "user=11@3"}
    });
    for (driver, options, subject) in [
        ("ox:url=http://h/", &[][..], r"a\u000b\u001f\t\u2028"),
        ("ox", &[("url", "http://h/")], r"a\u000b\u001f\t\u2028"),
        ("ox", &[("ox_url", "http://h/")], r"a\u000B\u001F\t\u2028"),
        (
            "ox",
            &[("push_notification_ox_url", "http://h/")],
            r"a\u000B\u001F\t\u2028",
        ),
    ] {
        let ox = made(&block(driver, options)).expect("a driver").target;
        let body = body_of(&ox, &event).await.expect("a body");
        let expected = format!(r#""subject":"{subject}""#);
        assert!(body.contains(&expected), "{driver} {options:?}: {body}");
    }
}

#[tokio::test]
async fn ox_sends_what_dovecot_sends_or_nothing() {
    let ox = |driver: &str| made(&block(driver, &[])).expect("a driver").target;
    let login = ox("ox:url=http://h/");
    let named = ox("ox:url=http://h/ user_from_metadata");
    let event = json!({
        "user": "ann", "mailbox": "INBOX", "event": "MessageNew", "uidvalidity": 9, "uid": 3,
        "from": "B\u{2028}ob <b@x.example>", "subject": "a \"q\"\n\\/\u{1}\u{7f}", "snippet": "",
        "timestamp": "2026-11-20T00:00:00.000Z", "unseen": 2,
        "metadata": {"/private/vendor/vendor.dovecot/http-notify": "user=1@1\tx\tuser=11@3"}
    });
    let expected = |user: &str| {
        format!(
            r#"{{"user":"{user}","event":"messageNew","folder":"INBOX","imap-uidvalidity":9,"imap-uid":3,"from":"B\u2028ob <b@x.example>","subject":"a \"q\"\n\\/\u0001{}","snippet":"","unseen":2}}"#,
            '\u{7f}'
        )
    };
    assert_eq!(body_of(&login, &event).await, Ok(expected("ann")));
    assert_eq!(body_of(&named, &event).await, Ok(expected("11@3")));
    let mut escaped = event.clone();
    let entry = "user=11\u{1}t3\u{1}1";
    escaped["metadata"] = json!({"/private/vendor/vendor.dovecot/http-notify": entry});
    let escaped = body_of(&named, &escaped).await;
    assert_eq!(escaped, Ok(expected(r"11\t3\u0001")));
    for (field, value, why) in [
        ("mailbox", json!("Junk"), "it is no MessageNew in INBOX"),
        (
            "metadata",
            json!({}),
            "not active (/private/vendor/vendor.dovecot/http-notify METADATA not set)",
        ),
        (
            "metadata",
            json!({"/private/vendor/vendor.dovecot/http-notify": "x"}),
            "No user provided in config",
        ),
    ] {
        let mut other = event.clone();
        other[field] = value;
        assert_eq!(body_of(&login, &other).await, Err(why.to_owned()));
    }
}

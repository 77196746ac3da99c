//! What the driver does within one attempt, and what it logs of events that lack something.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dovecast_dispatch::driver::{Attempt, Outcome, Part, Target};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::request::Request;
use crate::configured::Surroundings;
use crate::configured::tests::{Lines, block, delivery};
use crate::http::sockets::Sockets;

const PATIENCE: std::time::Duration = dovecast_testkit::PATIENCE;

/// An end-point that answers the requests of one connection after the other with these; `None`: it
/// takes the request and hangs. What is behind the last one hangs, too.
async fn end_point(answers: Vec<Option<&'static str>>) -> (String, UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (sender, requests) = unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (sender, answer) = (sender.clone(), answers.next().flatten());
            tokio::spawn(async move {
                let mut request = Vec::new();
                // The body is JSON, in one object.
                while !request.ends_with(b"}") {
                    if stream.read_buf(&mut request).await? == 0 {
                        break;
                    }
                }
                sender.send(()).ok();
                match answer {
                    Some(answer) => stream.write_all(answer.as_bytes()).await,
                    None => stream.read_buf(&mut request).await.map(|_| ()),
                }
            });
        }
    });
    (format!("http://{address}/notify"), requests)
}

fn target(driver: &str) -> Arc<dyn Target> {
    let surroundings = Surroundings {
        sockets: Sockets::default(),
        lua_host: Vec::new(),
        lua_script_file: None,
        lua_attempt_limit: std::time::Duration::ZERO,
    };
    let made = block(driver, &[]).make(&surroundings);
    made.expect("a driver").target
}

fn new_mail(metadata: &Value) -> Value {
    json!({
        "user": "ann", "mailbox": "INBOX", "event": "MessageNew", "uidvalidity": 9, "uid": 3,
        "metadata": metadata
    })
}

fn asked_for() -> Value {
    new_mail(&json!({"/private/vendor/vendor.dovecot/http-notify": "user=11@3"}))
}

async fn attempt(target: &Arc<dyn Target>, event: Value) -> Attempt {
    let mut courier = Arc::clone(target).open();
    courier.deliver(&delivery(&[event], Part::WHOLE)).await
}

#[test]
fn host_and_login_are_sent_as_they_are_written() {
    for (url, host, login) in [
        ("http://ox.example.org/n", "ox.example.org", None),
        ("http://ox.example.org:80/n", "ox.example.org:80", None),
        ("https://OX.example.org:443?n", "OX.example.org:443", None),
        ("http://ox.example.org:/n", "ox.example.org", None),
        ("http://10.0.0.1:08009", "10.0.0.1:8009", None),
        ("http://[::1]/n", "[::1]", None),
        ("http://[::1]:80/n", "[::1]:80", None),
        ("http://login:@h/", "h", Some("login:")),
        ("http://login@h/", "h", None),
        ("http://:pass@h/", "h", None),
        ("http://l%40x:p%3Aa:b@h:80/@", "h:80", Some("l@x:p:a:b")),
        (
            "http://b\u{fc}cher.example:80/",
            "xn--bcher-kva.example:80",
            None,
        ),
    ] {
        let parsed = url::Url::parse(url).expect(url);
        let request = Request::new(&parsed, url).expect(url).put(Vec::new());
        let headers = request.headers();
        assert_eq!(headers[HOST], host, "{url}");
        let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let expected = login.map(|login| format!("Basic {}", BASE64_STANDARD.encode(login)));
        assert_eq!(sent, expected.as_deref().map(str::as_bytes), "{url}");
    }
}

#[tokio::test]
async fn an_end_point_that_hangs_is_tried_as_often_as_the_block_says() {
    for (options, tries) in [("max_retries=0", 1), ("", 2), ("max_retries=2", 3)] {
        let (url, mut requests) = end_point(Vec::new()).await;
        let ox = target(&format!("ox:url={url} timeout_msecs=100 {options}"));
        let attempt = attempt(&ox, asked_for()).await;
        let Outcome::Failed { reason, .. } = attempt.outcome else {
            panic!("{options}: {attempt:?}");
        };
        assert_eq!(reason, "no answer within 100 ms", "{options}");
        for _ in 0..tries {
            let request = tokio::time::timeout(PATIENCE, requests.recv()).await;
            assert!(request.is_ok(), "{options}: too few");
        }
        assert!(requests.try_recv().is_err(), "{options}: too many");
    }
}

#[tokio::test]
async fn a_try_that_is_answered_is_the_last_one_of_an_attempt() {
    const NOT_NOW: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const GONE: &str = "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n";
    for (answers, tries) in [
        (vec![Some(NOT_NOW), Some(OK)], 1),
        (vec![Some(GONE), Some(OK)], 1),
        (vec![None, Some(OK), Some(GONE)], 2),
    ] {
        let (url, mut requests) = end_point(answers.clone()).await;
        let ox = target(&format!("ox:url={url} timeout_msecs=1000 max_retries=5"));
        let outcome = attempt(&ox, asked_for()).await.outcome;
        let is_right = match answers[tries - 1] {
            Some(OK) => outcome == Outcome::Delivered,
            // It does not switch the driver off.
            Some(GONE) => matches!(outcome, Outcome::Refused { .. }),
            _ => matches!(outcome, Outcome::Failed { .. }),
        };
        assert!(is_right, "{answers:?}: {outcome:?}");
        let mut count = 0;
        while requests.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, tries, "{answers:?}");
    }
}

#[tokio::test]
async fn events_without_metadata_are_told_of_once_a_minute() {
    const LINE: &str = "gets events without METADATA and sends nothing";
    let (lines, _guard) = Lines::collect();
    let blind = target("ox:url=http://127.0.0.1:1/");
    for _ in 0..3 {
        let attempt = attempt(&blind, new_mail(&json!({}))).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
    }
    let log = lines.text();
    assert_eq!(log.matches(LINE).count(), 1, "{log}");
    let options = "set `detail=full metadata=/private/vendor/vendor.dovecot/http-notify`";
    assert!(log.contains(options), "{log}");
    // Where METADATA come, one who has none has not asked for it.
    let (lines, _guard) = Lines::collect();
    let (url, _requests) = end_point(Vec::new()).await;
    let seeing = target(&format!("ox:url={url} timeout_msecs=50 max_retries=0"));
    attempt(&seeing, asked_for()).await;
    let mut without = new_mail(&json!({}));
    without["timestamp"] = json!("2026-11-20T00:00:00.000Z");
    attempt(&seeing, without).await;
    assert!(!lines.text().contains(LINE), "{}", lines.text());
}

#[tokio::test]
async fn metadata_that_name_no_user_are_told_of_once_a_minute() {
    let (lines, _guard) = Lines::collect();
    let ox = target("ox:url=http://127.0.0.1:1/");
    for _ in 0..3 {
        let entry = json!({"/private/vendor/vendor.dovecot/http-notify": "x=1"});
        attempt(&ox, new_mail(&entry)).await;
    }
    let log = lines.text();
    let line = "No user provided in config";
    assert_eq!(log.matches(line).count(), 1, "{log}");
}

//! What is sent, and what comes of each kind of answer.

use std::time::Duration;

use dovecast_dispatch::driver::{Courier, Outcome};
use dovecast_drivers::signature::{Secret, sign};
use dovecast_drivers::webhook::{Authorization, Webhook, WebhookOptions};
use dovecast_testkit::endpoint::{Answer, OK};

use crate::{BODY, SECRET, delivery, endpoint, failed, options, sender};

#[tokio::test]
async fn the_request_is_what_the_specification_says() {
    let receiver = endpoint([OK]);
    let options = WebhookOptions {
        headers: vec![("X-Team".to_owned(), "mail".to_owned())],
        authorization: Some(Authorization::Bearer("abc".to_owned())),
        secrets: vec![SECRET.to_owned(), SECRET.to_owned()],
        ..options(&receiver.url("/hook/me?a=b%20c"))
    };
    let attempt = sender(&options).deliver(&delivery()).await;
    assert_eq!(
        (&attempt.outcome, attempt.status()),
        (&Outcome::Delivered, Some(204))
    );
    let answer = attempt.answer.expect("an answer");
    assert!(answer.head.starts_with("HTTP/1.1 204 No Content\r\n"));

    let request = receiver.next().expect("a request");
    let timestamp = request
        .header("webhook-timestamp")
        .expect("a time")
        .to_owned();
    let secret = Secret::parse(SECRET).expect("a secret");
    let signature = sign(
        &[secret.clone(), secret],
        "msg_1",
        &timestamp,
        request.body.as_bytes(),
    );
    assert_eq!(request.body, BODY);
    assert_eq!(
        request.head,
        [
            "POST /hook/me?a=b%20c HTTP/1.1".to_owned(),
            format!("host: {}", receiver.address),
            "content-type: application/json".to_owned(),
            format!("user-agent: dovecast/{}", env!("CARGO_PKG_VERSION")),
            "x-team: mail".to_owned(),
            "authorization: Bearer abc".to_owned(),
            format!("webhook-signature: {signature}"),
            "webhook-id: msg_1".to_owned(),
            format!("webhook-timestamp: {timestamp}"),
            format!("content-length: {}", BODY.len()),
        ]
    );
}

type Check = fn(&Outcome) -> bool;

#[tokio::test]
async fn each_answer_means_what_it_should() {
    let is_failed: Check = |outcome| matches!(outcome, Outcome::Failed { .. });
    let is_refused: Check = |outcome| matches!(outcome, Outcome::Refused { .. });
    let is_gone: Check = |outcome| matches!(outcome, Outcome::Gone { .. });
    let is_delivered: Check = |outcome| *outcome == Outcome::Delivered;
    let waits: Check = |outcome| matches!(outcome, Outcome::Failed { retry_after: Some(wait), .. } if *wait == Duration::from_secs(7));
    let waits_a_day: Check = |outcome| matches!(outcome, Outcome::Failed { retry_after: Some(wait), .. } if *wait == Duration::from_hours(24));
    for (answer, status, is_expected) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            200,
            is_delivered,
        ),
        (
            "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            202,
            is_delivered,
        ),
        (
            "HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            301,
            is_refused,
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 304, is_refused),
        (
            "HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n",
            400,
            is_refused,
        ),
        (
            "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n",
            401,
            is_refused,
        ),
        (
            "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
            404,
            is_refused,
        ),
        (
            "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
            410,
            is_gone,
        ),
        (
            "HTTP/1.1 408 Late\r\ncontent-length: 0\r\n\r\n",
            408,
            is_failed,
        ),
        (
            "HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n",
            409,
            is_failed,
        ),
        (
            "HTTP/1.1 425 Early\r\ncontent-length: 0\r\n\r\n",
            425,
            is_failed,
        ),
        (
            "HTTP/1.1 429 Many\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            429,
            waits,
        ),
        (
            "HTTP/1.1 503 Down\r\nretry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n",
            503,
            waits_a_day,
        ),
        (
            "HTTP/1.1 503 Down\r\nretry-after: soon\r\ncontent-length: 0\r\n\r\n",
            503,
            is_failed,
        ),
        (
            "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
            500,
            is_failed,
        ),
        (
            "HTTP/1.1 599 Odd\r\ncontent-length: 0\r\n\r\n",
            599,
            is_failed,
        ),
    ] {
        let receiver = endpoint([Answer::Bytes(answer)]);
        let attempt = sender(&options(&receiver.url("/")))
            .deliver(&delivery())
            .await;
        assert_eq!(attempt.status(), Some(status), "{answer}: {attempt:?}");
        assert!(is_expected(&attempt.outcome), "{answer}: {attempt:?}");
        receiver.next().expect("a request");
        assert!(receiver.has_none(), "{answer}: asked twice");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_that_says_why() {
    for (answer, expected) in [
        (Answer::Last("hello"), "invalid HTTP version parsed"),
        (
            Answer::Last(""),
            "connection closed before message completed",
        ),
    ] {
        let receiver = endpoint([answer]);
        let attempt = sender(&options(&receiver.url("/")))
            .deliver(&delivery())
            .await;
        let reason = failed(attempt.outcome);
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
    let receiver = endpoint([Answer::Silence]);
    let mut impatient = options(&receiver.url("/"));
    impatient.timeout = Duration::from_secs(2);
    let reason = failed(sender(&impatient).deliver(&delivery()).await.outcome);
    assert_eq!(reason, "no answer within 2000 ms");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let attempt = sender(&options(&format!("http://{address}/")))
        .deliver(&delivery())
        .await;
    let reason = failed(attempt.outcome);
    assert_eq!(reason, format!("no connection to {address}"));
    let attempt = sender(&options("http://no-such-host.invalid/"))
        .deliver(&delivery())
        .await;
    let reason = failed(attempt.outcome);
    assert!(
        reason.contains("cannot find the address of `no-such-host.invalid`"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_connection_is_used_again_and_one_that_was_closed_meanwhile_is_no_failure() {
    let receiver = endpoint([
        OK,
        OK,
        Answer::Last("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        OK,
    ]);
    let mut sender = sender(&options(&receiver.url("/")));
    for expected in [0, 0, 0] {
        let attempt = sender.deliver(&delivery()).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
        assert_eq!(receiver.next().expect("a request").connection, expected);
    }
    // Closed by the endpoint, seen or not.
    let attempt = sender.deliver(&delivery()).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    assert_eq!(receiver.next().expect("a request").connection, 1);
    assert!(receiver.has_none());
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let long: &'static str = Box::leak(
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\nx: {}\r\n\r\n{}",
            "y".repeat(9000),
            "z".repeat(200_000)
        )
        .into_boxed_str(),
    );
    let receiver = endpoint([Answer::Last(long), OK]);
    let mut sender = sender(&options(&receiver.url("/")));
    let attempt = sender.deliver(&delivery()).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    assert_eq!(attempt.answer.expect("an answer").head.len(), 2048);
    receiver.next().expect("a request");
    sender.deliver(&delivery()).await;
    assert_eq!(receiver.next().expect("a request").connection, 1);
}

#[test]
fn a_webhook_that_cannot_be_sent_to_is_refused_with_the_reason() {
    let with = |change: fn(&mut WebhookOptions)| {
        let mut options = options("https://user:geheim@example.org/");
        change(&mut options);
        Webhook::new(&options).expect_err("refused").to_string()
    };
    for (error, expected) in [
        (
            with(|options| options.url = "example".to_owned()),
            "`example` is not a URL",
        ),
        (
            with(|options| options.url = "ftp://u:geheim@example.org/".to_owned()),
            "`ftp://example.org/` is not an http or https URL",
        ),
        (
            with(|options| options.headers = vec![("webhook-id".to_owned(), "1".to_owned())]),
            "`webhook-id` is a header that cannot be set",
        ),
        (
            with(|options| options.headers = vec![("x".to_owned(), "geheim\n".to_owned())]),
            "`x` has a value that is not ASCII",
        ),
        (
            with(|options| {
                options.authorization = Some(Authorization::Bearer("geheim\n".to_owned()));
            }),
            "the token is empty or has characters",
        ),
        (
            with(|options| options.secrets = vec!["geheim".to_owned()]),
            "a signing secret is `whsec_`",
        ),
        (
            with(|options| options.server_ca = Some("geheim".to_owned())),
            "invalid certificate",
        ),
    ] {
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("geheim"), "{error}");
    }
    let webhook = Webhook::new(&WebhookOptions {
        headers: vec![("x".to_owned(), "geheim".to_owned())],
        authorization: Some(Authorization::Basic("u".to_owned(), "geheim".to_owned())),
        secrets: vec![SECRET.to_owned()],
        ..options("http://example.org/")
    });
    let shown = format!("{:?}", webhook.expect("a webhook"));
    assert!(
        !shown.contains("geheim") && !shown.contains("dTpnZWhlaW0") && !shown.contains("MfKQ"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_header_of_the_endpoint_goes_before_ours_and_before_the_url() {
    let receiver = endpoint([OK]);
    let url = receiver.url("/").replace("http://", "http://user:geheim@");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = WebhookOptions {
        headers: vec![header("User-Agent", "me"), header("Authorization", "Key 1")],
        ..options(&url)
    };
    sender(&options).deliver(&delivery()).await;
    let request = receiver.next().expect("a request");
    let all = |name: &str| -> Vec<String> {
        let lines = request.head.iter().filter_map(|line| line.split_once(": "));
        let found = lines.filter(|(found, _)| *found == name);
        found.map(|(_, value)| value.to_owned()).collect()
    };
    assert_eq!(all("user-agent"), ["me"]);
    assert_eq!(all("authorization"), ["Key 1"]);
}

#[tokio::test]
async fn headers_that_were_saved_earlier_are_still_sent() {
    let receiver = endpoint([OK]);
    let headers = ["X-Api_Key", "X-Forwarded-Prefix", "Expect"];
    let options = WebhookOptions {
        headers: headers
            .map(|name| (name.to_owned(), "mine".to_owned()))
            .into(),
        ..options(&receiver.url("/"))
    };
    let outcome = sender(&options).deliver(&delivery()).await.outcome;
    assert_eq!(outcome, Outcome::Delivered);
    let request = receiver.next().expect("a request");
    for name in headers {
        assert_eq!(request.header(name), Some("mine"), "{name}");
    }
}

//! Answers whose head is there and whose headers or body are not as they should be: the status
//! counts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use dovecast_dispatch::driver::{Courier, Outcome};
use dovecast_drivers::webhook::{Sender, WebhookOptions};

use crate::{delivery, failed, options, sender};

/// What a receiver does when it has written what it has to say.
#[derive(Clone, Copy, Debug)]
enum Then {
    Close,
    /// Closes with a part of the request unread: the connection is reset.
    Reset,
    /// Says nothing more.
    Stay,
    /// One byte after the other, slowly.
    Trickle,
    /// Bytes without end.
    Pour,
}

/// Answers the first request so, and all others with 204. Tells of each request.
fn receiver(answer: Vec<u8>, then: Then) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (told, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (number, stream) in listener.incoming().flatten().enumerate() {
            if number == 0 {
                let (answer, told) = (answer.clone(), told.clone());
                kept.push(std::thread::spawn(move || {
                    odd(stream, &answer, then, &told);
                }));
            } else {
                as_ever(stream, &told);
            }
        }
    });
    (address, requests)
}

/// Reads the head of a request and, where nothing is to be left unread, its body.
fn request(stream: &mut TcpStream, then: Then) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return false;
        }
        head.push(byte[0]);
    }
    let mut body = vec![0; crate::BODY.len()];
    matches!(then, Then::Reset) || stream.read_exact(&mut body).is_ok()
}

fn odd(mut stream: TcpStream, answer: &[u8], then: Then, told: &mpsc::Sender<()>) {
    if !request(&mut stream, then) {
        return;
    }
    told.send(()).ok();
    if stream.write_all(answer).is_err() {
        return;
    }
    match then {
        Then::Close | Then::Reset => {}
        // Until the other side goes.
        Then::Stay => drop(stream.read(&mut [0])),
        Then::Trickle => {
            while stream.write_all(b"a").is_ok() {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        Then::Pour => while stream.write_all(&[b'a'; 8192]).is_ok() {},
    }
}

fn as_ever(mut stream: TcpStream, told: &mpsc::Sender<()>) {
    while request(&mut stream, Then::Close) {
        told.send(()).ok();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok();
    }
}

/// Delivers there, however long the machine takes.
fn patient(address: SocketAddr) -> Sender {
    sender(&WebhookOptions {
        timeout: Duration::from_mins(2),
        ..options(&format!("http://{address}/"))
    })
}

/// The attempt has this status, was made once, and the next one is not disturbed.
async fn check(answer: impl AsRef<[u8]>, then: Then, status: u16) -> String {
    let answer = answer.as_ref();
    let said = String::from_utf8_lossy(&answer[..answer.len().min(100)]).into_owned();
    let (address, requests) = receiver(answer.to_vec(), then);
    let mut sender = patient(address);
    let attempt = sender.deliver(&delivery()).await;
    assert_eq!(
        attempt.status(),
        Some(status),
        "{said:?}, {then:?}: {attempt:?}"
    );
    match status {
        200..=299 => assert_eq!(attempt.outcome, Outcome::Delivered, "{said:?}"),
        404 => assert!(
            matches!(attempt.outcome, Outcome::Refused { .. }),
            "{said:?}"
        ),
        _ => assert!(failed(attempt.outcome).contains("answers"), "{said:?}"),
    }
    requests.recv().expect("a request");
    assert!(requests.try_recv().is_err(), "{said:?}: asked twice");
    let next = sender.deliver(&delivery()).await;
    assert_eq!(next.status(), Some(204), "{said:?}, {then:?}: {next:?}");
    attempt.answer.expect("an answer").head
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_the_answer_whatever_becomes_of_the_body() {
    for (answer, then) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
            Then::Close,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
            Then::Reset,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab",
            Then::Stay,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab",
            Then::Trickle,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n",
            Then::Pour,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nok", Then::Stay),
        ("HTTP/1.1 200 OK\r\n\r\nok", Then::Reset),
        ("HTTP/1.1 200 OK\r\n\r\n", Then::Pour),
        ("HTTP/1.0 200 OK\r\n\r\nok", Then::Trickle),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
            Then::Close,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            Then::Stay,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            Then::Stay,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\nbut some", Then::Stay),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok",
            Then::Stay,
        ),
    ] {
        check(answer, then, 200 + 4 * u16::from(answer.contains("204"))).await;
    }
    for (status, then) in [(503, Then::Close), (429, Then::Stay), (404, Then::Reset)] {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 100\r\n\r\nhello");
        check(answer, then, status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_the_answer_however_odd_its_headers_are() {
    let many = "X-Many: 1\r\n".repeat(101);
    let long = format!("X-Long: {}\r\n", "a".repeat(100_000));
    for header in [
        "X-A : 1\r\n",
        "Set-Cookie: a=b;\r\n  path=/\r\n",
        "Set-Cookie:\r\n\ta=b\r\n",
        "X-Foo without colon\r\n",
        "X A: 1\r\n",
        "X-\u{e9}: 1\r\n",
        "X-Latin: \u{e9}\r\n",
        "X: \u{1}\r\n",
        "X: \0\r\n",
        "\0: a\r\n",
        ": nameless\r\n",
        " before: the first\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length: many\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Connection\r\n",
        many.as_str(),
        long.as_str(),
    ] {
        for status in [200, 503, 404] {
            let answer = format!("HTTP/1.1 {status} Told\r\n{header}Content-Length: 0\r\n\r\n");
            let head = check(answer, Then::Close, status).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        }
    }
    for head in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 \u{1}\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        check(head, Then::Close, 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_found_among_headers_that_are_none() {
    let answer = "HTTP/1.1 503 Down\r\nnot a header\r\nX-A : 1\r\nRetry-After : 7\r\nContent-Length: 0\r\n\r\n";
    let (address, _requests) = receiver(answer.as_bytes().to_vec(), Then::Stay);
    let mut sender = patient(address);
    match sender.deliver(&delivery()).await.outcome {
        Outcome::Failed { retry_after, .. } => {
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_no_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 20",
    ] {
        let (address, _requests) = receiver(answer.as_bytes().to_vec(), Then::Close);
        let mut sender = patient(address);
        let attempt = sender.deliver(&delivery()).await;
        assert_eq!(attempt.answer, None, "{answer:?}: {attempt:?}");
        failed(attempt.outcome);
    }
}

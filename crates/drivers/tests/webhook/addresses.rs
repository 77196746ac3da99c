//! Where no request goes: not to an address of this host or its networks, by whatever name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dovecast_dispatch::driver::{Courier, Outcome};
use dovecast_drivers::guard::{Guard, Lookup, Resolve};
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::webhook::{Sender, Webhook, WebhookOptions};
use dovecast_testkit::endpoint::OK;

use crate::{delivery, endpoint, failed, options};

/// A name server that says something else each time.
struct Changing {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl Resolve for Changing {
    fn lookup<'a>(&'a self, _: &'a str, _: &'a str, _: u16) -> Lookup<'a> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.answers.get(asked).cloned();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("asked too often")) })
    }
}

fn to(url: &str, guard: Guard) -> Sender {
    Sender::new(
        Arc::new(Webhook::new(&options(url)).expect("a webhook")),
        guard,
        &Sockets::default(),
    )
}

#[tokio::test]
async fn a_request_to_an_address_that_is_not_public_is_not_sent() {
    let receiver = endpoint([OK]);
    let port = receiver.address.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
    ] {
        let mut sender = to(&format!("http://{host}:{port}/"), Guard::new(&[]));
        let reason = failed(sender.deliver(&delivery()).await.outcome);
        assert!(
            reason.contains("is at no public address"),
            "{host}: {reason}"
        );
    }
    assert!(receiver.has_none(), "a request has arrived");
}

/// A place that takes no connection and refuses none: its queue is full. It is so until the sockets
/// are dropped.
async fn silent() -> (
    SocketAddr,
    Vec<tokio::net::TcpStream>,
    tokio::net::TcpListener,
) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a port");
    // Linux lets one more in than the backlog says.
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let stream = tokio::net::TcpStream::connect(address).await;
        waiting.push(stream.expect("room in the queue"));
    }
    (address, waiting, listener)
}

/// A name at these addresses.
fn at(addresses: Vec<SocketAddr>) -> Guard {
    let resolver = Changing {
        answers: vec![addresses],
        asked: AtomicUsize::new(0),
    };
    let allowed = ["127.0.0.0/8".parse().expect("a network")];
    Guard::with_resolver(&allowed, Arc::new(resolver))
}

fn refusing() -> SocketAddr {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    nobody.local_addr().expect("an address")
}

#[tokio::test]
async fn the_next_address_is_tried_before_one_that_says_nothing_is_given_up() {
    let receiver = endpoint([OK]);
    let (hangs, _queue, _listener) = silent().await;
    let addresses = vec![
        hangs,
        refusing(),
        "10.0.0.1:80".parse().expect("an address"),
        receiver.address,
    ];
    let mut sender = to("http://several.example/", at(addresses));
    let attempt = sender.deliver(&delivery()).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    receiver.next().expect("a request");
    assert!(receiver.has_none(), "sent over one connection only");
}

#[tokio::test]
async fn an_error_of_connecting_names_the_addresses() {
    let (first, second) = (refusing(), refusing());
    let mut sender = to("http://several.example/", at(vec![first, second]));
    let reason = failed(sender.deliver(&delivery()).await.outcome);
    assert_eq!(reason, format!("no connection to {first}, {second}"));
    let (hangs, _queue, _listener) = silent().await;
    let impatient = WebhookOptions {
        timeout: Duration::from_millis(50),
        ..options("http://several.example/")
    };
    let webhook = Arc::new(Webhook::new(&impatient).expect("a webhook"));
    let mut sender = Sender::new(webhook, at(vec![hangs]), &Sockets::default());
    let reason = failed(sender.deliver(&delivery()).await.outcome);
    // What listens there is not told by how it fails.
    assert_eq!(reason, format!("no connection to {hangs}"));
}

#[tokio::test]
async fn a_name_is_asked_once_and_the_connection_goes_where_it_was_checked() {
    let receiver = endpoint([OK]);
    let allowed = ["127.0.0.0/8".parse().expect("a network")];
    let private: SocketAddr = "10.0.0.1:80".parse().expect("an address");
    // Allowed when it is asked, and private for whoever asked again.
    let resolver = Arc::new(Changing {
        answers: vec![vec![private, receiver.address], vec![private]],
        asked: AtomicUsize::new(0),
    });
    let guard = Guard::with_resolver(&allowed, Arc::clone(&resolver) as Arc<dyn Resolve>);
    let mut sender = to("http://changing.example/", guard.clone());
    assert_eq!(
        sender.deliver(&delivery()).await.outcome,
        Outcome::Delivered
    );
    assert_eq!(resolver.asked.load(Ordering::Relaxed), 1);
    assert_eq!(
        receiver.next().expect("a request").header("host"),
        Some("changing.example")
    );
    // A new connection is checked anew.
    let mut sender = to("http://changing.example/", guard);
    let reason = failed(sender.deliver(&delivery()).await.outcome);
    assert_eq!(
        reason,
        "`changing.example` is at no public address, and at none of the networks that `allowed_networks` of [dispatch] names"
    );
}

//! Where no request goes: not to an address of this host or its networks, by whatever name.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dovecast_dispatch::driver::{Courier, Outcome};
use dovecast_drivers::guard::{Guard, Lookup, Resolve};
use dovecast_drivers::webhook::{Sender, Webhook};
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
        "`changing.example` is at no public address, and at none of the allowed networks"
    );
}

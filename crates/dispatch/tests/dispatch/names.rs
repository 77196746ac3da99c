//! Endpoints whose names hang: those of another account get everything meanwhile.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dovecast_dispatch::driver::Target;
use dovecast_drivers::guard::{Guard, Resolve};
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::names::{NameLimits, Names};
use dovecast_drivers::webhook::{Webhook, WebhookOptions};

use crate::sink::Sink;
use crate::world::{World, notification_of, until_taken};

/// Everything is on this host, but names that begin with `hangs` are not found before the sender is
/// gone.
fn names() -> (Arc<Names>, Sender<()>) {
    let (release, hanging): (_, Receiver<()>) = channel();
    let hanging = Mutex::new(hanging);
    let find = move |name: &str| {
        if name.starts_with("hangs") {
            let released = hanging.lock().expect("not poisoned").recv();
            return Err(io::Error::other(released.expect_err("nothing is sent")));
        }
        Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
    };
    (Arc::new(Names::new(find, NameLimits::default())), release)
}

fn webhook(guard: &Guard, host: &str, port: u16) -> Arc<dyn Target> {
    let webhook = Webhook::new(&WebhookOptions {
        url: format!("http://{host}:{port}/"),
        timeout: Duration::from_hours(1),
        ..WebhookOptions::default()
    });
    webhook
        .expect("a webhook")
        .target(guard.clone(), Sockets::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_endpoints_whose_names_hang_keep_none_of_another_account_waiting() {
    let mut world = World::new();
    let (names, release) = names();
    let allowed = ["127.0.0.0/8".parse().expect("a network")];
    let guard = Guard::with_resolver(&allowed, Arc::clone(&names) as Arc<dyn Resolve>);
    let sink = Sink::start().await;
    for number in 0..600 {
        world.put(number, &sink, |endpoint| {
            endpoint.account = "bad".into();
            let guard = guard.for_account("bad".into());
            endpoint.target = webhook(&guard, &format!("hangs{number}"), 9);
        });
    }
    world.put(1_000, &sink, |endpoint| {
        endpoint.account = "good".into();
        let guard = guard.for_account("good".into());
        endpoint.target = webhook(&guard, "fine", sink.address.port());
    });
    world.start();
    // The names that hang are asked for first.
    world.append([notification_of("bad", "0")]).await;
    crate::world::until("all names are asked for", || async {
        let stats = names.stats();
        stats.under_way + stats.waiting == 600
    })
    .await;
    for number in 0..500 {
        let message = number.to_string();
        world
            .append([
                notification_of("bad", &message),
                notification_of("good", &message),
            ])
            .await;
    }
    until_taken(&sink, 500).await;
    let stats = names.stats();
    // Attempts that hang are ended where they are too many, and nobody asks for their names then.
    assert!(stats.under_way + stats.waiting > 0, "none has ended");
    assert_eq!(stats.lookups, 1);
    drop(release);
}

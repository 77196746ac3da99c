//! What a listener takes: thousands of them on one thread, whose allocations are counted; the
//! stand-in is on another. `DOVECAST_LISTENERS` says how many (10000 for the figures of docs).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{Login, Secret};
use dovecast_mail_push::sources::{Boxed, Heard, HeardSink, IdleOptions, ImapIdle, Snapshot};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::stand_in::{Behaviour, StandIn};

/// Most bytes of the heap that a listener may take.
const MAX_BYTES: u64 = 48 * 1024;
/// Listeners where nothing else is said: enough to divide what all share.
const LISTENERS: usize = 500;
/// Mails in the mailbox of each.
const MAILS: usize = 1000;

/// Stores nothing.
struct Nowhere;

impl HeardSink for Nowhere {
    fn take<'a>(&'a self, _: &'a Person, _: &'a [Heard], _: &'a Snapshot) -> Boxed<'a, bool> {
        Box::pin(std::future::ready(true))
    }
}

#[test]
fn a_listener_that_waits_takes_little_memory() {
    let number = std::env::var("DOVECAST_LISTENERS").ok();
    let number = number.map_or(LISTENERS, |number| number.parse().expect("a number"));
    let of_server = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = of_server.block_on(StandIn::start(Behaviour::default()));
    server.change(|mailbox| {
        for mail in 0..MAILS {
            mailbox.deliver(if mail % 10 == 0 { "" } else { "\\Seen" });
        }
    });
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let idle = ImapIdle::new(server.server(), IdleOptions::default(), Arc::new(Nowhere));
    let mut listeners = JoinSet::new();
    let used = allocation_counter::measure(|| {
        runtime.block_on(async {
            for user in 0..number {
                let user = user.to_string();
                let person = Person::new("3", &user, &user).expect("a person");
                let login = Login::Password {
                    login: Arc::clone(&person.login),
                    password: Secret::new("a password".into()),
                };
                listeners.spawn(Arc::clone(&idle).listen(person, login, None));
            }
            server.idling(number).await;
            while idle.stats().listening.load(Ordering::Relaxed) < number as u64 {
                tokio::task::yield_now().await;
            }
        });
    });
    let each = u64::try_from(used.bytes_current).expect("bytes that are taken") / number as u64;
    println!("{number} listeners take {each} bytes of the heap each");
    assert!(each <= MAX_BYTES, "{each} bytes");
    drop(listeners);
}

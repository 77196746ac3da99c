//! Names that resolve slowly, or never: who else has names to be looked up does not wait for them.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dovecast_dispatch::driver::{Courier, Outcome};
use dovecast_drivers::guard::{Guard, Resolve};
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::names::{NameLimits, Names};
use dovecast_drivers::webhook::{Sender, Webhook, WebhookOptions};
use dovecast_testkit::endpoint::OK;
use tokio::task::JoinSet;

use crate::{delivery, endpoint, failed, options};

/// A name server that does not answer for names with `hangs` in them until it is told to, and
/// counts what it is asked.
#[derive(Clone, Default)]
struct NameServer(Arc<(Mutex<Served>, Condvar)>);

#[derive(Default)]
struct Served {
    asked: BTreeMap<String, usize>,
    /// Lookups under way at a time, at most.
    most: usize,
    under_way: usize,
    answers_all: bool,
}

impl NameServer {
    fn find(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let (served, changed) = &*self.0;
        let mut served = served.lock().expect("not poisoned");
        *served.asked.entry(name.to_owned()).or_default() += 1;
        served.under_way += 1;
        served.most = served.most.max(served.under_way);
        changed.notify_all();
        while name.contains("hangs") && !served.answers_all {
            served = changed.wait(served).expect("not poisoned");
        }
        served.under_way -= 1;
        if name.contains("nowhere") {
            return Err(io::Error::other("no such name"));
        }
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }

    fn names(&self, limits: NameLimits) -> Arc<Names> {
        let server = self.clone();
        Arc::new(Names::new(move |name| server.find(name), limits))
    }

    fn answer_all(&self) {
        self.0.0.lock().expect("not poisoned").answers_all = true;
        self.0.1.notify_all();
    }

    fn asked(&self, name: &str) -> usize {
        let served = self.0.0.lock().expect("not poisoned");
        served.asked.get(name).copied().unwrap_or(0)
    }

    fn under_way(&self) -> usize {
        self.0.0.lock().expect("not poisoned").under_way
    }
}

/// Threads that wait for a lookup would keep the test from ending.
impl Drop for Ending {
    fn drop(&mut self) {
        self.0.answer_all();
    }
}

struct Ending(NameServer);

const NOTHING_KEPT: NameLimits = NameLimits {
    lookups: 16,
    lookups_of_account: 8,
    found_for: Duration::ZERO,
    missing_for: Duration::ZERO,
    kept: 1_000,
    slow: Duration::from_mins(5),
};

fn sender(names: &Arc<Names>, account: &str, url: &str) -> Sender {
    let options = WebhookOptions {
        timeout: Duration::from_mins(5),
        ..options(url)
    };
    let allowed = ["127.0.0.0/8".parse().expect("a network")];
    let guard = Guard::with_resolver(&allowed, Arc::clone(names) as Arc<dyn Resolve>);
    Sender::new(
        Arc::new(Webhook::new(&options).expect("a webhook")),
        guard.for_account(Arc::from(account)),
        &Sockets::default(),
    )
}

/// Attempts for an account, to names that hang; all are begun when this returns.
async fn hanging(
    names: &Arc<Names>,
    server: &NameServer,
    account: &str,
    count: usize,
) -> JoinSet<()> {
    let mut attempts = JoinSet::new();
    let before = names.stats();
    let before = before.under_way + before.waiting;
    for number in 0..count {
        let mut sender = sender(
            names,
            account,
            &format!("http://{number}.{account}.hangs:9/"),
        );
        attempts.spawn(async move {
            sender.deliver(&delivery()).await;
        });
    }
    loop {
        let stats = names.stats();
        let begun = usize::try_from(stats.under_way + stats.waiting - before).expect("few");
        if begun == count && server.under_way() > 0 {
            return attempts;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn names_of_one_account_that_hang_keep_no_other_account_waiting() {
    let receiver = endpoint([OK]);
    let server = NameServer::default();
    let _ending = Ending(server.clone());
    let names = server.names(NOTHING_KEPT);
    let attempts = hanging(&names, &server, "bad", 300).await;
    let port = receiver.address.port();
    for number in 0..20 {
        let mut good = sender(&names, "good", &format!("http://{number}.fine:{port}/"));
        assert_eq!(good.deliver(&delivery()).await.outcome, Outcome::Delivered);
    }
    assert_eq!(attempts.len(), 300, "all of them still wait");
    assert!(
        server.under_way() <= 8,
        "{} for one account",
        server.under_way()
    );
    assert!(names.stats().held_back >= 292, "{:?}", names.stats());
}

#[tokio::test]
async fn a_name_that_was_prompt_before_is_found_however_many_accounts_hang() {
    let receiver = endpoint([OK]);
    let server = NameServer::default();
    let _ending = Ending(server.clone());
    let names = server.names(NOTHING_KEPT);
    let url = format!("http://fine:{}/", receiver.address.port());
    let known = |account: &str| sender(&names, account, &url);
    assert_eq!(
        known("good").deliver(&delivery()).await.outcome,
        Outcome::Delivered
    );
    let mut all = Vec::new();
    for account in 0..10 {
        all.push(hanging(&names, &server, &account.to_string(), 50).await);
    }
    // Also for an account whose other names hang.
    for account in ["good", "3"] {
        assert_eq!(
            known(account).deliver(&delivery()).await.outcome,
            Outcome::Delivered
        );
    }
    assert!(server.0.0.lock().expect("not poisoned").most <= 16);
}

#[tokio::test]
async fn all_who_ask_for_a_name_wait_for_one_lookup_and_what_it_finds_is_kept() {
    let receiver = endpoint([OK]);
    let server = NameServer::default();
    let limits = NameLimits {
        found_for: Duration::from_hours(1),
        missing_for: Duration::from_hours(1),
        ..NOTHING_KEPT
    };
    let names = server.names(limits);
    let url = format!("http://hangs:{}/", receiver.address.port());
    let mut attempts = JoinSet::new();
    for account in 0..40 {
        let mut sender = sender(&names, &account.to_string(), &url);
        attempts.spawn(async move { sender.deliver(&delivery()).await.outcome });
    }
    while server.asked("hangs") == 0 {
        tokio::task::yield_now().await;
    }
    server.answer_all();
    for outcome in attempts.join_all().await {
        assert_eq!(outcome, Outcome::Delivered);
    }
    let mut missing = sender(&names, "1", "http://nowhere:9/");
    for _ in 0..3 {
        let reason = failed(missing.deliver(&delivery()).await.outcome);
        assert_eq!(reason, "cannot find the address of `nowhere`: no such name");
    }
    assert_eq!((server.asked("hangs"), server.asked("nowhere")), (1, 1));
}

#[tokio::test]
async fn a_lookup_ends_with_the_attempt_and_is_not_begun_for_nobody() {
    let server = NameServer::default();
    let ending = Ending(server.clone());
    let limits = NameLimits {
        lookups_of_account: 1,
        ..NOTHING_KEPT
    };
    let names = server.names(limits);
    let first = hanging(&names, &server, "bad", 1).await;
    let late = WebhookOptions {
        timeout: Duration::from_millis(20),
        ..options("http://late.hangs:9/")
    };
    let guard = Guard::with_resolver(&[], Arc::clone(&names) as Arc<dyn Resolve>);
    let webhook = Arc::new(Webhook::new(&late).expect("a webhook"));
    let mut late = Sender::new(
        webhook,
        guard.for_account(Arc::from("bad")),
        &Sockets::default(),
    );
    let reason = failed(late.deliver(&delivery()).await.outcome);
    assert_eq!(
        reason,
        "the address of `late.hangs` was not found within 20 ms"
    );
    assert_eq!(names.stats().waiting, 0);
    drop(ending);
    first.join_all().await;
    while names.stats().under_way > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.asked("late.hangs"), 0);
}

#[tokio::test]
async fn the_runtimes_own_threads_serve_no_lookup() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = runtime.spawn_blocking(move || held.recv());
    let found = runtime.spawn(async {
        let localhost = url::Host::Domain("localhost".to_owned());
        let guard = Guard::new(&["127.0.0.0/8".parse().expect("a network")]);
        let found = guard.addresses(&localhost, 80).await;
        found.is_ok_and(|found| found.iter().count() > 0)
    });
    assert!(found.await.expect("no panic"), "localhost has an address");
    drop(release);
    held.await.expect("no panic").expect_err("it was held");
    runtime.shutdown_background();
}

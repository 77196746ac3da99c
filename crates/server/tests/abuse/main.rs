//! A hostile party of each kind, all at once, beside an honest tenant: all notifications of that
//! one arrive. Ten seconds; ten minutes and a thousand endpoints with `DOVECAST_SOAK=1`, or as long
//! as `DOVECAST_ABUSE_SECONDS` says.
//!
//! How long the honest tenant's notifications take is printed, without the others and beside them.

mod parties;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::{Hook, HookEndpoint, Reply};
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::json;

/// Small enough that the hostile ones meet them within seconds; the honest one is far below.
const CONFIG: &str = "[quota]\nmessages_kb_per_second = 64\nrelay_records_per_second = 2000\nburst_seconds = 1\n\
    [dispatch]\nallowed_networks = ['127.0.0.0/8']";
/// Time between two notifications of the honest tenant.
const PAUSE: Duration = Duration::from_millis(50);
/// By how much hostile parties may make the honest tenant's notifications slower, in percent.
const WANTED_RISE: f64 = 20.0;

fn is_soak() -> bool {
    std::env::var_os("DOVECAST_SOAK").is_some()
}

/// What all parties know.
struct Scene<'s> {
    server: &'s Server,
    address: SocketAddr,
    over: AtomicBool,
}

impl Scene<'_> {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Does something until it is over. A hostile party is refused all the time.
    fn again(&self, mut mischief: impl FnMut() -> Result<()>) {
        while self.goes_on() {
            if mischief().is_err() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn post(token: &str, message: &str) -> Request {
    let body = format!(
        r#"{{"application":"abuse","event_type":"sent","level":null,"message":{message}}}"#
    );
    Request::new("POST", "/api/hooks/messages")
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(body)
}

/// When notifications of the honest tenant have arrived, by their numbers.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<BTreeMap<u64, Instant>>>);

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver that notes them.
    fn receiver(&self) -> Result<HookEndpoint> {
        let arrivals = self.clone();
        HookEndpoint::answering(move |hook: &Hook| {
            let now = Instant::now();
            if let Some(number) = number_of(&hook.body) {
                // One that comes again had arrived before.
                arrivals.lock().entry(number).or_insert(now);
            }
            Reply {
                status: 204,
                body: String::new(),
            }
        })
    }
}

/// The honest tenant.
struct Honest<'s> {
    scene: &'s Scene<'s>,
    token: &'s str,
    arrivals: Arrivals,
    /// When notifications were sent, by their numbers.
    sent: BTreeMap<u64, Instant>,
}

impl Honest<'_> {
    /// Sends notifications for so long, each of which is accepted, and waits until all have
    /// arrived; gives how long they took, the shortest first.
    fn send(&mut self, length: Duration) -> Result<Vec<Duration>> {
        let (first, until) = (self.next(), Instant::now() + length);
        while Instant::now() < until {
            let number = self.next();
            self.sent.insert(number, Instant::now());
            let answer = post(self.token, &number.to_string()).send(self.scene.address)?;
            ensure!(answer.status == 201, "{number}: {answer:?}");
            thread::sleep(PAUSE);
        }
        let sent = self.sent.range(first..);
        let missing = || {
            let arrived = self.arrivals.lock();
            let missing = |number: &&u64| !arrived.contains_key(number);
            self.sent.keys().filter(missing).count()
        };
        let all_there = poll_until(PATIENCE, || (missing() == 0).then_some(()));
        ensure!(
            all_there.is_some() && self.next() > first,
            "{} of {} are missing: {}",
            missing(),
            self.next(),
            self.scene.server.server_log()
        );
        let arrived = self.arrivals.lock();
        let mut took: Vec<Duration> = sent
            .filter_map(|(number, at)| Some(arrived.get(number)?.saturating_duration_since(*at)))
            .collect();
        took.sort_unstable();
        Ok(took)
    }

    /// Number of the next notification.
    fn next(&self) -> u64 {
        self.sent.keys().next_back().map_or(0, |last| last + 1)
    }
}

/// Waits until each of the hostile ones has met its bound. Identities need not, as beside a
/// registrar the store makes fewer of them than may be made; nor lists, which are short here.
fn all_met(server: &Server) -> Result<()> {
    for met in [
        "dovecast_quota_refused_total{of=\"message\"}",
        "dovecast_quota_refused_total{of=\"test\"}",
        "dovecast_http_refused_connections_total",
        "dovecast_relay_refused_total{reason=\"malformed\"}",
        "dovecast_relay_dropped_records_total",
        "dovecast_relay_spill_torn_total",
        "dovecast_relay_spill_held_back_total",
        "dovecast_dispatch_dead_letters_total",
    ] {
        server.metric_is(met, |met| met > 0.0)?;
    }
    Ok(())
}

/// Prints how long notifications took without the hostile parties and beside them.
fn tell(alone: &[Duration], beside: &[Duration]) {
    let at = |took: &[Duration], percent: usize| {
        let place = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(place).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    for percent in [50, 99] {
        let (before, after) = (at(alone, percent), at(beside, percent));
        let rise = (after / before - 1.0) * 100.0;
        println!(
            "the honest tenant's p{percent}: {before:.1} ms alone, {after:.1} ms beside the others: {rise:+.0} %"
        );
        if is_soak() && percent == 99 {
            let verdict = if rise < WANTED_RISE { "is" } else { "is NOT" };
            println!("that {verdict} below {WANTED_RISE} %");
        }
    }
}

/// Tokens of the hostile parties, and endpoints that are named.
struct Hostile {
    hangs: String,
    large: String,
    dead: String,
    refused: String,
    tests: String,
    tested: String,
    registrar: String,
}

impl Hostile {
    fn new(scene: &Scene<'_>, endpoints: usize) -> Result<Self> {
        let token = |number| scene.server.account_token(number);
        let (hanging, refusing) = thread::scope(|receivers| {
            let receivers = receivers.spawn(|| {
                parties::elsewhere();
                anyhow::Ok((parties::hanging()?, HookEndpoint::start()?))
            });
            receivers.join().expect("receivers of hostile parties")
        })?;
        refusing.answer(404);
        let (hangs, dead, tests) = (token("hangs")?, token("dead")?, token("tests")?);
        let mut refused = String::new();
        for number in 0..endpoints {
            let name = format!("e{number}");
            scene.server.endpoint(&hangs, (&name, &hanging), "true")?;
            let gone = json!({
                "name": name, "url": refusing.url(), "filter": {}, "retry_delays": []});
            refused = parties::endpoint(scene, &dead, &gone)?;
        }
        let tested = json!({"name": "e", "url": hanging, "timeout_seconds": 1});
        let tested = parties::endpoint(scene, &tests, &tested)?;
        Ok(Self {
            hangs,
            large: token("large")?,
            dead,
            refused,
            tests,
            tested,
            registrar: parties::registrar(scene)?,
        })
    }
}

#[test]
fn an_honest_tenant_gets_everything_beside_a_hostile_party_of_each_kind() -> Result<()> {
    let length = match std::env::var("DOVECAST_ABUSE_SECONDS") {
        Ok(seconds) => Duration::from_secs(seconds.parse().context("DOVECAST_ABUSE_SECONDS")?),
        Err(_) if is_soak() => Duration::from_mins(10),
        Err(_) => Duration::from_secs(10),
    };
    let endpoints = if is_soak() { 1000 } else { 100 };
    let server = Server::builder()
        .binary(env!("CARGO_BIN_EXE_dovecast"))
        .http(&format!("trusted_proxies = ['{}']", parties::PROXY))
        .config(CONFIG)
        .start()?;
    let scene = Scene {
        address: server.address()?,
        server: &server,
        over: AtomicBool::new(false),
    };
    let arrivals = Arrivals::default();
    let sink = arrivals.receiver()?;
    let honest = server.account_token("honest")?;
    server.endpoint(&honest, ("sink", &sink.url()), "true")?;
    let mut honest = Honest {
        scene: &scene,
        token: &honest,
        arrivals,
        sent: BTreeMap::new(),
    };
    let alone = honest.send(length / 5)?;
    let hostile = Hostile::new(&scene, endpoints)?;
    let parties: [(usize, &(dyn Fn() + Sync)); 13] = [
        (1, &|| parties::hang(&scene, &hostile.hangs)),
        (1, &|| parties::try_tokens(&scene)),
        (1, &|| parties::send_large(&scene, &hostile.large)),
        (1, &|| parties::read_slowly(&scene)),
        (1, &|| parties::send_garbage(&scene)),
        (1, &|| parties::flood_spill(&scene)),
        (1, &|| parties::fill_dead_letters(&scene, &hostile.dead)),
        (2, &|| {
            parties::flood_tests(&scene, &hostile.tests, &hostile.tested);
        }),
        (1, &|| parties::flood_identities(&scene)),
        (1, &|| parties::register(&scene, &hostile.registrar)),
        (1, &|| parties::make_topics(&scene)),
        (1, &|| {
            parties::read_lists_slowly(&scene, &hostile.dead, &hostile.refused);
        }),
        (2, &|| parties::explain(&scene, &hostile.large)),
    ];
    let beside = thread::scope(|all| {
        for (count, party) in parties {
            for _ in 0..count {
                all.spawn(move || {
                    parties::elsewhere();
                    party();
                });
            }
        }
        let beside = honest.send(length);
        // A slow machine takes longer.
        let bounds = all_met(&server);
        scene.over.store(true, Ordering::Relaxed);
        bounds.and(beside.context("the honest tenant is refused, or misses something"))
    })?;
    tell(&alone, &beside);
    Ok(())
}

/// The message of a notification as it is delivered.
fn number_of(body: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    value["message"].as_u64()
}

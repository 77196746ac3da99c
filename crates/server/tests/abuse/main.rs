//! A hostile party of each kind, all at once, beside an honest tenant and an honest mail user: all
//! notifications of these arrive, and nobody is spoken for, on SQLite and on PostgreSQL. Ten
//! seconds; ten minutes and a thousand endpoints with `DOVECAST_SOAK=1`, or as long as
//! `DOVECAST_ABUSE_SECONDS` says.
//!
//! How long the honest parties' notifications take is printed, without the others and beside them.
//! Mail users have user ids of their own, so they take part only where the test is root.

mod honest;
mod local;
mod mail;
mod parties;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::may_act_as_others;
use dovecast_testkit::postgres::Postgres;
use dovecast_testkit::server::{Builder, Server};
use serde_json::json;

use honest::{Arrivals, Honest, Tenant};
use mail::Told;

/// Small enough that the hostile ones meet them within seconds; the honest one is far below.
const CONFIG: &str = "[dispatch]\nallowed_networks = ['127.0.0.0/8']\n[quota]\nmessages_kb_per_second = 64\n\
    relay_kb_per_second = 1024\nburst_seconds = 1";
/// What a released server keeps up with on two cores, and what one that is not optimised does.
const RELEASED_QUOTAS: &str = "relay_records_per_second = 2000\nattempts_per_second = 1000";
const DEV_QUOTAS: &str = "relay_records_per_second = 100\nattempts_per_second = 100";
/// By how much hostile parties may make the honest tenant's notifications slower, in percent.
const WANTED_RISE: f64 = 20.0;
/// Held by the test that runs: how long things take is no other's doing.
static ALONE: Mutex<()> = Mutex::new(());

fn is_soak() -> bool {
    std::env::var_os("DOVECAST_SOAK").is_some()
}

/// What all parties know.
struct Scene<'s> {
    server: &'s Server,
    address: SocketAddr,
    /// Whether users of this host take part, too.
    has_mail_users: bool,
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

/// Waits until each of the hostile ones has met its bound. Identities need not, as beside a
/// registrar the store makes fewer of them than may be made; nor lists, which are short here.
fn all_met(scene: &Scene<'_>) -> Result<()> {
    let server = scene.server;
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
    let of_local_users = [
        "dovecast_relay_held_back_total",
        "dovecast_relay_refused_total{reason=\"busy\"}",
        "dovecast_relay_refused_total{reason=\"peer\"}",
        "dovecast_relay_spill_refused_total",
    ];
    for met in of_local_users.into_iter().filter(|_| scene.has_mail_users) {
        server.metric_is(met, |met| met > 0.0)?;
    }
    Ok(())
}

/// Prints how long notifications took without the hostile parties and beside them.
fn tell(who: &str, alone: &[Duration], beside: &[Duration]) {
    let at = |took: &[Duration], percent: usize| {
        let place = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(place).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    for percent in [50, 99] {
        let (before, after) = (at(alone, percent), at(beside, percent));
        let rise = (after / before - 1.0) * 100.0;
        println!(
            "the honest {who}'s p{percent}: {before:.1} ms alone, {after:.1} ms beside the others: {rise:+.0} %"
        );
        if is_soak() && percent == 99 {
            let verdict = if rise < WANTED_RISE { "is" } else { "is NOT" };
            println!("that {verdict} below {WANTED_RISE} %");
        }
    }
}

/// What a hostile party does until it is over.
type Party<'s> = Box<dyn Fn() + Send + Sync + 's>;

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

    /// What they do, and in how many threads.
    fn parties<'s>(&'s self, scene: &'s Scene<'s>) -> [(usize, Party<'s>); 13] {
        [
            (1, Box::new(|| parties::hang(scene, &self.hangs))),
            (1, Box::new(|| parties::try_tokens(scene))),
            (1, Box::new(|| parties::send_large(scene, &self.large))),
            (1, Box::new(|| parties::read_slowly(scene))),
            (1, Box::new(|| parties::send_garbage(scene))),
            (1, Box::new(|| parties::flood_spill(scene))),
            (
                1,
                Box::new(|| parties::fill_dead_letters(scene, &self.dead)),
            ),
            (
                2,
                Box::new(|| {
                    parties::flood_tests(scene, &self.tests, &self.tested);
                }),
            ),
            (1, Box::new(|| parties::flood_identities(scene))),
            (1, Box::new(|| parties::register(scene, &self.registrar))),
            (1, Box::new(|| parties::make_topics(scene))),
            (
                1,
                Box::new(|| {
                    parties::read_lists_slowly(scene, &self.dead, &self.refused);
                }),
            ),
            (2, Box::new(|| parties::explain(scene, &self.large))),
        ]
    }
}

/// A hostile user of this host: the id, and what that user does.
type LocalUser = (u32, fn(&Scene<'_>));

const LOCAL_USERS: [LocalUser; 6] = [
    (local::IMAP_USER, mail::write_everything),
    (local::MAIL_USER, local::flood_events),
    (local::MAIL_USER, local::leave_nonsense),
    (local::PLACE_TAKER, local::leave_frames_unfinished),
    (local::STRANGER, local::leave_nonsense),
    (local::STRANGER, local::knock),
];

/// How long honest parties' notifications took: of the tenant, and where the test is root of the
/// mail user.
type Took = (Vec<Duration>, Option<Vec<Duration>>);

/// Has the honest parties send for so long, at once.
fn all_send(
    scene: &Scene<'_>,
    tenant: &mut Honest<'_, Tenant<'_>>,
    told: &Told,
    length: Duration,
) -> Result<Took> {
    thread::scope(|both| {
        let mail = scene.has_mail_users.then(|| {
            both.spawn(|| {
                local::act_as(local::HONEST)?;
                told.honest(scene).send(length)
            })
        });
        let tenant = tenant.send(length).context("the honest tenant")?;
        let joined = mail.map(|mail| mail.join().expect("no panic"));
        Ok((tenant, joined.transpose().context("the honest mail user")?))
    })
}

#[test]
fn an_honest_tenant_gets_everything_beside_a_hostile_party_of_each_kind() -> Result<()> {
    everything_arrives("SQLite", |builder| builder)
}

#[test]
fn an_honest_tenant_gets_everything_beside_them_on_postgresql() -> Result<()> {
    let postgres = match Postgres::start()? {
        Ok(postgres) => postgres,
        Err(unavailable) => {
            // Past the capture of the harness; nobody may take it.
            let _ = writeln!(std::io::stdout(), "\n*** SKIPPED: {unavailable}\n");
            return Ok(());
        }
    };
    let url = postgres.database()?;
    everything_arrives("PostgreSQL", |builder| {
        builder
            .config(&format!("[store]\nurl = '{url}'"))
            .shared_keys()
    })
}

/// All parties on a server whose builder is finished so.
fn everything_arrives(store: &str, finish: impl FnOnce(Builder) -> Builder) -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    println!("on {store}:");
    let length = match std::env::var("DOVECAST_ABUSE_SECONDS") {
        Ok(seconds) => Duration::from_secs(seconds.parse().context("DOVECAST_ABUSE_SECONDS")?),
        Err(_) if is_soak() => Duration::from_mins(10),
        Err(_) => Duration::from_secs(10),
    };
    let endpoints = if is_soak() { 1000 } else { 100 };
    let told = Told::new()?;
    let (allowed, max_clients) = (local::ALLOWED, local::MAX_CLIENTS);
    let quotas = if is_soak() {
        RELEASED_QUOTAS
    } else {
        DEV_QUOTAS
    };
    let builder = Server::builder()
        .binary(env!("CARGO_BIN_EXE_dovecast"))
        .http(&format!("trusted_proxies = ['{}']", parties::PROXY))
        .config(&format!(
            "allow = ['root', '{allowed}']\nmax_clients = {max_clients}\n{CONFIG}\n{quotas}\n{}",
            told.block()
        ));
    let server = finish(builder).start()?;
    let scene = Scene {
        address: server.address()?,
        server: &server,
        has_mail_users: may_act_as_others("mail users, honest and hostile"),
        over: AtomicBool::new(false),
    };
    told.subscribe(&scene)?;
    let arrivals = Arrivals::default();
    let sink = arrivals.receiver(number_of)?;
    let token = server.account_token("honest")?;
    server.endpoint(&token, ("sink", &sink.url()), "true")?;
    let voice = Tenant {
        scene: &scene,
        token: &token,
    };
    let mut tenant = Honest::new(&scene, voice, vec![arrivals], 0);
    let alone = all_send(&scene, &mut tenant, &told, length / 5)?;
    let hostile = Hostile::new(&scene, endpoints)?;
    let parties = hostile.parties(&scene);
    let beside = thread::scope(|all| {
        for (count, party) in &parties {
            for _ in 0..*count {
                all.spawn(|| {
                    parties::elsewhere();
                    party();
                });
            }
        }
        for (user, party) in LOCAL_USERS.iter().filter(|_| scene.has_mail_users) {
            all.spawn(|| {
                parties::elsewhere();
                local::act_as(*user).expect("root acts as anybody");
                party(&scene);
            });
        }
        let beside = all_send(&scene, &mut tenant, &told, length);
        // A slow machine takes longer.
        let bounds = all_met(&scene);
        let right = if scene.has_mail_users {
            told.is_right()
        } else {
            Ok(())
        };
        scene.over.store(true, Ordering::Relaxed);
        let beside = beside.context("an honest party is refused, or misses something")?;
        bounds.and(right).map(|()| beside)
    })?;
    tell("tenant", &alone.0, &beside.0);
    if let (Some(alone), Some(beside)) = (alone.1, beside.1) {
        tell("mail user", &alone, &beside);
    }
    Ok(())
}

/// The message of a notification as it is delivered.
fn number_of(body: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    value["message"].as_u64()
}

//! A hostile party of each kind, all at once, beside an honest tenant: all notifications of that
//! one arrive. Ten seconds; ten minutes and a thousand endpoints with `DOVECAST_SOAK=1`.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_relay::spill;
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use uuid::Uuid;

/// Small enough that the hostile ones meet them within seconds; the honest one is far below.
const CONFIG: &str = "[quota]\nmessages_kb_per_second = 64\nrelay_records_per_second = 2000\nburst_seconds = 1\n\
    [dispatch]\nallowed_networks = ['127.0.0.0/8']";
/// Time between two notifications of the honest tenant.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a large message, below what one may have, and of one that is too large.
const LARGE_BYTES: usize = 900_000;
const TOO_LARGE_BYTES: usize = 2_000_000;
/// Connections that the slow reader has at a time; one address may have 200.
const SLOW_CONNECTIONS: usize = 250;
/// Most files that the flood leaves in the spill directory.
const SPILL_FILES: usize = 2_000;

fn is_soak() -> bool {
    std::env::var_os("DOVECAST_SOAK").is_some()
}

/// What all parties know.
struct Scene<'s> {
    server: &'s Server,
    address: SocketAddr,
    over: AtomicBool,
    sent: AtomicU64,
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

/// A receiver that takes requests and never answers.
fn hanging() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}/", listener.local_addr()?);
    // Ends with the process.
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    Ok(url)
}

/// Sends to its endpoints, all of which hang.
fn hang(scene: &Scene<'_>, token: &str) {
    scene.again(|| {
        post(token, "1").send(scene.address)?;
        Ok(())
    });
}

fn try_tokens(scene: &Scene<'_>) {
    scene.again(|| {
        let token = Uuid::now_v7().simple().to_string();
        Request::get("/api/hooks/endpoints")
            .header("Authorization", &format!("Bearer {token}"))
            .send(scene.address)?;
        Ok(())
    });
}

fn send_large(scene: &Scene<'_>, token: &str) {
    let [large, too_large] =
        [LARGE_BYTES, TOO_LARGE_BYTES].map(|bytes| format!("\"{}\"", "x".repeat(bytes)));
    scene.again(|| {
        post(token, &too_large).send(scene.address).ok();
        post(token, &large).send(scene.address)?;
        Ok(())
    });
}

/// A connection from an address that nobody else has.
fn from_elsewhere(to: SocketAddr) -> Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
        socket.connect(to).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Asks and does not read, or does not end to ask, on as many connections as it can get.
fn read_slowly(scene: &Scene<'_>) {
    let mut held = Vec::new();
    scene.again(|| {
        if held.len() >= SLOW_CONNECTIONS {
            held.clear();
        }
        let mut stream = from_elsewhere(scene.address)?;
        let asked: &[u8] = if held.len() % 2 == 0 {
            b"GET /api-docs HTTP/1.1\r\nHost: x\r\n\r\n"
        } else {
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Never-Ends: "
        };
        stream.write_all(asked)?;
        held.push(stream);
        Ok(())
    });
}

/// Sends what is no frame to the relay.
fn send_garbage(scene: &Scene<'_>) {
    scene.again(|| {
        let mut stream = UnixStream::connect(scene.server.relay_socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[0xff; 4096])?;
        // Until it is sent away.
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    });
}

/// Leaves nonsense and very many records in the spill directory.
fn flood_spill(scene: &Scene<'_>) {
    let dir = scene.server.spill_dir();
    let mut number = 0_u128;
    scene.again(|| {
        let there = fs::read_dir(dir)?.count();
        ensure!(there < SPILL_FILES, "enough");
        number += 1;
        // Taken in before the others, which come by their time.
        let nonsense = dir.join(format!("0-nonsense-{number}.spill"));
        fs::write(&nonsense, "nonsense")?;
        fs::set_permissions(&nonsense, Permissions::from_mode(0o640))?;
        let record = |of_file: u128| WireRecord {
            topic: "dovecot",
            key: b"mallory",
            value: b"{}",
            time_ms: 0,
            id: Uuid::from_u128(number << 64 | of_file),
            txn: Uuid::nil(),
            txn_seq: 0,
            txn_last: true,
        };
        let author = spill::Author::new("mail1", "flood");
        let mut writer = spill::Writer::create(dir, &author, &record(0), 1 << 24)?;
        (1..1_000).for_each(|of_file| writer.push(&record(of_file)));
        writer.flush()?;
        Ok(())
    });
}

/// Sends its notifications, each of which is accepted.
fn be_honest(scene: &Scene<'_>, token: &str, until: Instant) -> Result<()> {
    while Instant::now() < until {
        let number = scene.sent.load(Ordering::Relaxed);
        let answer = post(token, &number.to_string()).send(scene.address)?;
        ensure!(answer.status == 201, "{number}: {answer:?}");
        scene.sent.store(number + 1, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Waits until each of the hostile ones has met its bound.
fn all_met(server: &Server) -> Result<()> {
    for met in [
        "dovecast_quota_refused_total{of=\"message\"}",
        "dovecast_http_refused_connections_total",
        "dovecast_relay_refused_total{reason=\"malformed\"}",
        "dovecast_relay_spill_torn_total",
        "dovecast_relay_spill_held_back_total",
    ] {
        server.metric_is(met, |met| met > 0.0)?;
    }
    Ok(())
}

#[test]
fn an_honest_tenant_gets_everything_beside_a_hostile_party_of_each_kind() -> Result<()> {
    let (length, endpoints) = if is_soak() {
        (Duration::from_mins(10), 1000)
    } else {
        (Duration::from_secs(10), 100)
    };
    let server = Server::builder()
        .binary(env!("CARGO_BIN_EXE_dovecast"))
        .config(CONFIG)
        .start()?;
    let sink = HookEndpoint::start()?;
    let honest = server.account_token("honest")?;
    server.endpoint(&honest, ("sink", &sink.url()), "true")?;
    let hostile = server.account_token("hostile")?;
    let hangs = hanging()?;
    for number in 0..endpoints {
        server.endpoint(&hostile, (&format!("e{number}"), &hangs), "true")?;
    }
    let large = server.account_token("large")?;
    let scene = Scene {
        address: server.address()?,
        server: &server,
        over: AtomicBool::new(false),
        sent: AtomicU64::new(0),
    };
    let honesty = thread::scope(|parties| {
        parties.spawn(|| hang(&scene, &hostile));
        parties.spawn(|| try_tokens(&scene));
        parties.spawn(|| send_large(&scene, &large));
        parties.spawn(|| read_slowly(&scene));
        parties.spawn(|| send_garbage(&scene));
        parties.spawn(|| flood_spill(&scene));
        let honesty = be_honest(&scene, &honest, Instant::now() + length);
        // A slow machine takes longer.
        let bounds = all_met(&server);
        scene.over.store(true, Ordering::Relaxed);
        honesty.context("the honest tenant is refused").and(bounds)
    });
    honesty?;
    let sent = scene.sent.load(Ordering::Relaxed);
    let missing = || {
        let hooks = sink.hooks();
        let arrived: BTreeSet<u64> = hooks
            .iter()
            .filter_map(|hook| number_of(&hook.body))
            .collect();
        (0..sent).filter(|number| !arrived.contains(number)).count()
    };
    let all_there = poll_until(PATIENCE, || (missing() == 0).then_some(()));
    ensure!(
        all_there.is_some() && sent > 0,
        "{} of {sent} are missing: {}",
        missing(),
        server.server_log()
    );
    Ok(())
}

/// The message of a notification as it is delivered.
fn number_of(body: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    value["message"].as_u64()
}

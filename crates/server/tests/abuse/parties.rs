//! The hostile parties, one function each: every one goes on until the scene is over, and is
//! refused most of the time.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_relay::spill;
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::PATIENCE;
use dovecast_testkit::http::Request;
use serde_json::json;
use uuid::Uuid;

use crate::{Scene, is_soak, local, post};

/// Bytes of a large message, below what one may have, and of one that is too large.
const LARGE_BYTES: usize = 900_000;
const TOO_LARGE_BYTES: usize = 2_000_000;
/// Connections that the slow reader has at a time; one address may have 200.
const SLOW_CONNECTIONS: usize = 250;
/// Most files that the flood leaves in the spill directory.
const SPILL_FILES: usize = 2_000;
/// Event types of each application that the registrar makes.
const EVENT_TYPES: usize = 200;
/// Topics of each client that makes some: few, as they count for the rate of the spill files, too.
const TOPICS: usize = 10;
/// Where the slow readers are, and where the proxy that the server trusts is.
const SLOW_READER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const LIST_READER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);
/// Lists that the slow reader of lists asks for at a time; an account may have four.
const LISTS: usize = 20;
pub(crate) const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// From here on this thread, and what it begins, gets of the cores what the server and the honest
/// tenant leave: hostile parties and their receivers bring machines of their own. Only where how
/// long things take is looked at: beside other tests they would get nothing.
pub(crate) fn elsewhere() {
    if is_soak() {
        rustix::process::nice(19).expect("a thread with a lower priority");
    }
}

/// A receiver that takes requests and never answers.
pub(crate) fn hanging() -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Ends with the process.
    thread::spawn(move || runtime.block_on(hang_all(listener)));
    Ok(url)
}

async fn hang_all(listener: TcpListener) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        // It ends when the other side has had enough.
        tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
    }
}

/// Sends to its endpoints, all of which hang.
pub(crate) fn hang(scene: &Scene<'_>, token: &str) {
    scene.again(|| {
        post(token, "1").send(scene.address)?;
        Ok(())
    });
}

pub(crate) fn try_tokens(scene: &Scene<'_>) {
    scene.again(|| {
        let token = Uuid::now_v7().simple().to_string();
        Request::get("/api/hooks/endpoints")
            .header("Authorization", &format!("Bearer {token}"))
            .send(scene.address)?;
        Ok(())
    });
}

pub(crate) fn send_large(scene: &Scene<'_>, token: &str) {
    let [large, too_large] =
        [LARGE_BYTES, TOO_LARGE_BYTES].map(|bytes| format!("\"{}\"", "x".repeat(bytes)));
    scene.again(|| {
        post(token, &too_large).send(scene.address).ok();
        post(token, &large).send(scene.address)?;
        Ok(())
    });
}

/// A connection from an address of loopback.
fn from(address: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        socket.connect(to).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Asks and does not read, or does not end to ask, on as many connections as it can get.
pub(crate) fn read_slowly(scene: &Scene<'_>) {
    let mut held = Vec::new();
    scene.again(|| {
        if held.len() >= SLOW_CONNECTIONS {
            held.clear();
        }
        let mut stream = from(SLOW_READER, scene.address)?;
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

/// Asks for its dead letters on more connections than it may, and does not read them.
pub(crate) fn read_lists_slowly(scene: &Scene<'_>, token: &str, endpoint: &str) {
    let path = format!("/api/hooks/endpoints/{endpoint}/dead_letters?limit=1000");
    let mut held = Vec::new();
    scene.again(|| {
        if held.len() >= LISTS {
            // Refused when no place was free for a while.
            for mut stream in held.drain(..) {
                read_head(&mut stream)?;
            }
        }
        let mut stream = from(LIST_READER, scene.address)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        )?;
        held.push(stream);
        Ok(())
    });
}

/// Reads the beginning of an answer.
fn read_head(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0; 12])?;
    Ok(())
}

/// Has the log searched for what is not there.
pub(crate) fn explain(scene: &Scene<'_>, token: &str) {
    let nothing = json!({"explain": {"notification": Uuid::from_u128(7 << 76 | 2 << 62)}});
    scene.again(|| {
        Request::new("POST", "/api/hooks/explain")
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(nothing.to_string())
            .send(scene.address)?;
        Ok(())
    });
}

/// Sends what is no frame to the relay.
pub(crate) fn send_garbage(scene: &Scene<'_>) {
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
pub(crate) fn flood_spill(scene: &Scene<'_>) {
    let dir = scene.server.spill_dir();
    let mut number = 0_u128;
    scene.again(|| {
        let there = fs::read_dir(dir)?.count();
        ensure!(there < SPILL_FILES + local::spill_files(), "enough");
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

/// Fills the store with dead letters: everything it sends is refused for good by all endpoints.
pub(crate) fn fill_dead_letters(scene: &Scene<'_>, token: &str) {
    scene.again(|| {
        post(token, "\"dead\"").send(scene.address)?;
        Ok(())
    });
}

/// Tests its endpoint, which hangs, again and again.
pub(crate) fn flood_tests(scene: &Scene<'_>, token: &str, endpoint: &str) {
    scene.again(|| {
        Request::new("POST", &format!("/api/hooks/endpoints/{endpoint}/test"))
            .header("Authorization", &format!("Bearer {token}"))
            .send(scene.address)?;
        Ok(())
    });
}

/// Is a new user each time, of a new account every other time, as a proxy says that is trusted.
pub(crate) fn flood_identities(scene: &Scene<'_>) {
    let mut number = 0_u64;
    scene.again(|| {
        let name = Uuid::now_v7().simple().to_string();
        number += 1;
        let account = if number.is_multiple_of(2) { "crowd" } else { &name };
        let identity = json!({"identity": {
            "account_number": account, "type": "User", "internal": {"org_id": "1"},
            "user": {"username": name, "email": "a@b.example", "first_name": "a",
                "last_name": "b", "is_active": true, "is_org_admin": true,
                "is_internal": false, "locale": "en_US"}}});
        let mut stream = from(PROXY, scene.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let identity = STANDARD.encode(identity.to_string());
        write!(
            stream,
            "GET /api/hooks/endpoints HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-RH-IDENTITY: {identity}\r\n\r\n"
        )?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    });
}

/// Registers one large application after the other.
pub(crate) fn register(scene: &Scene<'_>, token: &str) {
    let types: Vec<_> = (0..EVENT_TYPES)
        .map(|number| json!({"id": format!("e{number}"), "title": "x".repeat(200), "levels": []}))
        .collect();
    scene.again(|| {
        let name = Uuid::now_v7().simple().to_string();
        let app = json!({"application": {"name": name, "title": "x"}, "event_types": types});
        Request::new("POST", "/api/hooks/apps/register")
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(app.to_string())
            .send(scene.address)?;
        Ok(())
    });
}

/// Writes to a new topic with each record, over the relay.
pub(crate) fn make_topics(scene: &Scene<'_>) {
    scene.again(|| {
        let mut client = local::client(scene, "topics");
        for _ in 0..TOPICS {
            let id = Uuid::now_v7();
            client.push(&WireRecord {
                topic: &format!("t-{}", id.simple()),
                key: b"mallory",
                value: b"{}",
                time_ms: 0,
                id,
                txn: Uuid::nil(),
                txn_seq: 0,
                txn_last: true,
            });
        }
        client.flush();
        local::finish(client);
        Ok(())
    });
}

/// A token that registers applications.
pub(crate) fn registrar(scene: &Scene<'_>) -> Result<String> {
    let fields = json!({"token": {"name": "r", "scope": "registration"}});
    made(
        scene,
        &scene.server.admin_token()?,
        "tokens",
        &fields,
        &["meta", "token"],
    )
}

/// Makes an endpoint with what `fields` say; its id.
pub(crate) fn endpoint(
    scene: &Scene<'_>,
    token: &str,
    fields: &serde_json::Value,
) -> Result<String> {
    made(
        scene,
        token,
        "endpoints",
        &json!({"endpoint": fields}),
        &["data", "id"],
    )
}

/// Makes something, and gives a part of the answer.
fn made(
    scene: &Scene<'_>,
    token: &str,
    what: &str,
    fields: &serde_json::Value,
    part: &[&str],
) -> Result<String> {
    let answer = Request::new("POST", &format!("/api/hooks/{what}"))
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(fields.to_string())
        .send(scene.address)?;
    ensure!(answer.status == 201, "{answer:?}");
    let json: serde_json::Value = serde_json::from_str(&answer.body)?;
    let found = part.iter().fold(&json, |json, key| &json[key]);
    Ok(found.as_str().context("not in the answer")?.to_owned())
}

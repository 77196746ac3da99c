//! Receivers as they are out there: answers whose head is there and whose rest is odd, and
//! certificates of the account's own. Each notification arrives once, and nothing is a dead letter.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::process::poll_until;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, send};
use crate::setup::{User, World, cases, unique};

cases![
    the_head_of_an_answer_counts_however_odd_its_rest_is,
    the_servers_own_certificate_is_trusted_where_the_account_gives_it,
    a_certificate_that_no_server_can_be_trusted_by_is_refused_in_words,
    what_is_kept_of_a_failure_is_not_as_long_as_the_certificate,
];

/// Reads a request to its end.
fn request(stream: &mut impl Read) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    stream.read_exact(&mut vec![0; length?.parse().ok()?]).ok()
}

/// Answers each request so, and says nothing more until the other side closes, or closes.
fn receiver(answer: Vec<u8>, stays: bool) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || answer_one(stream, &answer, stays));
        }
    });
    Ok(url)
}

fn answer_one(mut stream: TcpStream, answer: &[u8], stays: bool) {
    if request(&mut stream).is_some() && stream.write_all(answer).is_ok() && stays {
        let _ = stream.read(&mut [0]);
    }
}

/// The attributes of the attempts of an endpoint, one of which has succeeded.
fn attempts(user: &User<'_>, id: &str) -> Result<Vec<Value>> {
    let path = format!("/endpoints/{id}/attempts");
    let attempts = poll_until(ARRIVAL, || {
        let attempts = user.get(&path).ok()?.json["data"].clone();
        let has_ended = attempts
            .as_array()?
            .iter()
            .any(|one| one["attributes"]["delivered"] == true);
        has_ended.then_some(attempts)
    });
    let attempts = attempts.with_context(|| format!("{id}: {:?}", user.get(&path)))?;
    let attempts = attempts.as_array().context("no list")?;
    Ok(attempts
        .iter()
        .map(|one| one["attributes"].clone())
        .collect())
}

fn the_head_of_an_answer_counts_however_odd_its_rest_is(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let many: Vec<_> = (0..101)
        .map(|line| format!("X-{line}: {line}\r\n"))
        .collect();
    let many = many.concat();
    let mut made = Vec::new();
    for (answer, stays) in [
        (
            "200 OK\r\nContent-Length: 100\r\n\r\nhello".to_owned(),
            false,
        ),
        ("200 OK\r\nContent-Length: 10\r\n\r\nab".to_owned(), true),
        ("200 OK\r\n\r\nok".to_owned(), true),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab".to_owned(),
            false,
        ),
        (
            "200 OK\r\nX-A : 1\r\nContent-Length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (
            "200 OK\r\nSet-Cookie: a=b;\r\n  path=/\r\nContent-Length: 0\r\n\r\n".to_owned(),
            false,
        ),
        (
            "200 OK\r\nX-Foo\r\nX A: 1\r\nX-\u{e9}: 1\r\nX-B: \u{1}\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
            false,
        ),
        (format!("200 OK\r\n{many}Content-Length: 0\r\n\r\n"), false),
    ] {
        let url = receiver(format!("HTTP/1.1 {answer}").into_bytes(), stays)?;
        let fields = json!({"name": unique("odd"), "url": url, "filter": {}, "timeout_seconds": 3});
        made.push((answer, user.endpoint(&fields)?));
    }
    send(&world.server, &number, &[])?;
    for (answer, id) in made {
        let attempts = attempts(&user, &id)?;
        ensure!(
            attempts.len() == 1 && attempts[0]["status"] == 200,
            "{answer:?}: {attempts:?}"
        );
        let letters = user
            .get(&format!("/endpoints/{id}/dead_letters"))?
            .with(200)?;
        ensure!(letters.json["data"] == json!([]), "{answer:?}: {letters:?}");
    }
    Ok(())
}

/// A receiver with a certificate of its own for `localhost`, which calls itself an authority or
/// not; its URL and the certificate.
fn over_tls(is_authority: bool) -> Result<(String, String)> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    if is_authority {
        // As `openssl req -x509` makes it.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    with_certificate(&params)
}

/// A receiver at `localhost` with a certificate of its own; its URL and the certificate.
fn with_certificate(params: &CertificateParams) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("https://localhost:{}/", listener.local_addr()?.port());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(session) = ServerConnection::new(Arc::clone(&config)) else {
                return;
            };
            thread::spawn(move || {
                let mut stream = StreamOwned::new(session, stream);
                if request(&mut stream).is_some() {
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                }
            });
        }
    });
    Ok((url, certificate.pem()))
}

fn the_servers_own_certificate_is_trusted_where_the_account_gives_it(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let mut made = Vec::new();
    for is_authority in [true, false] {
        let (url, pem) = over_tls(is_authority)?;
        let data = json!({"server_ca_certificate": pem});
        let fields = json!({"name": unique("tls"), "url": url, "filter": {}, "data": data});
        made.push(user.endpoint(&fields)?);
    }
    let (url, _) = over_tls(true)?;
    let (_, of_another) = over_tls(true)?;
    let data = json!({"server_ca_certificate": of_another});
    let fields = json!({"name": unique("tls"), "url": url, "filter": {}, "data": data});
    let other = user.endpoint(&fields)?;
    send(&world.server, &number, &[])?;
    for id in made {
        let attempts = attempts(&user, &id)?;
        ensure!(
            attempts.len() == 1 && attempts[0]["status"] == 204,
            "{attempts:?}"
        );
    }
    // What is not trusted says so in words.
    let said = poll_until(ARRIVAL, || {
        let attempts = user.get(&format!("/endpoints/{other}/attempts")).ok()?;
        let said = attempts.json["data"][0]["attributes"]["said"].as_str()?;
        Some(said.to_owned())
    });
    let said = said.context("no attempt")?;
    ensure!(said.starts_with("TLS: ") && !said.contains('('), "{said}");
    Ok(())
}

fn what_is_kept_of_a_failure_is_not_as_long_as_the_certificate(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let names: Vec<_> = (0..1500).map(|n| format!("{n}.example.org")).collect();
    let (url, pem) = with_certificate(&CertificateParams::new(names)?)?;
    let fields = json!({"name": unique("tls"), "url": url, "filter": {}, "retry_delays": [],
        "data": {"server_ca_certificate": pem}});
    let id = user.endpoint(&fields)?;
    send(&world.server, &number, &[])?;
    let kept = |list: &str, field: &str| {
        let path = format!("/endpoints/{id}/{list}");
        let kept = poll_until(ARRIVAL, || {
            let shown = user.get(&path).ok()?;
            let text = shown.json["data"][0]["attributes"][field].as_str()?;
            Some(text.to_owned())
        });
        kept.with_context(|| format!("{list}: {:?}", user.get(&path)))
    };
    for text in [kept("attempts", "said")?, kept("dead_letters", "reason")?] {
        ensure!(text.contains("1497 others"), "{text}");
        ensure!(text.len() < 400, "{} bytes: {text}", text.len());
    }
    let said = user.post(&format!("/endpoints/{id}/test"), &json!({}))?;
    let detail = said.with(502)?.json["errors"][0]["detail"].to_string();
    ensure!(detail.len() < 500, "{} bytes: {detail}", detail.len());
    Ok(())
}

/// A certificate of the tests of drivers.
fn kept(name: &str) -> Result<String> {
    let path = format!("crates/drivers/tests/webhook/certificates/{name}");
    let path = dovecast_testkit::workspace::root().join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn a_certificate_that_no_server_can_be_trusted_by_is_refused_in_words(world: &World) -> Result<()> {
    let user = world.account();
    let good = json!({"name": unique("tls"), "url": "https://example.org/"});
    let id = user.endpoint(&good)?;
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    (params.not_before, params.not_after) = (
        rcgen::date_time_ymd(2001, 1, 1),
        rcgen::date_time_ymd(2002, 1, 1),
    );
    let key = KeyPair::generate()?;
    let expired = params.self_signed(&key)?.pem();
    for (pem, expected) in [
        (
            kept("p-521.pem")?,
            "its key is of a kind that is not supported",
        ),
        (
            kept("rsa-1024.pem")?,
            "its RSA key has 1024 bits; 2048 are the least",
        ),
        (
            format!("{}{}", kept("self-signed.pem")?, key.serialize_pem()),
            "there is a private key in it",
        ),
        (expired, "it has expired"),
    ] {
        let data = json!({"server_ca_certificate": pem});
        let fields = json!({"name": unique("tls"), "url": "https://example.org/", "data": data});
        let change = json!({"endpoint": {"data": data}});
        for said in [
            user.post("/endpoints", &json!({"endpoint": fields}))?,
            user.put(&format!("/endpoints/{id}"), &change)?,
        ] {
            said.refused(422, expected, "/data/attributes/data")?;
        }
    }
    Ok(())
}

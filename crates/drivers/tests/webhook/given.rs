//! https with a certificate of the endpoint's own: as an authority's, and as the server's, whatever
//! kind it is of. The certificates are made by openssl (`certificates/make.sh`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use base64::Engine;
use dovecast_dispatch::driver::{Courier, Outcome};
use dovecast_drivers::tls;
use dovecast_drivers::webhook::WebhookOptions;
use rustls::SupportedProtocolVersion;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use crate::{delivery, failed, options, sender};

macro_rules! made {
    ($name:literal) => {
        include_str!(concat!("certificates/", $name))
    };
}

const SELF_SIGNED: Pair = Pair(made!("self-signed.pem"), made!("self-signed.key"));
const COMMON_NAME: Pair = Pair(made!("common-name.pem"), made!("common-name.key"));
const VERSION_1: Pair = Pair(made!("version-1.pem"), made!("version-1.key"));
const LEAF: Pair = Pair(made!("leaf.pem"), made!("leaf.key"));
const LEAF_COMMON_NAME: Pair = Pair(made!("leaf-common-name.pem"), made!("leaf-common-name.key"));
const ELSEWHERE: Pair = Pair(made!("elsewhere.pem"), made!("elsewhere.key"));
const AUTHORITY: &str = made!("authority.pem");

/// A certificate and its key.
#[derive(Clone, Copy)]
struct Pair(&'static str, &'static str);

fn private_key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key")
}

/// Shows this certificate, signs with this key, and answers with 200 and a body whose end is not
/// marked: the connection is closed without a word.
fn serve(shown: &str, key: &str, version: &'static SupportedProtocolVersion) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = CertificateDer::pem_slice_iter(shown.as_bytes()).map(|one| one.expect("one"));
    let key = provider
        .key_provider
        .load_private_key(private_key(key))
        .expect("a key");
    // Unlike `with_single_cert` this looks at nothing.
    let own = SingleCertAndKey::from(CertifiedKey::new(shown.collect(), key));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(own) as Arc<dyn ResolvesServerCert>);
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = rustls::StreamOwned::new(session, stream);
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|read| read > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok").ok();
            }
        }
    });
    address
}

/// Delivers to the server by this name.
async fn outcome(address: SocketAddr, host: &str, given: &str) -> Outcome {
    let options = WebhookOptions {
        server_ca: Some(given.to_owned()),
        ..options(&format!("https://{host}:{}/", address.port()))
    };
    sender(&options).deliver(&delivery()).await.outcome
}

#[tokio::test]
async fn the_servers_own_certificate_is_trusted_where_it_was_given() {
    let around = format!(
        "Our certificate:\n{}\nand an authority:\n{AUTHORITY}",
        VERSION_1.0
    );
    for (what, server, given) in [
        ("of an authority, self-signed", SELF_SIGNED, SELF_SIGNED.0),
        ("with a common name only", COMMON_NAME, COMMON_NAME.0),
        ("of version 1", VERSION_1, VERSION_1.0),
        ("one of several", VERSION_1, around.as_str()),
        ("a leaf, pinned", LEAF, LEAF.0),
        (
            "a leaf with a common name only, pinned",
            LEAF_COMMON_NAME,
            LEAF_COMMON_NAME.0,
        ),
        ("a leaf", LEAF, AUTHORITY),
        (
            "a leaf with a common name only",
            LEAF_COMMON_NAME,
            AUTHORITY,
        ),
    ] {
        tls::check(given).expect(what);
        for version in [&TLS12, &TLS13] {
            let address = serve(server.0, server.1, version);
            let outcome = outcome(address, "localhost", given).await;
            assert_eq!(outcome, Outcome::Delivered, "{what}, {version:?}");
        }
    }
}

#[tokio::test]
async fn nothing_else_is_trusted_and_the_reason_is_a_sentence() {
    let (own, key) = (SELF_SIGNED.0, SELF_SIGNED.1);
    let other_name = "is not for `127.0.0.1`";
    let untrusted = "is from an issuer that is not trusted";
    for (what, shown, key, host, given, expected) in [
        ("another host", own, key, "127.0.0.1", own, other_name),
        (
            "another host, version 1",
            VERSION_1.0,
            VERSION_1.1,
            "127.0.0.1",
            VERSION_1.0,
            "is not for the host",
        ),
        (
            "another host, pinned",
            ELSEWHERE.0,
            ELSEWHERE.1,
            "localhost",
            ELSEWHERE.0,
            "is not for `localhost`",
        ),
        (
            "another host, of the authority",
            ELSEWHERE.0,
            ELSEWHERE.1,
            "localhost",
            AUTHORITY,
            "is not for `localhost`",
        ),
        (
            "without the key",
            own,
            VERSION_1.1,
            "localhost",
            own,
            "is not signed by whom it says",
        ),
        (
            "without the key, version 1",
            VERSION_1.0,
            key,
            "localhost",
            VERSION_1.0,
            "is not signed by whom it says",
        ),
        ("not given", LEAF.0, LEAF.1, "localhost", own, untrusted),
        (
            "not given, of an authority",
            own,
            key,
            "localhost",
            AUTHORITY,
            "shows a certificate of an authority as its own",
        ),
        (
            "not given, version 1",
            VERSION_1.0,
            VERSION_1.1,
            "localhost",
            AUTHORITY,
            "is of an old version of X.509",
        ),
    ] {
        for version in [&TLS12, &TLS13] {
            let address = serve(shown, key, version);
            let reason = failed(outcome(address, host, given).await);
            assert!(reason.starts_with("TLS: the server"), "{what}: {reason}");
            assert!(reason.contains(expected), "{what}: {reason}");
        }
    }
}

#[test]
fn what_cannot_be_trusted_by_is_refused_when_it_is_saved() {
    let both = format!("{AUTHORITY}{}", SELF_SIGNED.1);
    let expired = {
        let mut params =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (
            rcgen::date_time_ymd(2001, 1, 1),
            rcgen::date_time_ymd(2002, 1, 1),
        );
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem()
    };
    for (pem, expected) in [
        (
            made!("p-521.pem"),
            "its key is of a kind that is not supported: RSA, Ed25519,",
        ),
        (
            made!("rsa-1024.pem"),
            "its RSA key has 1024 bits; 2048 are the least",
        ),
        (both.as_str(), "there is a private key in it"),
        (expired.as_str(), "it has expired"),
        ("nothing", "there is no PEM certificate in it"),
    ] {
        let error = tls::check(pem).expect_err(expected).to_string();
        assert!(
            error.starts_with(&format!("invalid certificate: {expected}")),
            "{error}"
        );
    }
    // Where something in it can be used, what cannot does no harm.
    let old = expired + AUTHORITY + made!("p-521.pem");
    tls::check(&old).expect("an authority that is good");
}

#[tokio::test]
async fn what_was_saved_earlier_is_trusted_as_it_was() {
    let with_key = format!("{AUTHORITY}{}", LEAF.1);
    let odd = with_a_month_that_is_none(AUTHORITY);
    for given in [&with_key, &odd] {
        tls::check(given).expect_err("not to be saved");
        let address = serve(LEAF.0, LEAF.1, &TLS13);
        let outcome = outcome(address, "localhost", given).await;
        assert_eq!(outcome, Outcome::Delivered, "{given}");
    }
}

/// Signatures and times of an authority that was given are not looked at.
fn with_a_month_that_is_none(pem: &str) -> String {
    let mut der = CertificateDer::from_pem_slice(pem.as_bytes())
        .expect("a certificate")
        .to_vec();
    // UTCTime of 13 bytes: two digits of the year, two of the month.
    let time = der.windows(2).position(|two| two == [0x17, 13]);
    let month = time.expect("a time") + 4;
    der[month..month + 2].copy_from_slice(b"99");
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn the_reason_is_not_as_long_as_the_certificate() {
    let names: Vec<String> = (0..1500)
        .map(|number| format!("{number}.example.org"))
        .collect();
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(names).expect("names");
    let own = params.self_signed(&key).expect("a certificate").pem();
    let address = serve(&own, &key.serialize_pem(), &TLS13);
    let reason = failed(outcome(address, "localhost", &own).await);
    assert!(reason.contains("1497 others"), "{reason}");
    assert!(reason.len() < 310, "{reason}");
}

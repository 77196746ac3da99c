//! https: an endpoint is believed only with a certificate of whom it should have one, for its name;
//! and so is the end-point of a driver of the configuration file.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use dovecast_dispatch::driver::{Courier, Delivery, Outcome};
use dovecast_drivers::configured::{Block, Surroundings};
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::webhook::WebhookOptions;
use dovecast_notification::Notification;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::{delivery, failed, options, sender};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Answers every request with 204, over TLS, with a certificate for this name.
    fn serve(&self, name: &str) -> SocketAddr {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .expect("a configuration");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(session) = rustls::ServerConnection::new(Arc::clone(&config)) else {
                    return;
                };
                let mut stream = rustls::StreamOwned::new(session, stream.expect("a connection"));
                let mut request = [0; 4096];
                // A client that does not believe us goes away.
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                }
            }
        });
        address
    }
}

async fn outcome(address: SocketAddr, chain: Option<&str>) -> Outcome {
    let options = WebhookOptions {
        server_ca: chain.map(str::to_owned),
        ..options(&format!("https://{address}/"))
    };
    sender(&options).deliver(&delivery()).await.outcome
}

#[tokio::test]
async fn the_chain_of_an_endpoint_takes_the_place_of_the_systems() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let address = authority.serve("127.0.0.1");
    assert_eq!(
        outcome(address, Some(&authority.pem)).await,
        Outcome::Delivered
    );
    let both = format!("{}{}", other.pem, authority.pem);
    assert_eq!(outcome(address, Some(&both)).await, Outcome::Delivered);
    for chain in [Some(other.pem.as_str()), None] {
        let reason = failed(outcome(address, chain).await);
        assert!(
            reason.contains("from an issuer that is not trusted"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_believed() {
    let authority = Authority::new("one");
    let address = authority.serve("example.org");
    let reason = failed(outcome(address, Some(&authority.pem)).await);
    assert!(
        reason.contains("is not for `127.0.0.1`, but for"),
        "{reason}"
    );
}

/// A new mail of a user whose METADATA enables the driver `ox`.
fn new_mail() -> Delivery {
    let event = r#"{"user":"ann","mailbox":"INBOX","event":"MessageNew","uidvalidity":9,"uid":3,
        "metadata":{"/private/vendor/vendor.dovecot/http-notify":"user=11@3"}}"#;
    let mut delivery = delivery();
    for notification in &mut delivery.notifications {
        *notification = Arc::new(Notification {
            message: Bytes::from_static(event.as_bytes()),
            ..Notification::clone(notification)
        });
    }
    delivery
}

/// What comes of a new mail at an OX end-point; `ca_file`: the authorities that are trusted.
async fn told_ox(address: SocketAddr, ca_file: Option<&str>) -> Outcome {
    let of_ca = ca_file.map(|file| format!(" ssl_client_ca_file={file}"));
    let block = Block {
        name: "ox1".to_owned(),
        driver: format!(
            "ox:url=https://{address}/notify{}",
            of_ca.unwrap_or_default()
        ),
        options: BTreeMap::new(),
        plugin: BTreeMap::new(),
        settings: None,
    };
    let surroundings = Surroundings {
        sockets: Sockets::default(),
        lua_host: Vec::new(),
        lua_script_file: None,
        lua_attempt_limit: std::time::Duration::ZERO,
    };
    let driver = block.make(&surroundings).expect("a driver");
    driver.target.open().deliver(&new_mail()).await.outcome
}

#[tokio::test]
async fn an_ox_end_point_is_believed_by_whom_the_operator_trusts() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let address = authority.serve("127.0.0.1");
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).expect("written");
        path.display().to_string()
    };
    let (theirs, wrong) = (file("one", &authority.pem), file("other", &other.pem));
    assert_eq!(told_ox(address, Some(&theirs)).await, Outcome::Delivered);
    // As Dovecot writes the name of a file whose contents it takes.
    let read = format!("<{theirs}");
    assert_eq!(told_ox(address, Some(&read)).await, Outcome::Delivered);
    for file in [Some(&*wrong), None] {
        let reason = failed(told_ox(address, file).await);
        assert!(
            reason.contains("from an issuer that is not trusted"),
            "{reason}"
        );
    }
    let elsewhere = authority.serve("example.org");
    let reason = failed(told_ox(elsewhere, Some(&theirs)).await);
    assert!(
        reason.contains("is not for `127.0.0.1`, but for"),
        "{reason}"
    );
}

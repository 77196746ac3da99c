//! TLS of the service: a certificate of its own, and HTTP/2 only.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How connections are accepted.
#[derive(Clone)]
pub(super) struct Encryption {
    acceptor: TlsAcceptor,
    /// In PEM.
    pub(super) certificate: String,
}

impl Encryption {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate().context("no key")?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]);
        let certificate = params.context("no name")?.self_signed(&key);
        let certificate = certificate.context("no certificate")?;
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private.into())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: Arc::new(config).into(),
            certificate: certificate.pem(),
        })
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let stream = self.acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        ensure!(session.alpn_protocol() == Some(b"h2"), "no HTTP/2");
        Ok(stream)
    }
}

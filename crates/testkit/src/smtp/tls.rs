//! TLS of the mail server, with a certificate for its address by an authority of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::session::Wire;
use crate::certificates::Certificates;

/// When the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// From the first byte.
    Implicit,
    /// When the client asks for it.
    Starttls,
}

/// TLS of a mail server.
pub struct Tls {
    protection: Protection,
    config: Arc<ServerConfig>,
    authority: Vec<u8>,
}

impl Tls {
    /// Makes an authority and a certificate, with `directory` for their files.
    pub fn new(protection: Protection, directory: &Path) -> Result<Self> {
        let made = Certificates::create(directory, Ipv4Addr::LOCALHOST)?;
        let pem = fs::read(&made.server_key_store).context("no certificate")?;
        let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(&pem).context("no key")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates.context("no certificate")?, key)?;
        Ok(Self {
            protection,
            config: Arc::new(config),
            authority: fs::read(&made.ca).context("no authority")?,
        })
    }

    /// PEM of the authority.
    pub fn authority(&self) -> Vec<u8> {
        self.authority.clone()
    }

    pub(super) fn is_implicit(&self) -> bool {
        self.protection == Protection::Implicit
    }

    /// Protects a connection; the handshake comes with the first byte.
    pub(super) fn accept(&self, stream: TcpStream) -> Result<Box<dyn Wire>> {
        let connection = ServerConnection::new(Arc::clone(&self.config))?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }
}

//! Whom https endpoints are trusted by: the system's authorities, or a chain of the endpoint's own
//! in their place.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why there is nobody to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The text holds no certificate, or something that is none.
    #[error("invalid certificate: {0}")]
    Certificate(String),
    /// The system has no authorities to be found.
    #[error("the system's certificates cannot be read: {0}")]
    System(String),
}

/// The system's authorities; they are read once.
pub fn system() -> Result<Arc<ClientConfig>, TlsError> {
    static SYSTEM: OnceLock<Result<Arc<ClientConfig>, TlsError>> = OnceLock::new();
    SYSTEM.get_or_init(read_system).clone()
}

fn read_system() -> Result<Arc<ClientConfig>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::System(errors.join(", ")));
    }
    config(roots)
}

/// The authorities of a PEM text only.
pub fn of_chain(pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| TlsError::Certificate(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
    }
    if roots.is_empty() {
        let text = "there is no PEM certificate in it".to_owned();
        return Err(TlsError::Certificate(text));
    }
    config(roots)
}

fn config(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::System(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

//! Whom https endpoints are trusted by: the system's authorities, or certificates of the endpoint's
//! own in their place.

mod certificate;
mod given;
mod words;

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use given::Given;

pub use words::in_words;

/// Why there is nobody to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The text holds no certificate, something that is none, or none by which anyone can be
    /// trusted.
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
    let config = builder()?.with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Whether a PEM text that is to be kept can be trusted by. Stricter than [`of_chain`], which takes
/// what was kept earlier: there is no private key in it, all of it can be read, and not all of it
/// has expired.
pub fn check(pem: &str) -> Result<(), TlsError> {
    if has_private_key(pem) {
        return Err(TlsError::Certificate(
            "there is a private key in it, which belongs on the server alone".to_owned(),
        ));
    }
    let certificates = read(pem)?;
    for one in &certificates {
        certificate::parse(one).map_err(TlsError::Certificate)?;
    }
    if certificates
        .iter()
        .all(|one| certificate::has_expired(one, SystemTime::now()))
    {
        return Err(TlsError::Certificate(
            "it has expired, and nothing can be trusted by it any more".to_owned(),
        ));
    }
    of_chain(pem).map(drop)
}

/// Whether a PEM text has a private key in it, of whatever kind.
pub fn has_private_key(pem: &str) -> bool {
    pem.contains("PRIVATE KEY-----")
}

/// The certificates of a PEM text only: as authorities, and each as a server's own. What else is in
/// the text is skipped, a private key too.
pub fn of_chain(pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let refused = |error: &dyn std::fmt::Display| TlsError::Certificate(error.to_string());
    let certificates = read(pem)?;
    let mut roots = RootCertStore::empty();
    let mut unusable = None;
    for one in &certificates {
        match certificate::key_problem(one) {
            Some(problem) => unusable = unusable.or(Some(problem)),
            None => roots.add(one.clone()).map_err(|error| refused(&error))?,
        }
    }
    if let Some(problem) = unusable.filter(|_| roots.is_empty()) {
        return Err(TlsError::Certificate(problem));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| refused(&error))?;
    // What cannot be read names no host: such is an authority at most.
    let own = certificates.into_iter();
    let own = own.filter(|one| certificate::parse(one).is_ok()).collect();
    let verifier = Given::new(chain, own, algorithms);
    let config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(config.with_no_client_auth()))
}

/// All certificates of a PEM text, at least one; other text is skipped.
fn read(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut found = Vec::new();
    for one in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        found.push(one.map_err(|error| TlsError::Certificate(error.to_string()))?);
    }
    if found.is_empty() {
        let text = "there is no PEM certificate in it".to_owned();
        return Err(TlsError::Certificate(text));
    }
    Ok(found)
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::System(error.to_string()))
}

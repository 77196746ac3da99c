//! The certificates of one server under test, a broker or a database: an authority, a server and a
//! client, made at start, PEM files.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Where the PEM files lie.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's private key followed by its certificate, as Kafka wants a PEM key store.
    pub server_key_store: PathBuf,
    /// The client's certificate.
    pub client_certificate: PathBuf,
    /// The client's private key (PKCS #8, not encrypted).
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in `directory`; the server's is for the IP address `server`.
    pub fn create(directory: &Path, server: Ipv4Addr) -> Result<Certificates> {
        let ca_key = KeyPair::generate().context("cannot make the authority's key")?;
        let mut ca_params = named("dovecast test authority", Vec::new())?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = ca_params
            .self_signed(&ca_key)
            .context("cannot sign the authority's certificate")?;
        let issuer = Issuer::new(ca_params, ca_key);

        let address = server.to_string();
        let server_params = named(&address, vec![address.clone()])?;
        let (server_certificate, server_key) =
            issue(server_params, ExtendedKeyUsagePurpose::ServerAuth, &issuer)?;
        let client_params = named("dovecast-test-client", Vec::new())?;
        let (client_certificate, client_key) =
            issue(client_params, ExtendedKeyUsagePurpose::ClientAuth, &issuer)?;

        let server_key_store = format!("{server_key}{server_certificate}");
        Ok(Certificates {
            ca: write(directory, "ca.pem", &ca.pem())?,
            server_key_store: write(directory, "server.pem", &server_key_store)?,
            client_certificate: write(directory, "client.pem", &client_certificate)?,
            client_key: write(directory, "client.key", &client_key)?,
        })
    }
}

fn named(common_name: &str, subject_alt_names: Vec<String>) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(subject_alt_names)
        .with_context(|| format!("cannot name a certificate `{common_name}`"))?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A certificate for a new key, and the key.
fn issue(
    mut params: CertificateParams,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String)> {
    let key = KeyPair::generate().context("cannot make a key")?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let certificate = params
        .signed_by(&key, issuer)
        .context("cannot sign a certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn write(directory: &Path, name: &str, pem: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, pem).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(path)
}

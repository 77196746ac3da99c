//! Trust in the certificates that an account has given for an endpoint: in each as an authority,
//! and in each as the server's own, whatever kind of certificate it is.
//!
//! `openssl req -x509` makes certificates of an authority, and old tools such of X.509 version 1;
//! servers show them as their own, which RFC 5280 does not provide for and rustls refuses. Where
//! the server shows one that was given, byte for byte, nothing is to be proved of who has signed
//! it: it has to name the host, to be valid now, and the server has to have its key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};
use webpki::RawPublicKeyEntity;
use x509_parser::certificate::X509Certificate;

use super::certificate;

/// Trusts what was given, and nothing else.
#[derive(Debug)]
pub(super) struct Given {
    chain: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Given {
    /// `chain` trusts whom the certificates have signed.
    pub(super) fn new(
        chain: Arc<WebPkiServerVerifier>,
        certificates: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            chain,
            certificates,
            algorithms,
        }
    }

    fn is_given(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|given| given == certificate)
    }
}

impl ServerCertVerifier for Given {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_given(end_entity) {
            let own = parse(end_entity)?;
            is_valid_at(&own, now)?;
            is_for(&own, end_entity, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The last thing that is looked at: the rest of it is right.
            Err(error) if is_about_the_name(&error) => {
                is_for(&parse(end_entity)?, end_entity, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.is_given(cert) {
            return self.chain.verify_tls12_signature(message, cert, dss);
        }
        let own = parse(cert)?;
        let key = SubjectPublicKeyInfoDer::from(own.public_key().raw);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let mut offered = self.algorithms.mapping.iter();
        let (_, algorithms) = offered
            .find(|(scheme, _)| *scheme == dss.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let is_signed = algorithms.iter().any(|algorithm| {
            let verified = key.verify_signature(*algorithm, message, dss.signature());
            verified.is_ok()
        });
        if is_signed {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.is_given(cert) {
            return self.chain.verify_tls13_signature(message, cert, dss);
        }
        let own = parse(cert)?;
        let key = SubjectPublicKeyInfoDer::from(own.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    certificate::parse(der).map_err(|_| CertificateError::BadEncoding.into())
}

fn is_valid_at(own: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = own.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// By its alternative names; where it has none, by its common name.
fn is_for(
    own: &X509Certificate<'_>,
    der: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), Error> {
    if certificate::is_common_name(own, name) {
        return Ok(());
    }
    match ParsedCertificate::try_from(der) {
        Ok(parsed) => verify_server_name(&parsed, name),
        // Of version 1, which has no alternative names.
        Err(_) => Err(CertificateError::NotValidForName.into()),
    }
}

fn is_about_the_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

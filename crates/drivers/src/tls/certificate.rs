//! What a certificate says of itself that rustls does not tell: whether it can be used, how long it
//! is valid, and its common name.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, ServerName};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Sizes of an RSA key with which signatures are checked, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Reads a certificate; the error is a sentence without its end.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der.as_ref()) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("there is something behind the end of a certificate".to_owned()),
        Err(_) => Err("it cannot be read as X.509".to_owned()),
    }
}

/// Why nothing can be trusted by the key of a certificate, as far as that can be read.
pub(super) fn key_problem(der: &CertificateDer<'_>) -> Option<String> {
    problem(parse(der).ok()?.public_key())
}

fn problem(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let kind = &key.algorithm.algorithm;
    if *kind == OID_SIG_ED25519 {
        return None;
    }
    if *kind == OID_PKCS1_RSAENCRYPTION {
        let bits = match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => bits(rsa.modulus),
            _ => 0,
        };
        let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
        return (!RSA_BITS.contains(&bits)).then(|| {
            format!("its RSA key has {bits} bits; {least} are the least, and {most} the most")
        });
    }
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let parameters = key.algorithm.parameters.as_ref();
        let curve = parameters.and_then(|curve| curve.as_oid().ok());
        if curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384) {
            return None;
        }
    }
    Some("its key is of a kind that is not supported: RSA, Ed25519, and ECDSA on the curves P-256 and P-384 are".to_owned())
}

fn bits(modulus: &[u8]) -> usize {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = &modulus[zeros..];
    let unused = modulus.first().map_or(0, |first| first.leading_zeros());
    (modulus.len() * 8).saturating_sub(unused as usize)
}

/// Whether a certificate has come to its end.
pub(super) fn has_expired(der: &CertificateDer<'_>, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    parse(der).is_ok_and(|one| one.validity().not_after.timestamp() < now)
}

/// Whether a certificate that has no alternative names has this one as its common name: what there
/// was before those (RFC 2818, 3.1), and what `openssl x509 -req -signkey` makes.
pub(super) fn is_common_name(certificate: &X509Certificate<'_>, name: &ServerName<'_>) -> bool {
    if !matches!(certificate.subject_alternative_name(), Ok(None)) {
        return false;
    }
    let wanted = name.to_str();
    let mut common = certificate.subject().iter_common_name();
    common.any(|common| {
        common
            .as_str()
            .is_ok_and(|common| covers(common, &wanted, name))
    })
}

fn covers(common: &str, wanted: &str, name: &ServerName<'_>) -> bool {
    if common.eq_ignore_ascii_case(wanted) {
        return true;
    }
    // One label, the first (RFC 9525, 6.3).
    let (Some(parent), ServerName::DnsName(_)) = (common.strip_prefix("*."), name) else {
        return false;
    };
    let rest = wanted.split_once('.').map(|(_, rest)| rest);
    parent.contains('.') && rest.is_some_and(|rest| rest.eq_ignore_ascii_case(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_covers_itself_and_one_label_for_its_star() {
        for (common, wanted, expected) in [
            ("Example.org", "example.org", true),
            ("example.org", "a.example.org", false),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "a.b.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.org", "example.org", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("*.0.0.1", "127.0.0.1", false),
            ("", "example.org", false),
        ] {
            let name = ServerName::try_from(wanted).expect("a name");
            assert_eq!(
                covers(common, wanted, &name),
                expected,
                "{common}: {wanted}"
            );
        }
    }

    #[test]
    fn bits_are_counted_without_zeros_before() {
        assert_eq!(
            (bits(&[0, 0x80, 0]), bits(&[1, 0]), bits(&[0]), bits(&[])),
            (16, 9, 0, 0)
        );
    }
}

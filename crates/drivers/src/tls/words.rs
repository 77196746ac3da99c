//! Errors of TLS as sentences: what is wrong with whose certificate, and what may be done about it.
//! What a server has put into its certificate is cut.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

/// Most names of a certificate that an error cites.
const CITED_NAMES: usize = 3;
const WHERE: &str = "data.server_ca_certificate";

/// What went wrong with a handshake.
pub fn in_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::InvalidCertificate(error)) => certificate(error),
        Some(Error::AlertReceived(AlertDescription::HandshakeFailure)) => {
            "the server has no way of encryption in common with us: its key may be of a kind that is not supported".to_owned()
        }
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            format!("the server's certificate is from an issuer that is not trusted; `{WHERE}` takes the issuer's certificate, or the server's own")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName => {
            "the server's certificate is not for the host of the URL".to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => other_names(&expected.to_str(), presented),
        CertificateError::BadSignature => {
            "the server's certificate, or the handshake, is not signed by whom it says".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate is signed in a way that is not supported, with SHA-1 or a key on the curve P-521 perhaps".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the server's certificate is for another purpose than that of a server".to_owned()
        }
        CertificateError::Other(OtherError(other)) => match other.downcast_ref() {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                format!("the server shows a certificate of an authority as its own; it is trusted only if that very certificate is in `{WHERE}`")
            }
            Some(webpki::Error::UnsupportedCertVersion) => {
                format!("the server's certificate is of an old version of X.509; it is trusted only if that very certificate is in `{WHERE}`")
            }
            _ => format!("the server's certificate cannot be trusted: {other}"),
        },
        other => format!("the server's certificate cannot be trusted: {other}"),
    }
}

/// A certificate may have thousands of names.
fn other_names(expected: &str, presented: &[String]) -> String {
    if presented.is_empty() {
        return format!(
            "the server's certificate names no host, and `{expected}` has to be one of its names"
        );
    }
    let cited = presented.iter().take(CITED_NAMES);
    let cited: Vec<&str> = cited.map(String::as_str).collect();
    let cited = cited.join(", ");
    match presented.len().saturating_sub(CITED_NAMES) {
        0 => format!("the server's certificate is not for `{expected}`, but for {cited}"),
        more => format!(
            "the server's certificate is not for `{expected}`, but for {cited} and {more} others"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_cited_in_part() {
        let names: Vec<String> = (0..1500)
            .map(|number| format!("DnsName(\"{number}.example\")"))
            .collect();
        for (count, expected) in [
            (0, "names no host, and `a.b` has to be one of its names"),
            (1, "is not for `a.b`, but for DnsName(\"0.example\")"),
            (1500, "DnsName(\"2.example\") and 1497 others"),
        ] {
            let told = other_names("a.b", &names[..count]);
            assert!(told.ends_with(expected), "{told}");
        }
    }
}

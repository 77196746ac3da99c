//! VAPID (RFC 8292): who we are to the services of browsers.
//!
//! The key is made once. Browsers bind their subscriptions to it, so one that is lost, or that
//! differs from node to node, makes all subscriptions useless.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hyper::header::HeaderValue;
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use zeroize::Zeroizing;

use crate::push::{ServiceKey, jwt};

/// Time for which a token counts; the specification has 24 hours at most.
const VALID_FOR: Duration = Duration::from_hours(12);
/// Time for which a token is used again: to sign one takes as long as to seal a third of a push.
const USED_FOR: Duration = Duration::from_hours(1);
/// Most services whose tokens are kept: any host may be one.
const KEPT: usize = 1024;
/// Most bytes of a file with a key.
const MAX_FILE_BYTES: u64 = 16 * 1024;
/// Characters of base64 in a line of PEM (RFC 7468, 2).
const PEM_LINE: usize = 64;

/// Our key, by which services know us.
pub struct VapidKey {
    pair: EcdsaKeyPair,
    public: String,
}

/// Why there is no key. Shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum VapidKeyError {
    /// The file cannot be read or written.
    #[error("the VAPID key `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is no key.
    #[error("the VAPID key {0}")]
    Key(String),
    /// There are no random bytes.
    #[error("a VAPID key cannot be made: the system has no random bytes")]
    Random,
}

impl VapidKey {
    /// Makes a key, in PEM (PKCS #8).
    pub fn generate() -> Result<Zeroizing<String>, VapidKeyError> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
        let der = der.map_err(|_| VapidKeyError::Random)?;
        let text = Zeroizing::new(BASE64_STANDARD.encode(der.as_ref()));
        let mut pem = Zeroizing::new(String::with_capacity(text.len() + 100));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for (at, next) in text.chars().enumerate() {
            if at > 0 && at % PEM_LINE == 0 {
                pem.push('\n');
            }
            pem.push(next);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// Reads a key in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, VapidKeyError> {
        let pair = jwt::es256_key(pem).map_err(VapidKeyError::Key)?;
        let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key());
        Ok(Self { pair, public })
    }

    /// Reads the key; a file is made if it is not there.
    pub(in crate::push) fn of(key: &ServiceKey) -> Result<Self, VapidKeyError> {
        match key {
            ServiceKey::File(path) => Self::of_file(path),
            ServiceKey::Text { text, .. } => Self::from_pem(text),
        }
    }

    /// Reads the key of a file, which is made if it is not there; only its owner can read it. Of
    /// two processes that make it at the same time both read the one that was first.
    pub fn of_file(path: &Path) -> Result<Self, VapidKeyError> {
        let failed = |source| VapidKeyError::File {
            path: path.to_owned(),
            source,
        };
        match fs::metadata(path) {
            Ok(found) if found.len() > MAX_FILE_BYTES => {
                return Err(failed(io::ErrorKind::FileTooLarge.into()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = Self::generate()?;
                write_new(path, pem.as_bytes()).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let pem = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        Self::from_pem(&pem)
    }

    /// The public key, an uncompressed point in base64url.
    pub fn public_key(&self) -> &str {
        &self.public
    }
}

impl fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VapidKey({})", self.public)
    }
}

/// Writes a file as a whole, unless there is one.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut random = [0; 8];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| io::Error::other("the system has no random bytes"))?;
    let suffix = u64::from_be_bytes(random);
    let new = path.with_added_extension(format!("{suffix:016x}.new"));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    // A link is there whole or not at all, and never in the place of another file.
    let linked = written.and_then(|()| match fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&new);
    linked.and(removed)
}

/// Makes the headers by which services know us.
pub(in crate::push) struct Vapid {
    key: VapidKey,
    subject: Option<String>,
    /// By service: when it was made, and the header.
    made: Mutex<HashMap<String, (SystemTime, HeaderValue)>>,
}

impl Vapid {
    pub(in crate::push) fn new(key: VapidKey, subject: Option<String>) -> Self {
        Self {
            key,
            subject,
            made: Mutex::default(),
        }
    }

    pub(super) fn key(&self) -> &VapidKey {
        &self.key
    }

    /// The value of `Authorization` for a service, named by its origin.
    pub(super) fn authorization(
        &self,
        service: &str,
        now: SystemTime,
    ) -> Result<HeaderValue, Unspecified> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, header)) = made.get(service)
            // A clock that was set back makes the age an error.
            && now.duration_since(*since).is_ok_and(|age| age < USED_FOR)
        {
            return Ok(header.clone());
        }
        let header = self.sign(service, now)?;
        if made.len() >= KEPT {
            made.clear();
        }
        made.insert(service.to_owned(), (now, header.clone()));
        Ok(header)
    }

    fn sign(&self, service: &str, now: SystemTime) -> Result<HeaderValue, Unspecified> {
        let ends = now + VALID_FOR;
        let ends = ends.duration_since(UNIX_EPOCH).map_err(|_| Unspecified)?;
        let mut claims = json!({ "aud": service, "exp": ends.as_secs() });
        if let Some(subject) = &self.subject {
            claims["sub"] = json!(subject);
        }
        let header = json!({ "typ": "JWT", "alg": "ES256" });
        let token = jwt::token(&header, &claims, |text| jwt::es256(&self.key.pair, text))?;
        let value = format!("vapid t={token}, k={}", self.key.public);
        let mut value = HeaderValue::try_from(value).map_err(|_| Unspecified)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Whether a text can be the subject: services want an address at which we are reached.
pub(in crate::push) fn check_subject(subject: &str) -> Result<(), &'static str> {
    let is_address = |text: &str| text.contains('@') && !text.contains(char::is_whitespace);
    let is_mail = subject.strip_prefix("mailto:").is_some_and(is_address);
    let is_page = url::Url::parse(subject).is_ok_and(|url| url.scheme() == "https");
    if is_mail || is_page {
        Ok(())
    } else {
        Err("is neither `mailto:` with an address nor an `https://` URL")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_of_a_file_is_made_once_and_read_by_its_owner_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("vapid.pem");
        let made = VapidKey::of_file(&path).expect("a key");
        assert_eq!(made.public_key().len(), 87);
        let read = VapidKey::of_file(&path).expect("the same key");
        assert_eq!(made.public_key(), read.public_key());
        let rights = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(rights & 0o777, 0o600);
        let files = fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(files, 1, "nothing is left beside it");
        fs::write(&path, "-----BEGIN").expect("written");
        let error = VapidKey::of_file(&path).expect_err("no key").to_string();
        assert_eq!(
            error,
            "the VAPID key has no private key in PEM (`-----BEGIN PRIVATE KEY-----`)"
        );
    }

    #[test]
    fn a_header_is_used_for_an_hour_at_its_own_service() {
        let pem = VapidKey::generate().expect("a key");
        let key = VapidKey::from_pem(&pem).expect("the key");
        let vapid = Vapid::new(key, Some("mailto:a@b.example".to_owned()));
        let now = SystemTime::now();
        let header = |service, now| vapid.authorization(service, now).expect("a header");
        let first = header("https://a.example", now);
        assert_eq!(header("https://a.example", now + USED_FOR / 2), first);
        assert_ne!(header("https://b.example", now), first);
        assert_ne!(header("https://a.example", now + USED_FOR), first);
        let earlier = now - Duration::from_mins(1);
        assert_ne!(header("https://a.example", earlier), first);
    }

    #[test]
    fn a_subject_is_an_address() {
        for (subject, expected) in [
            ("mailto:a@b.example", true),
            ("https://b.example/push", true),
            ("a@b.example", false),
            ("http://b.example", false),
            ("mailto:", false),
        ] {
            assert_eq!(check_subject(subject).is_ok(), expected, "{subject}");
        }
    }
}

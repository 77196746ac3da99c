//! The service account by which Google knows us: a signed assertion (RFC 7523) for an access token,
//! which is used until shortly before its end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::push::answer::words;
use crate::push::post::{Client, Destination, NoAnswer, PARTY};
use crate::push::{ServiceKey, jwt};

/// What the token is asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// Where tokens are asked for, if the file of the account does not say it.
const TOKEN_ENDPOINT: &str = "https://oauth2.googleapis.com/token";
/// Grant of RFC 7523, 2.1.
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Time for which an assertion counts; Google takes an hour at most.
const ASSERTED_FOR: Duration = Duration::from_mins(30);
/// Time before the end of a token at which another one is asked for.
const RENEWED_BEFORE: Duration = Duration::from_mins(5);
/// Shortest time for which a token is used, whatever it says of its end.
const SHORTEST_USE: Duration = Duration::from_secs(10);
/// Longest time for which a token is used: Google gives an hour.
const LONGEST_USE: Duration = Duration::from_hours(1);
/// Most bytes of the file of an account.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What the file of an account says. Shows nothing of it.
pub(crate) struct ServiceAccount {
    email: String,
    project: String,
    key_id: Option<String>,
    token_uri: Option<String>,
    key: RsaKeyPair,
}

/// As Google writes it; other fields are skipped.
#[derive(Deserialize)]
struct File {
    client_email: String,
    project_id: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Reads the JSON that Google gives out; the text says what is wrong with it.
    pub(crate) fn of(key: &ServiceKey) -> Result<Self, String> {
        let text = key.read(MAX_FILE_BYTES)?;
        Self::parse(&text).map_err(|error| format!("names {key}, which {error}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The error would cite what is there.
        let file: File = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!(
                "is not the JSON of a service account with `client_email`, `project_id` and `private_key` (line {line}, column {column})"
            )
        })?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-.:_".contains(c);
        if file.project_id.is_empty() || !file.project_id.chars().all(is_name) {
            return Err("has a `project_id` that is none".to_owned());
        }
        let private_key = Zeroizing::new(file.private_key);
        let der = PrivatePkcs8KeyDer::from_pem_slice(private_key.as_bytes())
            .map_err(|_| "has a `private_key` that is not PEM (PKCS #8)".to_owned())?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|error| format!("has a `private_key` that is not of RSA ({error})"))?;
        Ok(Self {
            email: file.client_email,
            project: file.project_id,
            key_id: file.private_key_id,
            token_uri: file.token_uri,
            key,
        })
    }

    /// Project whose applications are pushed to.
    pub(super) fn project(&self) -> &str {
        &self.project
    }

    fn assertion(&self, audience: &str, now: SystemTime) -> Result<String, Unspecified> {
        let now = now.duration_since(UNIX_EPOCH).map_err(|_| Unspecified)?;
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = &self.key_id {
            header["kid"] = json!(id);
        }
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": audience,
            "iat": now.as_secs(),
            "exp": (now + ASSERTED_FOR).as_secs(),
        });
        jwt::token(&header, &claims, |text| {
            let mut signature = vec![0; self.key.public().modulus_len()];
            let random = SystemRandom::new();
            self.key
                .sign(&RSA_PKCS1_SHA256, &random, text, &mut signature)?;
            Ok(signature)
        })
    }
}

/// Why there is no access token. Shows none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoToken {
    #[error("no access token: {0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("no access token: {status}, {reason}")]
    Refused {
        status: StatusCode,
        reason: String,
        retry_after: Option<Duration>,
    },
    #[error("no access token: the answer has none")]
    Unread,
    #[error("no access token: the assertion cannot be signed")]
    Unsigned,
}

/// An access token.
pub(super) struct AccessToken {
    /// Value of `Authorization`.
    pub(super) header: HeaderValue,
    until: Instant,
}

/// An account, and its access token.
pub(super) struct Account {
    client: Client,
    known_as: ServiceAccount,
    to: Destination,
    audience: String,
    /// Held while a token is asked for: one asks, and the others wait for it.
    token: Mutex<Option<Arc<AccessToken>>>,
}

/// An answer of the token end-point (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

/// An error of it (RFC 6749, 5.2).
#[derive(Deserialize)]
struct Denied {
    error: String,
    error_description: Option<String>,
}

impl Account {
    pub(super) fn new(
        client: Client,
        account: ServiceAccount,
        token_endpoint: Option<&str>,
    ) -> Result<Self, String> {
        let named = token_endpoint.or(account.token_uri.as_deref());
        let audience = named.unwrap_or(TOKEN_ENDPOINT).to_owned();
        Ok(Self {
            client,
            to: Destination::parse(&audience)?,
            audience,
            known_as: account,
            token: Mutex::default(),
        })
    }

    /// The token at hand, or a new one.
    pub(super) async fn token(&self) -> Result<Arc<AccessToken>, NoToken> {
        let mut held = self.token.lock().await;
        if let Some(token) = &*held
            && Instant::now() < token.until
        {
            return Ok(Arc::clone(token));
        }
        let token = Arc::new(self.ask().await?);
        *held = Some(Arc::clone(&token));
        Ok(token)
    }

    /// Forgets a token that is refused, unless there is another one already.
    pub(super) async fn forget(&self, refused: &Arc<AccessToken>) {
        let mut held = self.token.lock().await;
        if held
            .as_ref()
            .is_some_and(|token| Arc::ptr_eq(token, refused))
        {
            *held = None;
        }
    }

    async fn ask(&self) -> Result<AccessToken, NoToken> {
        let assertion = self.known_as.assertion(&self.audience, SystemTime::now());
        let assertion = assertion.map_err(|_| NoToken::Unsigned)?;
        let grant = utf8_percent_encode(GRANT, NON_ALPHANUMERIC);
        // Base64url and dots need no encoding.
        let body = Bytes::from(format!("grant_type={grant}&assertion={assertion}"));
        let mut headers = HeaderMap::with_capacity(4);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        let asked = Instant::now();
        let party = Arc::from(PARTY);
        let said = self.client.post(&party, &self.to, headers, body).await?;
        if !said.status.is_success() {
            let denied: Option<Denied> = serde_json::from_slice(&said.body).ok();
            let reason = denied.map(|denied| match denied.error_description {
                Some(description) => format!("{}: {description}", denied.error),
                None => denied.error,
            });
            let reason = reason.and_then(|reason| words(reason.as_bytes()));
            return Err(NoToken::Refused {
                status: said.status,
                reason: reason.unwrap_or_else(|| "without a reason".to_owned()),
                retry_after: said.retry_after,
            });
        }
        let granted: Granted = serde_json::from_slice(&said.body).map_err(|_| NoToken::Unread)?;
        let header = format!("Bearer {}", granted.access_token);
        let mut header = HeaderValue::try_from(header).map_err(|_| NoToken::Unread)?;
        header.set_sensitive(true);
        let lasts = granted.expires_in.map_or(LONGEST_USE, Duration::from_secs);
        let used = lasts
            .saturating_sub(RENEWED_BEFORE)
            .clamp(SHORTEST_USE, LONGEST_USE);
        Ok(AccessToken {
            header,
            until: asked + used,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_account_is_said_without_its_key() {
        let with = |project: &str, key: &str| {
            json!({"client_email": "a@b", "project_id": project, "private_key": key}).to_string()
        };
        for (text, expected) in [
            (
                r#"{"private_key": "geheim"}"#.to_owned(),
                "is not the JSON of a service account with `client_email`, `project_id` and `private_key` (line 1, column 25)",
            ),
            (with("a/b", "geheim"), "has a `project_id` that is none"),
            (
                with("a", "geheim"),
                "has a `private_key` that is not PEM (PKCS #8)",
            ),
        ] {
            let error = ServiceAccount::parse(&text).err();
            assert_eq!(error.as_deref(), Some(expected), "{text}");
        }
    }
}

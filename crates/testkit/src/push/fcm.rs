//! Google's token end-point and FCM HTTP v1.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::http1::{self, Asked, Reply};
use super::token::{self, Token};

/// A key that was made for this stand-in (PKCS #8, DER); nobody else believes it.
const KEY: &[u8] = include_bytes!("service-account.der");
/// Account, project and id of the key.
const EMAIL: &str = "push@test-project.iam.gserviceaccount.example";
const PROJECT: &str = "test-project";
const KEY_ID: &str = "0123456789abcdef";
/// Scope that pushes need.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// Longest time of an assertion, in seconds.
const LONGEST_ASSERTION: u64 = 3600;
/// Most bytes of the keys and values of data.
const MAX_DATA_BYTES: usize = 4096;

/// Running end-points.
#[derive(Clone)]
pub struct FcmService {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// By registration token: whether it is registered.
    devices: HashMap<String, bool>,
    replies: VecDeque<Reply>,
    /// Access tokens that were given out; those behind `revoked` are good.
    granted: usize,
    revoked: usize,
    expires_in: u64,
    taken: Vec<Value>,
    refused: Vec<String>,
}

impl FcmService {
    /// Starts both on loopback, at `http`.
    pub fn start() -> Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            expires_in: 3599,
            ..Shared::default()
        }));
        let state = Arc::clone(&shared);
        let address = http1::serve(move |asked| {
            let mut shared = locked(&state);
            let answered = match asked.path.as_str() {
                "/token" => shared.grant(asked).map_err(|error| {
                    let described = json!({
                        "error": "invalid_grant",
                        "error_description": format!("{error:#}"),
                    });
                    Reply::new(400, described.to_string())
                }),
                _ => shared.take(asked),
            };
            match answered {
                Ok(reply) => reply,
                Err(refusal) => {
                    shared.refused.push(refusal.body.clone());
                    refusal
                }
            }
        })?;
        Ok(Self { address, shared })
    }

    /// What `endpoint` is set to.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file of a service account that is known here.
    pub fn service_account(&self) -> String {
        let key = BASE64_STANDARD.encode(KEY);
        json!({
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": KEY_ID,
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
            "client_email": EMAIL,
            "token_uri": format!("http://{}/token", self.address),
        })
        .to_string()
    }

    /// Registers a device, or takes its registration back.
    pub fn register(&self, token: &str, is_registered: bool) {
        let mut shared = locked(&self.shared);
        shared.devices.insert(token.to_owned(), is_registered);
    }

    /// Answers the next push so, without a look at it.
    pub fn answer_next(&self, reply: Reply) {
        locked(&self.shared).replies.push_back(reply);
    }

    /// No access token that was given out is good any more.
    pub fn revoke(&self) {
        let mut shared = locked(&self.shared);
        shared.revoked = shared.granted;
    }

    /// How long access tokens last from now on, in seconds.
    pub fn expire_in(&self, seconds: u64) {
        locked(&self.shared).expires_in = seconds;
    }

    /// How many access tokens were given out.
    pub fn granted(&self) -> usize {
        locked(&self.shared).granted
    }

    /// The messages that devices have got so far.
    pub fn taken(&self) -> Vec<Value> {
        locked(&self.shared).taken.clone()
    }

    /// What was refused so far, and why.
    pub fn refused(&self) -> Vec<String> {
        locked(&self.shared).refused.clone()
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error in the form of Google's APIs.
pub fn fcm_error(status: u16, name: &str, code: Option<&str>, message: &str) -> Reply {
    let details: Vec<Value> = code
        .iter()
        .map(|code| {
            json!({
                "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
                "errorCode": code,
            })
        })
        .collect();
    let error = json!({"code": status, "message": message, "status": name, "details": details});
    Reply::new(status, json!({ "error": error }).to_string())
}

impl Shared {
    fn grant(&mut self, asked: &Asked) -> Result<Reply> {
        ensure!(asked.method == "POST", "no POST");
        let form = asked.header("content-type");
        ensure!(form == Some("application/x-www-form-urlencoded"), "no form");
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        let field = |name: &str| {
            let mut fields = body.split('&');
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let grant = field("grant_type").context("no grant type")?;
        let expected = ["urn", "ietf", "params", "oauth", "grant-type", "jwt-bearer"];
        let grant = grant.replace("%3A", ":").replace("%2D", "-");
        ensure!(grant == expected.join(":"), "another grant");
        let token = Token::parse(field("assertion").context("no assertion")?)?;
        ensure!(token.header["kid"] == KEY_ID, "another key");
        let key = RsaKeyPair::from_pkcs8(KEY).ok().context("no key")?;
        let public = key.public_key().as_ref().to_vec();
        token.verify_rs256(&UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public))?;
        ensure!(token.claims["iss"] == EMAIL, "another account");
        ensure!(token.claims["scope"] == SCOPE, "another scope");
        let host = asked.header("host").context("no host")?;
        let audience = format!("http://{host}/token");
        ensure!(token.claims["aud"] == audience, "for somebody else");
        let (from, to, now) = (token.time("iat")?, token.time("exp")?, token::now());
        ensure!(from <= now + 60 && now < to, "not of this time");
        ensure!(to - from <= LONGEST_ASSERTION, "for longer than an hour");
        self.granted += 1;
        let granted = json!({
            "access_token": format!("ya29.{}", self.granted),
            "expires_in": self.expires_in,
            "token_type": "Bearer",
        });
        Ok(Reply::new(200, granted.to_string()))
    }

    fn take(&mut self, asked: &Asked) -> Result<Reply, Reply> {
        let expected = format!("/v1/projects/{PROJECT}/messages:send");
        if asked.method != "POST" || asked.path != expected {
            return Err(fcm_error(404, "NOT_FOUND", None, "no such method"));
        }
        let bearer = asked.header("authorization").unwrap_or_default();
        let number = bearer.strip_prefix("Bearer ya29.");
        let number: usize = number.and_then(|it| it.parse().ok()).unwrap_or_default();
        if number <= self.revoked || number > self.granted {
            return Err(fcm_error(
                401,
                "UNAUTHENTICATED",
                None,
                "no such access token",
            ));
        }
        if let Some(reply) = self.replies.pop_front() {
            return Ok(reply);
        }
        let invalid =
            |message: &str| fcm_error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), message);
        let body: Value = serde_json::from_slice(&asked.body).map_err(|_| invalid("no JSON"))?;
        let message = &body["message"];
        check(message).map_err(|error| invalid(&format!("{error:#}")))?;
        let token = message["token"].as_str().unwrap_or_default();
        match self.devices.get(token) {
            None => Err(invalid("the registration token is not valid")),
            Some(false) => {
                let gone = fcm_error(404, "NOT_FOUND", Some("UNREGISTERED"), "not found");
                Err(gone)
            }
            Some(true) => {
                self.taken.push(message.clone());
                let name = format!("projects/{PROJECT}/messages/0:{}", self.taken.len());
                Ok(Reply::new(200, json!({ "name": name }).to_string()))
            }
        }
    }
}

fn check(message: &Value) -> Result<()> {
    let data = message["data"].as_object().context("no data")?;
    let mut bytes = 0;
    for (key, value) in data {
        let value = value.as_str().context("a value of data is no text")?;
        let is_reserved = matches!(&**key, "from" | "message_type" | "collapse_key")
            || key.starts_with("google.")
            || key.starts_with("gcm.");
        ensure!(!is_reserved, "a key of data is reserved");
        bytes += key.len() + value.len();
    }
    ensure!(bytes <= MAX_DATA_BYTES, "Android message is too big");
    let android = &message["android"];
    let ttl = android["ttl"].as_str().context("no ttl")?;
    let seconds = ttl.strip_suffix('s').and_then(|it| it.parse::<u64>().ok());
    ensure!(seconds.is_some_and(|it| it <= 2_419_200), "no ttl");
    let is_known = matches!(android["priority"].as_str(), Some("NORMAL" | "HIGH"));
    ensure!(is_known, "no priority");
    ensure!(android["collapse_key"].is_string(), "no collapse key");
    Ok(())
}

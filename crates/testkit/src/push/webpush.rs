//! A service of browsers: RFC 8030, with VAPID (RFC 8292) as the strictest of them asks for it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Browser;
use super::http1::{self, Asked, Reply};
use super::token::{self, Token};

/// Longest time for which a token may count (RFC 8292, 2), in seconds.
const LONGEST_TOKEN: u64 = 24 * 3600;
/// Most bytes of a body.
const MAX_BODY_BYTES: usize = 4096;

/// A running service.
#[derive(Clone)]
pub struct WebPushService {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// By path: the browser and the key that it has subscribed with; `None`: gone.
    browsers: HashMap<String, Option<(Browser, String)>>,
    replies: VecDeque<Reply>,
    taken: Vec<TakenWebPush>,
    refused: Vec<String>,
}

/// A push that a browser has got.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenWebPush {
    /// End-point of the browser.
    pub endpoint: String,
    /// `Topic`.
    pub topic: Option<String>,
    /// `Urgency`.
    pub urgency: Option<String>,
    /// `TTL`, in seconds.
    pub ttl: u64,
    /// The subject of the sender's token.
    pub subject: String,
    /// What was sealed, as JSON.
    pub message: Value,
}

impl WebPushService {
    /// Starts one on loopback, at `http`.
    pub fn start() -> Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let state = Arc::clone(&shared);
        let address = http1::serve(move |asked| {
            let mut shared = locked(&state);
            match shared.take(asked) {
                Ok(reply) => reply,
                Err((status, error)) => {
                    let said = format!("{error:#}");
                    shared.refused.push(said.clone());
                    Reply::new(status, said)
                }
            }
        })?;
        Ok(Self { address, shared })
    }

    /// A browser that subscribes with a sender's public key, in base64url.
    pub fn subscribe(&self, public_key: &str) -> Result<Browser> {
        let mut shared = locked(&self.shared);
        let path = format!("/wpush/{}", shared.browsers.len());
        let browser = Browser::new(format!("http://{}{path}", self.address))?;
        let subscribed = Some((browser.clone(), public_key.to_owned()));
        shared.browsers.insert(path, subscribed);
        Ok(browser)
    }

    /// The browser does not want pushes any more: 410 from now on.
    pub fn unsubscribe(&self, browser: &Browser) {
        let mut shared = locked(&self.shared);
        for gone in shared.browsers.values_mut() {
            let is_it = |(other, _): &(Browser, String)| other.endpoint == browser.endpoint;
            if gone.as_ref().is_some_and(is_it) {
                *gone = None;
            }
        }
    }

    /// Answers the next push so, without a look at it.
    pub fn answer_next(&self, reply: Reply) {
        locked(&self.shared).replies.push_back(reply);
    }

    /// What browsers have got so far.
    pub fn taken(&self) -> Vec<TakenWebPush> {
        locked(&self.shared).taken.clone()
    }

    /// Why pushes were refused so far.
    pub fn refused(&self) -> Vec<String> {
        locked(&self.shared).refused.clone()
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

type Refused = (u16, anyhow::Error);

impl Shared {
    fn take(&mut self, asked: &Asked) -> Result<Reply, Refused> {
        if let Some(reply) = self.replies.pop_front() {
            return Ok(reply);
        }
        let refuse = |status| move |error| (status, error);
        let found = self.browsers.get(&asked.path);
        let found = found.context("no such subscription").map_err(refuse(404))?;
        let found = found.as_ref().context("the browser has unsubscribed");
        let (browser, public_key) = found.map_err(refuse(410))?;
        let origin = browser.endpoint.strip_suffix(&asked.path);
        let subject = known(asked, public_key, origin.unwrap_or_default()).map_err(refuse(403))?;
        if asked.body.len() > MAX_BODY_BYTES {
            return Ok(Reply::new(413, "the push is too long"));
        }
        let taken = received(asked, browser, subject).map_err(refuse(400))?;
        self.taken.push(taken);
        Ok(Reply::new(201, "").header("location", format!("{origin:?}/m/1")))
    }
}

/// Who sends it: the subject of its token.
fn known(asked: &Asked, public_key: &str, origin: &str) -> Result<String> {
    let header = asked.header("authorization").context("no authorization")?;
    let parts = header.strip_prefix("vapid ").context("no `vapid`")?;
    let part = |name: &str| {
        let mut parts = parts.split(',').map(str::trim);
        parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
    };
    let key = part("k").context("no key")?;
    ensure!(
        key == public_key,
        "the browser has subscribed with another key"
    );
    let token = Token::parse(part("t").context("no token")?)?;
    token.verify_es256(&token::decode(key)?)?;
    ensure!(token.claims["aud"] == origin, "a token for another service");
    let ends = token.time("exp")?;
    ensure!(ends > token::now(), "the token has expired");
    ensure!(
        ends <= token::now() + LONGEST_TOKEN,
        "a token for more than 24 hours"
    );
    let subject = token.claims["sub"].as_str().context("no subject")?;
    let is_address = subject.starts_with("mailto:") || subject.starts_with("https://");
    ensure!(is_address, "the subject is no address");
    Ok(subject.to_owned())
}

fn received(asked: &Asked, browser: &Browser, subject: String) -> Result<TakenWebPush> {
    ensure!(asked.method == "POST", "no POST");
    let encoding = asked.header("content-encoding");
    ensure!(encoding == Some("aes128gcm"), "another encoding");
    let ttl = asked.header("ttl").context("no TTL")?;
    let topic = asked.header("topic").map(str::to_owned);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_topic = |topic: &String| topic.len() <= 32 && topic.chars().all(is_safe);
    ensure!(topic.as_ref().is_none_or(is_topic), "no topic");
    let urgency = asked.header("urgency").map(str::to_owned);
    let known = ["very-low", "low", "normal", "high"];
    let is_known = |urgency: &String| known.contains(&&**urgency);
    ensure!(urgency.as_ref().is_none_or(is_known), "no urgency");
    let opened = browser.open(&asked.body)?;
    Ok(TakenWebPush {
        endpoint: browser.endpoint.clone(),
        topic,
        urgency,
        ttl: ttl.parse().context("the TTL is no number")?,
        subject,
        message: serde_json::from_slice(&opened).context("what was sealed is no JSON")?,
    })
}

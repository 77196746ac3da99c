//! Apple's push service: HTTP/2, with TLS or without; one thread for each service.

mod checks;
mod raw;
mod tls;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::Reply;
use tls::Encryption;

/// Ids of the key and of the team that are known here, and the name of the application.
pub const APNS_KEY_ID: &str = "ABCDE12345";
/// Id of the team.
pub const APNS_TEAM_ID: &str = "TEAM567890";
/// Name of the application.
pub const APNS_TOPIC: &str = "org.example.mail";

/// A running service.
#[derive(Clone)]
pub struct ApnsService {
    address: SocketAddr,
    shared: Arc<Shared>,
    key: String,
    /// Certificate of the service, where it speaks TLS.
    certificate: Option<String>,
}

struct Shared {
    /// The team's public key, an uncompressed point.
    public_key: Vec<u8>,
    state: Mutex<State>,
    /// Tells that held requests may be answered.
    released: Notify,
}

#[derive(Default)]
struct State {
    /// By device token: whether it is registered.
    devices: HashMap<String, bool>,
    replies: VecDeque<Reply>,
    /// When the provider token at hand was first seen, by its `iat`.
    issued: Option<u64>,
    taken: Vec<TakenApns>,
    refused: Vec<String>,
    connections: usize,
    /// Connections to come that are ended before any request is looked at.
    cut: usize,
    /// Whether the next request ends its connection with a GOAWAY, after its answer.
    is_going_away: bool,
    /// Whether requests wait for others before they are answered: so many.
    held_until: usize,
    held: usize,
}

/// A push that a device has got.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenApns {
    /// Token of the device.
    pub device: String,
    /// `apns-push-type`.
    pub push_type: String,
    /// `apns-priority`.
    pub priority: String,
    /// `apns-expiration`, in seconds since 1970.
    pub expiration: u64,
    /// `apns-collapse-id`.
    pub collapse_id: Option<String>,
    /// The payload.
    pub payload: Value,
}

impl ApnsService {
    /// Starts one on loopback, at `http`.
    pub fn start() -> Result<Self> {
        Self::serving(None)
    }

    /// Starts one on loopback, at `https`.
    pub fn start_with_tls() -> Result<Self> {
        Self::serving(Some(Encryption::new()?))
    }

    fn serving(encryption: Option<Encryption>) -> Result<Self> {
        let certificate = encryption.as_ref().map(|it| it.certificate.clone());
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random);
        let der = der.ok().context("no key")?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random);
        let pair = pair.ok().context("no key")?;
        let key = BASE64_STANDARD.encode(der.as_ref());
        let shared = Arc::new(Shared {
            public_key: pair.public_key().as_ref().to_vec(),
            state: Mutex::default(),
            released: Notify::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("no runtime")?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.context("cannot listen")?;
        listener.set_nonblocking(true).context("cannot listen")?;
        let address = listener.local_addr().context("no address")?;
        let serving = Arc::clone(&shared);
        thread::spawn(move || runtime.block_on(accept(listener, encryption, serving)).ok());
        Ok(Self {
            address,
            shared,
            key: format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
            certificate,
        })
    }

    /// What `endpoint` is set to.
    pub fn endpoint(&self) -> String {
        let is_encrypted = self.certificate.is_some();
        let scheme = if is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Certificate of the service in PEM; empty: it speaks no TLS.
    pub fn certificate(&self) -> &str {
        self.certificate.as_deref().unwrap_or_default()
    }

    /// The team's key, as a `.p8` file has it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Registers a device, or takes its registration back.
    pub fn register(&self, device: &str, is_registered: bool) {
        let mut state = self.shared.state();
        state.devices.insert(device.to_owned(), is_registered);
    }

    /// Answers the next push so, without a look at it.
    pub fn answer_next(&self, reply: Reply) {
        self.shared.state().replies.push_back(reply);
    }

    /// Ends the next connection with a GOAWAY that says that no request was looked at.
    pub fn cut_next_connection(&self) {
        self.shared.state().cut += 1;
    }

    /// Ends the connection of the next request with a GOAWAY, after its answer.
    pub fn go_away(&self) {
        self.shared.state().is_going_away = true;
    }

    /// Answers no request before so many wait for their answers.
    pub fn hold_until(&self, requests: usize) {
        self.shared.state().held_until = requests;
    }

    /// What devices have got so far.
    pub fn taken(&self) -> Vec<TakenApns> {
        self.shared.state().taken.clone()
    }

    /// Why pushes were refused so far.
    pub fn refused(&self) -> Vec<String> {
        self.shared.state().refused.clone()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(
    listener: std::net::TcpListener,
    encryption: Option<Encryption>,
    shared: Arc<Shared>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (encryption, shared) = (encryption.clone(), Arc::clone(&shared));
        // Whoever goes away in the middle has its reasons.
        tokio::spawn(async move {
            match encryption {
                None => converse(stream, shared).await,
                Some(encryption) => converse(encryption.accept(stream).await?, shared).await,
            }
        });
    }
}

async fn converse<S>(stream: S, shared: Arc<Shared>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let is_cut = {
        let mut state = shared.state();
        state.connections += 1;
        let is_cut = state.cut > 0;
        state.cut = state.cut.saturating_sub(1);
        is_cut
    };
    if is_cut {
        return raw::go_away_at_once(stream).await;
    }
    let mut connection = server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, answer) = request?;
        let is_last = std::mem::take(&mut shared.state().is_going_away);
        let answered = tokio::spawn(respond(request, answer, Arc::clone(&shared)));
        if is_last {
            // The answers of what has come are still sent.
            connection.graceful_shutdown();
        }
        drop(answered);
    }
    Ok(())
}

async fn respond(
    request: Request<RecvStream>,
    mut answer: SendResponse<Bytes>,
    shared: Arc<Shared>,
) -> Result<()> {
    let (head, mut body) = request.into_parts();
    let mut payload = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        payload.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    hold(&shared).await;
    let reply = {
        let mut state = shared.state();
        match state.replies.pop_front() {
            Some(reply) => reply,
            None => match state.check(&shared.public_key, &head, &payload) {
                Ok(taken) => {
                    state.taken.push(taken);
                    Reply::new(200, "")
                }
                Err((status, reason)) => {
                    state.refused.push(reason.to_owned());
                    let timestamp = if status == 410 {
                        r#","timestamp":1"#
                    } else {
                        ""
                    };
                    Reply::new(status, format!(r#"{{"reason":"{reason}"{timestamp}}}"#))
                }
            },
        }
    };
    if reply.status == 0 {
        answer.send_reset(Reason::REFUSED_STREAM);
        return Ok(());
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let body = Bytes::from(reply.body);
    let mut sending = answer.send_response(response.body(())?, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body, true)?;
    }
    Ok(())
}

/// Waits until as many requests are here as are wanted at once.
async fn hold(shared: &Shared) {
    let released = shared.released.notified();
    {
        let mut state = shared.state();
        state.held += 1;
        if state.held >= state.held_until {
            state.held_until = 0;
            state.held = 0;
            shared.released.notify_waiters();
            return;
        }
    }
    released.await;
}

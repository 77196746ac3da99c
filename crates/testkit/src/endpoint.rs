//! Endpoints of webhooks on loopback: one keeps what it gets and answers with the status it is told
//! ([`HookEndpoint`]), one answers with bytes ([`ScriptedEndpoint`]).

mod hook;
mod scripted;

use std::collections::HashSet;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use hook::Hook;
pub use scripted::{Answer, OK, ScriptedEndpoint};

/// A running endpoint. It ends with the process.
#[derive(Clone)]
pub struct HookEndpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

type Judge = Box<dyn Fn(&Hook) -> Reply + Send + Sync>;

struct Shared {
    /// Goes before the status.
    judge: Option<Judge>,
    /// Whether what is taken is kept.
    keeps: bool,
    status: AtomicU16,
    /// Messages of which one has its first request refused; 0: no request is refused.
    refused_once: AtomicU64,
    /// By `webhook-id`.
    refused: Mutex<HashSet<String>>,
    hooks: Mutex<Vec<Hook>>,
    arrived: Condvar,
}

impl Shared {
    fn hooks(&self) -> MutexGuard<'_, Vec<Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a message is answered with.
    fn reply(&self, hook: &Hook) -> Reply {
        match &self.judge {
            Some(judge) => judge(hook),
            None => Reply {
                status: self.status(hook),
                body: String::new(),
            },
        }
    }

    fn status(&self, hook: &Hook) -> u16 {
        let every = self.refused_once.load(Ordering::Acquire);
        if let Some(id) = hook.header("webhook-id")
            && every > 0
            && id.bytes().map(u64::from).sum::<u64>() % every == 0
        {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.insert(id.to_owned()) {
                return 503;
            }
        }
        self.status.load(Ordering::Acquire)
    }
}

impl HookEndpoint {
    /// Answers everything with 204 until it is told otherwise.
    pub fn start() -> Result<Self> {
        Self::serving(None, true)
    }

    /// Answers what it is told to answer to each request.
    pub fn answering(judge: impl Fn(&Hook) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::serving(Some(Box::new(judge)), true)
    }

    /// Answers what it is told to answer to each request, and keeps none: for very many of them.
    pub fn noting(judge: impl Fn(&Hook) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::serving(Some(Box::new(judge)), false)
    }

    fn serving(judge: Option<Judge>, keeps: bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let shared = Arc::new(Shared {
            judge,
            keeps,
            status: AtomicU16::new(204),
            refused_once: AtomicU64::new(0),
            refused: Mutex::default(),
            hooks: Mutex::default(),
            arrived: Condvar::new(),
        });
        let endpoint = Self {
            address: listener.local_addr().context("no address")?,
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let shared = Arc::clone(&shared);
                // Whoever goes away in the middle has his reasons.
                std::thread::spawn(move || serve(stream, &shared, connection).ok());
            }
        });
        Ok(endpoint)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The status of all answers from now on. Only what is answered with 2xx is kept.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Release);
    }

    /// Answers the first request of about one in `every` messages with 503 (0: of none); the next
    /// one is answered as ever.
    pub fn refuse_once(&self, every: u64) {
        self.shared.refused_once.store(every, Ordering::Release);
    }

    /// What was taken so far.
    pub fn hooks(&self) -> Vec<Hook> {
        self.shared.hooks().clone()
    }

    /// What was taken after the first `seen`.
    pub fn hooks_after(&self, seen: usize) -> Vec<Hook> {
        let hooks = self.shared.hooks();
        hooks.get(seen..).unwrap_or_default().to_vec()
    }

    /// How many were taken so far.
    pub fn count(&self) -> usize {
        self.shared.hooks().len()
    }

    /// Waits until so many were taken.
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<Hook>> {
        let hooks = self.shared.hooks();
        let waited = self
            .shared
            .arrived
            .wait_timeout_while(hooks, timeout, |hooks| hooks.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.1.timed_out() {
            bail!(
                "{} of {count} webhooks have come: {:#?}",
                waited.0.len(),
                *waited.0
            );
        }
        Ok(waited.0.clone())
    }
}

fn serve(stream: TcpStream, shared: &Shared, connection: usize) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut stream = BufReader::new(stream);
    while let Some(hook) = Hook::read(&mut stream, connection)? {
        let Reply { status, body } = shared.reply(&hook);
        if shared.keeps && (200..300).contains(&status) {
            shared.hooks().push(hook);
            shared.arrived.notify_all();
        }
        // In one piece: each write is a packet.
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} Told\r\ncontent-length: {length}\r\n\r\n{body}");
        answers.write_all(answer.as_bytes())?;
    }
    Ok(())
}

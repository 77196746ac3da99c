//! A mail server on loopback that keeps what it takes, and refuses what it is told to. What it
//! wants of its clients before, TLS and a login, is its [`Door`].

mod session;
#[cfg(feature = "mail-tls")]
mod tls;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

#[cfg(feature = "mail-tls")]
pub use tls::{Protection, Tls};

/// A mail that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenMail {
    /// Address of `MAIL FROM`.
    pub from: String,
    /// Address of `RCPT TO`.
    pub to: String,
    /// Head and body, with line feeds alone.
    pub text: String,
}

impl TakenMail {
    /// The value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\n\n").next()?.replace("\n ", " ");
        let lines = head.lines();
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        let found = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned())
    }
}

/// Hands a mail on, and says why not if it cannot.
type Next = Box<dyn Fn(&TakenMail) -> Result<()> + Send + Sync>;

/// What a mail server wants of its clients before it takes a mail.
#[derive(Default)]
pub struct Door {
    /// How the connection is protected.
    #[cfg(feature = "mail-tls")]
    pub tls: Option<Tls>,
    /// What `AUTH PLAIN` has to say, in base64. It is asked for under TLS, where there is any.
    pub login: Option<&'static str>,
}

/// A running mail server. It ends with the process.
#[derive(Clone)]
pub struct MailServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    door: Door,
    next: Option<Next>,
    /// Answers to `RCPT`, by addresses.
    refused: Mutex<Vec<(String, &'static str)>>,
    /// What clients have said, but for mails.
    commands: Mutex<Vec<String>>,
    taken: Mutex<Vec<TakenMail>>,
    arrived: Condvar,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MailServer {
    /// Takes everything until it is told otherwise.
    pub fn start() -> Result<Self> {
        Self::serving(Shared::default())
    }

    /// Takes everything of those who come in by its door.
    pub fn behind(door: Door) -> Result<Self> {
        Self::serving(Shared {
            door,
            ..Shared::default()
        })
    }

    /// Hands everything on before it is taken.
    pub fn handing_on(
        next: impl Fn(&TakenMail) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::serving(Shared {
            next: Some(Box::new(next)),
            ..Shared::default()
        })
    }

    fn serving(shared: Shared) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let server = Self {
            address: listener.local_addr().context("no address")?,
            shared: Arc::new(shared),
        };
        let shared = Arc::clone(&server.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Whoever goes away in the middle has his reasons.
                std::thread::spawn(move || session::serve(stream, &shared).ok());
            }
        });
        Ok(server)
    }

    /// Port of the server.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers so to a recipient from now on; `None`: takes it.
    pub fn answer(&self, to: &str, answer: Option<&'static str>) {
        let mut refused = locked(&self.shared.refused);
        refused.retain(|(other, _)| other != to);
        refused.extend(answer.map(|answer| (to.to_owned(), answer)));
    }

    /// What clients have said so far, but for mails.
    pub fn commands(&self) -> Vec<String> {
        locked(&self.shared.commands).clone()
    }

    /// What was taken so far.
    pub fn taken(&self) -> Vec<TakenMail> {
        locked(&self.shared.taken).clone()
    }

    /// Waits until so many were taken.
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<TakenMail>> {
        let taken = locked(&self.shared.taken);
        let arrived = &self.shared.arrived;
        let waited = arrived
            .wait_timeout_while(taken, timeout, |taken| taken.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.1.timed_out() {
            bail!(
                "{} of {count} mails have come: {:#?}",
                waited.0.len(),
                *waited.0
            );
        }
        Ok(waited.0.clone())
    }
}

//! A mail server on loopback that keeps what it takes, and refuses what it is told to.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

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

/// A running mail server. It ends with the process.
#[derive(Clone)]
pub struct MailServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: Option<Next>,
    /// Answers to `RCPT`, by addresses.
    refused: Mutex<Vec<(String, &'static str)>>,
    taken: Mutex<Vec<TakenMail>>,
    arrived: Condvar,
}

impl MailServer {
    /// Takes everything until it is told otherwise.
    pub fn start() -> Result<Self> {
        Self::serving(None)
    }

    /// Hands everything on before it is taken.
    pub fn handing_on(
        next: impl Fn(&TakenMail) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::serving(Some(Box::new(next)))
    }

    fn serving(next: Option<Next>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let server = Self {
            address: listener.local_addr().context("no address")?,
            shared: Arc::new(Shared {
                next,
                ..Shared::default()
            }),
        };
        let shared = Arc::clone(&server.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Whoever goes away in the middle has his reasons.
                std::thread::spawn(move || serve(&stream, &shared).ok());
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
        let refused = self.shared.refused.lock();
        let mut refused = refused.unwrap_or_else(PoisonError::into_inner);
        refused.retain(|(other, _)| other != to);
        refused.extend(answer.map(|answer| (to.to_owned(), answer)));
    }

    /// What was taken so far.
    pub fn taken(&self) -> Vec<TakenMail> {
        let taken = self.shared.taken.lock();
        taken.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many were taken.
    pub fn wait_for(&self, count: usize, timeout: Duration) -> Result<Vec<TakenMail>> {
        let taken = self.shared.taken.lock();
        let taken = taken.unwrap_or_else(PoisonError::into_inner);
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

fn address(line: &str) -> String {
    let inside = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(String::new, |(address, _)| address.to_owned())
}

fn serve(stream: &TcpStream, shared: &Shared) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let say = |text: &str| {
        let mut stream = stream;
        stream.write_all(format!("{text}\r\n").as_bytes())
    };
    let (mut from, mut to) = (String::new(), String::new());
    say("220 stand-in")?;
    while let Some(line) = lines.next() {
        let line = line?;
        match line.get(..4).unwrap_or_default() {
            "EHLO" => say("250-stand-in\r\n250 8BITMIME")?,
            "MAIL" => {
                from = address(&line);
                say("250 2.1.0 fine")?;
            }
            "RCPT" => {
                to = address(&line);
                let refused = shared.refused.lock();
                let refused = refused.unwrap_or_else(PoisonError::into_inner).clone();
                let answer = refused.into_iter().find(|(other, _)| *other == to);
                say(answer.map_or("250 2.1.5 fine", |(_, answer)| answer))?;
            }
            "DATA" => {
                say("354 go on")?;
                let mut text = String::new();
                for line in lines.by_ref() {
                    let line = line?;
                    if line == "." {
                        break;
                    }
                    text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    text.push('\n');
                }
                let mail = TakenMail {
                    from: from.clone(),
                    to: to.clone(),
                    text,
                };
                if let Some(next) = &shared.next
                    && let Err(error) = next(&mail)
                {
                    say(&format!("451 4.3.0 {error}"))?;
                    continue;
                }
                let taken = shared.taken.lock();
                taken.unwrap_or_else(PoisonError::into_inner).push(mail);
                shared.arrived.notify_all();
                say("250 2.0.0 taken")?;
            }
            "QUIT" => {
                say("221 bye")?;
                return Ok(());
            }
            _ => say("250 fine")?,
        }
    }
    Ok(())
}

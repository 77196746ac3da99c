//! Notifications to `POST /api/hooks/messages` as fast as a server takes them: some connections,
//! each with one request under way.
//!
//! Every notification has a number of its own in its message. Which of them were accepted is known
//! by their ids, even if the server is killed in the middle.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail};

use crate::PATIENCE;

/// What is sent.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Requests under way at a time.
    pub connections: usize,
    /// Notifications in all; without it until it is stopped, or the server goes.
    pub most: Option<u64>,
    /// Notifications of each request: 1 is one alone, more are an array.
    pub batch: u64,
    /// Bytes of each message, about.
    pub message_bytes: usize,
}

/// Connections that send.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<Result<Sent>>>,
}

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    accepted: AtomicU64,
    is_stopped: AtomicBool,
}

/// What became of the notifications.
#[derive(Debug, Default)]
pub struct Sent {
    /// Ids of those that were accepted, without hyphens, as they stand in `webhook-id`.
    pub accepted: Vec<String>,
    /// Requests that got no answer because the connection ended.
    pub unanswered: usize,
}

impl Load {
    /// Begins to send as the account of a token.
    pub fn start(address: SocketAddr, token: &str, options: &LoadOptions) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let mut senders = Vec::new();
        for _ in 0..options.connections {
            let stream = TcpStream::connect(address).context("cannot connect to the server")?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let sender = Sender {
                stream,
                head: format!(
                    "POST /api/hooks/messages HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
                     Content-Type: application/json\r\n"
                ),
                filler: "x".repeat(options.message_bytes),
                shared: Arc::clone(&shared),
                most: options.most.unwrap_or(u64::MAX),
                batch: options.batch.max(1),
            };
            senders.push(std::thread::spawn(|| sender.run()));
        }
        Ok(Self { shared, senders })
    }

    /// Notifications that were accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Sends no more.
    pub fn stop(self) -> Result<Sent> {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.wait()
    }

    /// Waits until all are sent, or the server has gone.
    pub fn wait(self) -> Result<Sent> {
        let mut all = Sent::default();
        for sender in self.senders {
            let sent = sender.join().map_err(|_| anyhow!("a sender panics"))??;
            all.accepted.extend(sent.accepted);
            all.unanswered += sent.unanswered;
        }
        Ok(all)
    }
}

struct Sender {
    stream: TcpStream,
    head: String,
    filler: String,
    shared: Arc<Shared>,
    most: u64,
    batch: u64,
}

impl Sender {
    fn run(self) -> Result<Sent> {
        let mut answers = BufReader::new(self.stream.try_clone()?);
        let mut sent = Sent::default();
        while !self.shared.is_stopped.load(Ordering::Acquire) {
            let number = self.shared.next.fetch_add(self.batch, Ordering::AcqRel);
            if number >= self.most {
                break;
            }
            let count = self.batch.min(self.most - number);
            // Whoever is killed answers no more; what is answered counts.
            let written = (&self.stream).write_all(self.request(number, count).as_bytes());
            let Ok((status, body)) = written.and_then(|()| answer(&mut answers)) else {
                sent.unanswered += 1;
                break;
            };
            if status != 201 {
                bail!("notification {number} is answered with {status}: {body}");
            }
            let ids = body.split("\"id\":\"").skip(1);
            let ids = ids.filter_map(|rest| rest.split('"').next());
            sent.accepted.extend(ids.map(|id| id.replace('-', "")));
            self.shared.accepted.fetch_add(count, Ordering::AcqRel);
        }
        Ok(sent)
    }

    fn request(&self, number: u64, count: u64) -> String {
        let message = |number: u64| {
            format!(
                r#"{{"application":"load","event_type":"sent","level":null,"message":{{"number":{number},"filler":"{}"}}}}"#,
                self.filler
            )
        };
        let body = if self.batch == 1 {
            message(number)
        } else {
            let messages: Vec<String> = (number..number + count).map(message).collect();
            format!("[{}]", messages.join(","))
        };
        format!("{}Content-Length: {}\r\n\r\n{body}", self.head, body.len())
    }
}

/// Status and body of the next answer.
fn answer(answers: &mut impl BufRead) -> std::io::Result<(u16, String)> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut length = 0;
    loop {
        line.clear();
        answers.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

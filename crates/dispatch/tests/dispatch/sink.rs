//! An endpoint that takes connections as they come, counts what it gets by `webhook-id`, and
//! answers as it is told just now.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How it answers.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `None`: never.
    pub(crate) after: Option<Duration>,
}

pub(crate) const OK: Answer = Answer {
    status: 204,
    after: Some(Duration::ZERO),
};

#[derive(Clone)]
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: Answer,
    /// What is refused with 503, by what stands in the body.
    poison: Option<String>,
    /// What is answered otherwise, by what stands in the body.
    others: Vec<(String, Answer)>,
    /// How often each id was taken.
    taken: BTreeMap<String, usize>,
    /// Bodies that were taken, in order.
    bodies: Vec<String>,
    asked: usize,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let sink = Self {
            address: listener.local_addr().expect("an address"),
            state: Arc::new(Mutex::new(State {
                answer: OK,
                poison: None,
                others: Vec::new(),
                taken: BTreeMap::new(),
                bodies: Vec::new(),
                asked: 0,
            })),
        };
        let accepting = sink.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = accepting.clone();
                // Whoever is killed leaves a broken connection.
                tokio::spawn(async move { sink.serve(stream).await.ok() });
            }
        });
        sink
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.state.lock().expect("not poisoned").answer = answer;
    }

    /// Refuses what has this in its body, and nothing else.
    pub(crate) fn refuse(&self, poison: &str) {
        self.state.lock().expect("not poisoned").poison = Some(poison.to_owned());
    }

    /// Answers what has this in its body so, until it is told something else of that.
    pub(crate) fn answer_to(&self, text: &str, answer: Option<Answer>) {
        let mut state = self.state.lock().expect("not poisoned");
        state.others.retain(|(other, _)| other != text);
        let other = answer.map(|answer| (text.to_owned(), answer));
        state.others.extend(other);
    }

    /// How many different ids were taken.
    pub(crate) fn distinct(&self) -> usize {
        self.state.lock().expect("not poisoned").taken.len()
    }

    /// How many were taken again.
    pub(crate) fn repeated(&self) -> usize {
        let state = self.state.lock().expect("not poisoned");
        state.taken.values().map(|count| count - 1).sum()
    }

    /// How often it was asked, whatever it answered.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().expect("not poisoned").asked
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.state.lock().expect("not poisoned").bodies.clone()
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut id, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("webhook-id: ") {
                    value.clone_into(&mut id);
                }
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap_or(0);
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let answer = {
                let mut state = self.state.lock().expect("not poisoned");
                state.asked += 1;
                let text = String::from_utf8_lossy(&body);
                let is_poison = state
                    .poison
                    .as_ref()
                    .is_some_and(|poison| text.contains(poison));
                let refused = Answer { status: 503, ..OK };
                let other = state.others.iter().find(|(other, _)| text.contains(other));
                match other {
                    Some((_, answer)) => *answer,
                    None if is_poison => refused,
                    None => state.answer,
                }
            };
            match answer.after {
                None => std::future::pending::<()>().await,
                Some(Duration::ZERO) => {}
                Some(after) => tokio::time::sleep(after).await,
            }
            if (200..300).contains(&answer.status) {
                let mut state = self.state.lock().expect("not poisoned");
                *state.taken.entry(id).or_default() += 1;
                state
                    .bodies
                    .push(String::from_utf8_lossy(&body).into_owned());
            }
            let head = format!("HTTP/1.1 {} X\r\ncontent-length: 0\r\n\r\n", answer.status);
            stream.write_all(head.as_bytes()).await?;
        }
    }
}

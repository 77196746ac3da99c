//! An endpoint of webhooks that answers one request after the other with the bytes it was given for
//! it.

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context, Result};

use super::Hook;
use crate::PATIENCE;

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// These bytes, and the connection stays.
    Bytes(&'static str),
    /// These bytes, and the connection is closed.
    Last(&'static str),
    /// Nothing, ever.
    Silence,
}

/// Answer of an endpoint that has taken a webhook.
pub const OK: Answer = Answer::Bytes("HTTP/1.1 204 No Content\r\n\r\n");

/// A running endpoint: one connection at a time. It ends with the process.
pub struct ScriptedEndpoint {
    /// Where it is.
    pub address: SocketAddr,
    hooks: Receiver<Hook>,
}

impl ScriptedEndpoint {
    /// Answers request after request with these; the last one goes on.
    pub fn start(answers: impl Into<Vec<Answer>>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let address = listener.local_addr().context("no address")?;
        let (sender, hooks) = channel();
        let mut script = Script {
            answers: answers.into().into_iter(),
            answer: OK,
            silent: Vec::new(),
            sender,
        };
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                // Whoever goes away in the middle has his reasons.
                script.serve(stream, connection).ok();
            }
        });
        Ok(Self { address, hooks })
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request.
    pub fn next(&self) -> Result<Hook> {
        self.hooks.recv_timeout(PATIENCE).context("no request")
    }

    /// Whether no request waits to be looked at.
    pub fn has_none(&self) -> bool {
        self.hooks.try_recv().is_err()
    }
}

struct Script {
    answers: std::vec::IntoIter<Answer>,
    answer: Answer,
    /// Connections that are kept open.
    silent: Vec<TcpStream>,
    sender: Sender<Hook>,
}

impl Script {
    fn serve(&mut self, mut stream: TcpStream, connection: usize) -> Result<()> {
        let mut requests = BufReader::new(stream.try_clone()?);
        while let Some(hook) = Hook::read(&mut requests, connection)? {
            self.sender.send(hook)?;
            self.answer = self.answers.next().unwrap_or(self.answer);
            match self.answer {
                Answer::Bytes(bytes) => stream.write_all(bytes.as_bytes())?,
                Answer::Last(bytes) => {
                    stream.write_all(bytes.as_bytes())?;
                    break;
                }
                Answer::Silence => {
                    self.silent.push(stream);
                    break;
                }
            }
        }
        Ok(())
    }
}

//! An endpoint that writes down what it gets, and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as Channel, channel};
use std::time::Duration;

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    /// Request line and headers, without the line ends.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.iter().skip(1);
        let mut pairs = lines.filter_map(|line| line.split_once(": "));
        pairs
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: Channel<Request>,
}

/// What is done with a request.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// These bytes, and the connection stays.
    Bytes(&'static str),
    /// These bytes, and the connection is closed.
    Last(&'static str),
    /// Nothing, ever.
    Silence,
}

pub(crate) const OK: Answer = Answer::Bytes("HTTP/1.1 204 No Content\r\n\r\n");

impl Receiver {
    /// Answers request after request with these; the last one goes on.
    pub(crate) fn start(answers: &'static [Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            let mut answers = answers.iter();
            let mut answer = OK;
            let mut silent = Vec::new();
            for (connection, stream) in listener.incoming().enumerate() {
                let mut stream = stream.expect("a connection");
                while let Some(request) = read(&stream, connection) {
                    if sender.send(request).is_err() {
                        return;
                    }
                    answer = answers.next().copied().unwrap_or(answer);
                    match answer {
                        Answer::Bytes(bytes) => stream.write_all(bytes.as_bytes()).expect("sent"),
                        Answer::Last(bytes) => {
                            stream.write_all(bytes.as_bytes()).expect("sent");
                            break;
                        }
                        Answer::Silence => {
                            silent.push(stream);
                            break;
                        }
                    }
                }
            }
        });
        Self { address, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn next(&self) -> Request {
        self.requests
            .recv_timeout(Duration::from_secs(20))
            .expect("a request")
    }

    pub(crate) fn has_none(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

fn read(stream: &TcpStream, connection: usize) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end_matches("\r\n").to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let mut request = Request {
        head,
        body: Vec::new(),
        connection,
    };
    let length = request.header("content-length").unwrap_or("0").parse();
    request.body = vec![0; length.expect("a length")];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

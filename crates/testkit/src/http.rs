//! A small HTTP/1.1 client: one request, one connection, the whole answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

use crate::PATIENCE;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Request {
    /// Without headers and without a body.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// What is asked for, with its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A `GET`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// One header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body; its type is a header like others.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Asks the server at an address.
    pub fn send(&self, address: SocketAddr) -> Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("cannot set a timeout")?;
        let mut message = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let is_host = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        if !self.headers.iter().any(is_host) {
            message.push_str(&format_header("Host", &address.to_string()));
        }
        message.push_str("Connection: close\r\n");
        for (name, value) in &self.headers {
            message.push_str(&format_header(name, value));
        }
        if let Some(body) = &self.body {
            message.push_str(&format_header("Content-Length", &body.len().to_string()));
        }
        message.push_str("\r\n");
        let mut message = message.into_bytes();
        message.extend_from_slice(self.body.as_deref().unwrap_or_default());
        // Who refuses a long body may close before it has read all of it: the answer counts.
        let sent = stream.write_all(&message);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        match Answer::parse(&String::from_utf8_lossy(&answer)) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                sent.context("cannot ask")?;
                read.context("cannot read the answer")?;
                Err(error)
            }
        }
    }
}

fn format_header(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}

impl Answer {
    fn parse(text: &str) -> Result<Self> {
        let (head, body) = text.split_once("\r\n\r\n").context("half an answer")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Self {
            status: status.context("an answer without a status")?,
            headers: headers.collect(),
            body: body.to_owned(),
        })
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| &**value)
    }
}

//! A request to an endpoint of webhooks, as it came.

use std::io::BufRead;
use std::time::Instant;

use anyhow::{Context, Result};

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Request line and headers, without the line ends.
    pub head: Vec<String>,
    /// The body.
    pub body: String,
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// When it was there.
    pub arrived: Instant,
}

impl Hook {
    /// The value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The next one of a connection; `None`: it was closed.
    pub(super) fn read(stream: &mut impl BufRead, connection: usize) -> Result<Option<Self>> {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line
                .strip_suffix("\r\n")
                .context("a line without its end")?;
            if line.is_empty() {
                break;
            }
            head.push(line.to_owned());
        }
        let length = header(&head, "content-length").unwrap_or("0");
        let mut body = vec![0; length.parse().context("no length")?];
        stream.read_exact(&mut body)?;
        Ok(Some(Self {
            head,
            body: String::from_utf8(body)?,
            connection,
            arrived: Instant::now(),
        }))
    }
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let lines = head.iter().skip(1);
    let mut pairs = lines.filter_map(|line| line.split_once(": "));
    let found = pairs.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

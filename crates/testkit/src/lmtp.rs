//! An LMTP client for tests (RFC 2033): one reusable connection, a reply for every recipient.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long the server may take for one reply.
pub const TIMEOUT: Duration = crate::PATIENCE;

/// One reply: `250 2.0.0 <user> id Saved` is code 250 and the rest; the lines of a longer one are
/// joined by `\n`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// What follows them, enhanced status code included.
    pub text: String,
}

impl Reply {
    /// Whether the code is 2xx.
    pub fn is_ok(&self) -> bool {
        self.code / 100 == 2
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.code, self.text)
    }
}

/// One LMTP connection.
#[derive(Debug)]
pub struct LmtpClient {
    stream: BufReader<TcpStream>,
}

impl LmtpClient {
    /// Connects, reads the greeting and says LHLO.
    pub fn connect(address: impl ToSocketAddrs + fmt::Debug) -> Result<Self> {
        let stream = TcpStream::connect(&address)
            .with_context(|| format!("no LMTP server at `{address:?}`"))?;
        stream
            .set_read_timeout(Some(TIMEOUT))
            .context("cannot set the read timeout")?;
        stream
            .set_write_timeout(Some(TIMEOUT))
            .context("cannot set the write timeout")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let mut client = Self {
            stream: BufReader::new(stream),
        };
        let greeting = client.read_reply().context("no LMTP greeting")?;
        ensure!(greeting.is_ok(), "the LMTP greeting is `{greeting}`");
        client.lhlo("testkit.example")?;
        Ok(client)
    }

    /// Introduces the client (again); gives the server's capabilities, one per line after the
    /// first.
    pub fn lhlo(&mut self, name: &str) -> Result<Reply> {
        self.expect_ok(&format!("LHLO {name}"))
    }

    /// Delivers one mail and gives a reply for each recipient, in their order.
    ///
    /// A refused recipient has its reply to RCPT, every other one the reply after DATA. Addresses
    /// go between `<` and `>` as they are, so odd local parts have to be quoted by the caller. Bare
    /// LFs become CRLFs. A refused sender is an error.
    pub fn deliver(&mut self, from: &str, recipients: &[&str], mail: &[u8]) -> Result<Vec<Reply>> {
        self.expect_ok(&format!("MAIL FROM:<{from}>"))?;
        let mut replies = Vec::with_capacity(recipients.len());
        for recipient in recipients {
            replies.push(self.command(&format!("RCPT TO:<{recipient}>"))?);
        }
        if !replies.iter().any(Reply::is_ok) {
            self.expect_ok("RSET")?;
            return Ok(replies);
        }
        let go_ahead = self.command("DATA")?;
        if go_ahead.code != 354 {
            bail!("DATA was answered `{go_ahead}`");
        }
        self.write(&dot_stuffed(mail))?;
        for (reply, recipient) in replies
            .iter_mut()
            .zip(recipients)
            .filter(|(reply, _)| reply.is_ok())
        {
            *reply = self
                .read_reply()
                .with_context(|| format!("mail to `{recipient}`"))?;
        }
        Ok(replies)
    }

    /// Delivers one mail; an error, naming recipient and reply, unless every recipient got it.
    pub fn deliver_ok(&mut self, from: &str, recipients: &[&str], mail: &[u8]) -> Result<()> {
        let replies = self.deliver(from, recipients, mail)?;
        for (reply, recipient) in replies.iter().zip(recipients) {
            ensure!(
                reply.is_ok(),
                "mail to `{recipient}` was answered `{reply}`"
            );
        }
        Ok(())
    }

    /// Ends the session.
    pub fn quit(mut self) -> Result<()> {
        self.expect_ok("QUIT").map(|_| ())
    }

    /// Sends one line and gives the reply to it, whatever it is.
    pub fn command(&mut self, command: &str) -> Result<Reply> {
        let context = || format!("LMTP command `{command}`");
        self.write(format!("{command}\r\n").as_bytes())
            .with_context(context)?;
        self.read_reply().with_context(context)
    }

    fn expect_ok(&mut self, command: &str) -> Result<Reply> {
        let reply = self.command(command)?;
        ensure!(
            reply.is_ok(),
            "LMTP command `{command}` was answered `{reply}`"
        );
        Ok(reply)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .context("cannot write to the LMTP server")
    }

    fn read_reply(&mut self) -> Result<Reply> {
        let mut texts = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = self
                .stream
                .read_until(b'\n', &mut line)
                .context("cannot read from the LMTP server")?;
            ensure!(
                read > 0 && line.ends_with(b"\n"),
                "the LMTP server closed the connection"
            );
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            let Some((code, last, text)) = parse_reply_line(line) else {
                bail!("the LMTP server answered `{line}`");
            };
            texts.push(text.to_owned());
            if last {
                return Ok(Reply {
                    code,
                    text: texts.join("\n"),
                });
            }
        }
    }
}

/// `250-text`, `250 text` or `250`: the code, whether it is the last line, and the text.
fn parse_reply_line(line: &str) -> Option<(u16, bool, &str)> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = code.parse().ok()?;
    match rest.as_bytes().first() {
        None => Some((code, true, "")),
        Some(b' ') => Some((code, true, &rest[1..])),
        Some(b'-') => Some((code, false, &rest[1..])),
        Some(_) => None,
    }
}

/// The mail as DATA wants it: lines ended by CRLF, leading dots doubled, and the final dot.
fn dot_stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + mail.len() / 32 + 5);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_are_dot_stuffed_and_have_crlf() {
        let check = |mail: &str, sent: &str| {
            assert_eq!(String::from_utf8_lossy(&dot_stuffed(mail.as_bytes())), sent);
        };
        check("", ".\r\n");
        check("a: b\n\n.\n..x\ny", "a: b\r\n\r\n..\r\n...x\r\ny\r\n.\r\n");
        check("a\r\n.b\r\n", "a\r\n..b\r\n.\r\n");
        check("a\r\r\n", "a\r\r\n.\r\n");
    }

    #[test]
    fn reply_lines_are_taken_apart() {
        assert_eq!(
            parse_reply_line("250-8BITMIME"),
            Some((250, false, "8BITMIME"))
        );
        assert_eq!(
            parse_reply_line("250 2.1.5 OK"),
            Some((250, true, "2.1.5 OK"))
        );
        assert_eq!(parse_reply_line("354"), Some((354, true, "")));
        assert_eq!(parse_reply_line("25"), None);
        assert_eq!(parse_reply_line("250x"), None);
    }
}

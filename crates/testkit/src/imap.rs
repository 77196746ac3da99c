//! An IMAP client for tests: one connection, one command at a time, answers as the server sent
//! them.
//!
//! It parses no more than tests need: the tagged answer and the untagged lines as bytes. It uses
//! non-synchronising literals (`LITERAL+`), which Dovecot always offers, so that every command is
//! one write.

mod name;

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use name::{astring, literal, mutf7};

/// How long the server may be silent within one command.
pub const TIMEOUT: Duration = crate::PATIENCE;

/// How much of a command and its answer an error shows, in bytes.
const SHOWN_BYTES: usize = 300;

/// The three tagged answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// The command was carried out.
    Ok,
    /// The command was understood and refused, or failed.
    No,
    /// The command was not understood.
    Bad,
}

/// What the server answered to one command.
#[derive(Clone, Debug)]
pub struct Response {
    /// The tagged answer.
    pub status: Status,
    /// What follows the status, response code included: `[READ-WRITE] Select completed ...`.
    pub text: String,
    /// The untagged answers without `* ` and the final CRLF; a literal stands where it was, after
    /// its `{n}` and CRLF.
    pub untagged: Vec<Vec<u8>>,
}

impl Response {
    /// The first untagged answer that contains `needle`, invalid UTF-8 replaced.
    pub fn find(&self, needle: &str) -> Option<String> {
        self.untagged
            .iter()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .find(|line| line.contains(needle))
    }

    /// The argument of a response code of the tagged answer: `code("APPENDUID")` gives
    /// `<uidvalidity> <uid>`.
    pub fn code(&self, name: &str) -> Option<&str> {
        let (code, _) = self.text.strip_prefix('[')?.split_once(']')?;
        let argument = code.strip_prefix(name)?;
        argument
            .strip_prefix(' ')
            .or(argument.is_empty().then_some(""))
    }
}

impl fmt::Display for Response {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.untagged {
            writeln!(out, "* {}", shown(line))?;
        }
        write!(out, "{:?} {}", self.status, self.text)
    }
}

/// One IMAP connection.
#[derive(Debug)]
pub struct ImapClient {
    stream: BufReader<TcpStream>,
    greeting: String,
    last_tag: u32,
    idle_tag: Option<String>,
}

impl ImapClient {
    /// Connects and reads the greeting; the user is not logged in yet.
    pub fn connect(address: impl ToSocketAddrs + fmt::Debug) -> Result<Self> {
        let stream = TcpStream::connect(&address)
            .with_context(|| format!("no IMAP server at `{address:?}`"))?;
        stream
            .set_read_timeout(Some(TIMEOUT))
            .context("cannot set the read timeout")?;
        stream
            .set_write_timeout(Some(TIMEOUT))
            .context("cannot set the write timeout")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        let mut client = Self {
            stream: BufReader::new(stream),
            greeting: String::new(),
            last_tag: 0,
            idle_tag: None,
        };
        let line = client.read_line().context("no IMAP greeting")?;
        client.greeting = shown(&line);
        ensure!(
            client.greeting.starts_with("* OK"),
            "the IMAP greeting is `{}`",
            client.greeting
        );
        Ok(client)
    }

    /// The greeting, `* OK ...`.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Logs in; an error if the server refuses.
    pub fn login(&mut self, user: &str, password: &str) -> Result<Response> {
        let command = [
            b"LOGIN ".as_slice(),
            &astring(user),
            b" ",
            &astring(password),
        ]
        .concat();
        self.ok_bytes(&command)
    }

    /// Runs one command; `NO` and `BAD` are answers, not errors.
    pub fn command(&mut self, command: &str) -> Result<Response> {
        self.command_bytes(command.as_bytes())
    }

    /// Runs one command of any bytes, without tag and final CRLF. Literals in it have to be
    /// non-synchronising.
    pub fn command_bytes(&mut self, command: &[u8]) -> Result<Response> {
        let context = || format!("IMAP command `{}`", shown(command));
        let tag = self.send_tagged(command).with_context(context)?;
        self.read_response(&tag).with_context(context)
    }

    /// Runs one command; any other answer than `OK` is an error that names the command and the
    /// answer.
    pub fn ok(&mut self, command: &str) -> Result<Response> {
        self.ok_bytes(command.as_bytes())
    }

    /// As [`Self::ok`], for a command of any bytes.
    pub fn ok_bytes(&mut self, command: &[u8]) -> Result<Response> {
        let response = self.command_bytes(command)?;
        ensure!(
            response.status == Status::Ok,
            "IMAP command `{}` was answered `{response}`",
            shown(command)
        );
        Ok(response)
    }

    /// Appends one mail; an error unless the server says OK.
    ///
    /// `mailbox` is in modified UTF-7 (see [`mutf7`]), `flags` is what stands between the
    /// parentheses, `date` is RFC 3501's date-time (`20-Nov-2026 12:34:56 +0530`). The bytes of
    /// `mail` are sent as they are.
    pub fn append(
        &mut self,
        mailbox: &str,
        flags: &str,
        date: Option<&str>,
        mail: &[u8],
    ) -> Result<Response> {
        let mut command = [b"APPEND ".as_slice(), &astring(mailbox)].concat();
        push_appended(&mut command, flags, date, mail);
        self.ok_bytes(&command)
    }

    /// Appends several mails, each with its flags, by one command (RFC 3502); an error unless the
    /// server says OK.
    pub fn multiappend(&mut self, mailbox: &str, mails: &[(&str, &[u8])]) -> Result<Response> {
        ensure!(!mails.is_empty(), "MULTIAPPEND to `{mailbox}` needs a mail");
        let mut command = [b"APPEND ".as_slice(), &astring(mailbox)].concat();
        for (flags, mail) in mails {
            push_appended(&mut command, flags, None, mail);
        }
        self.ok_bytes(&command)
    }

    /// Begins IDLE and returns when the server has accepted it.
    pub fn idle_start(&mut self) -> Result<()> {
        ensure!(self.idle_tag.is_none(), "IDLE has already begun");
        let tag = self.send_tagged(b"IDLE")?;
        let line = self.read_line().context("no answer to IDLE")?;
        ensure!(
            line.starts_with(b"+"),
            "IDLE was answered `{}`",
            shown(&line)
        );
        self.idle_tag = Some(tag);
        Ok(())
    }

    /// Waits within IDLE for the next untagged answer (without `* `) that says something.
    ///
    /// Dovecot's `OK Still here` is left out; the first one may come at any time.
    pub fn idle_wait(&mut self) -> Result<Vec<u8>> {
        ensure!(self.idle_tag.is_some(), "IDLE has not begun");
        loop {
            let line = self.read_line().context("no answer within IDLE")?;
            let answer = line.strip_prefix(b"* ").unwrap_or(&line);
            if !answer.starts_with(b"OK Still here") {
                return Ok(answer.to_vec());
            }
        }
    }

    /// Ends IDLE; what [`Self::idle_wait`] has not taken is in the answer.
    pub fn idle_done(&mut self) -> Result<Response> {
        let tag = self.idle_tag.take().context("IDLE has not begun")?;
        self.write(b"DONE\r\n")?;
        let response = self.read_response(&tag).context("end of IDLE")?;
        ensure!(
            response.status == Status::Ok,
            "IDLE was ended by `{response}`"
        );
        Ok(response)
    }

    /// Logs out and closes the connection; Dovecot answers before it tears the session down.
    pub fn logout(mut self) -> Result<Response> {
        self.ok("LOGOUT")
    }

    /// Closes the connection without a word.
    pub fn close_abruptly(self) {
        drop(self);
    }

    fn send_tagged(&mut self, command: &[u8]) -> Result<String> {
        ensure!(self.idle_tag.is_none(), "IDLE has to be ended first");
        self.last_tag += 1;
        let tag = format!("t{}", self.last_tag);
        self.write(&[tag.as_bytes(), b" ", command, b"\r\n"].concat())?;
        Ok(tag)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .context("cannot write to the IMAP server")
    }

    fn read_response(&mut self, tag: &str) -> Result<Response> {
        let mut untagged: Vec<Vec<u8>> = Vec::new();
        loop {
            let line = self.read_line().with_context(|| match untagged.last() {
                Some(last) => format!("after the answer `* {}`", shown(last)),
                None => "before any answer".to_owned(),
            })?;
            if let Some(rest) = line.strip_prefix(b"* ") {
                untagged.push(rest.to_vec());
            } else if let Some(rest) = line.strip_prefix(tag.as_bytes()) {
                let rest = String::from_utf8_lossy(rest);
                let (status, text) = parse_status(rest.trim_start())?;
                return Ok(Response {
                    status,
                    text: text.to_owned(),
                    untagged,
                });
            } else if !line.starts_with(b"+") {
                bail!("unexpected line `{}`", shown(&line));
            }
        }
    }

    /// One answer without its final CRLF, with the literals in it.
    fn read_line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let read = self
                .stream
                .read_until(b'\n', &mut line)
                .context("cannot read from the IMAP server")?;
            ensure!(
                read > 0 && line.ends_with(b"\n"),
                "the IMAP server closed the connection"
            );
            let Some(length) = announced_literal(&line) else {
                break;
            };
            let start = line.len();
            line.resize(start + length, 0);
            self.stream
                .read_exact(&mut line[start..])
                .with_context(|| format!("literal of {length} bytes cut short"))?;
        }
        line.pop();
        line.pop_if(|byte| *byte == b'\r');
        Ok(line)
    }
}

fn push_appended(command: &mut Vec<u8>, flags: &str, date: Option<&str>, mail: &[u8]) {
    command.extend_from_slice(format!(" ({flags}) ").as_bytes());
    if let Some(date) = date {
        command.extend_from_slice(format!("\"{date}\" ").as_bytes());
    }
    command.extend_from_slice(&literal(mail));
}

fn parse_status(line: &str) -> Result<(Status, &str)> {
    let (word, text) = line.split_once(' ').unwrap_or((line, ""));
    let status = match word {
        "OK" => Status::Ok,
        "NO" => Status::No,
        "BAD" => Status::Bad,
        _ => bail!("unexpected tagged answer `{line}`"),
    };
    Ok((status, text))
}

/// The length of the literal that follows `line`, if it ends in `{n}` CRLF.
fn announced_literal(line: &[u8]) -> Option<usize> {
    let digits = line
        .strip_suffix(b"}\r\n")?
        .rsplit(|byte| *byte == b'{')
        .next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]).into_owned();
    if bytes.len() > SHOWN_BYTES {
        format!("{text}... ({} bytes)", bytes.len())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_recognised_at_the_end_of_a_line_only() {
        let check =
            |line: &str, length| assert_eq!(announced_literal(line.as_bytes()), length, "{line}");
        check("* 1 FETCH (BODY[] {12}\r\n", Some(12));
        check("* LIST () \"/\" {3}\r\n", Some(3));
        check("* OK {12} bytes\r\n", None);
        check("* OK }\r\n", None);
        check(")\r\n", None);
    }

    #[test]
    fn response_codes_give_their_argument() {
        let response = |text: &str| Response {
            status: Status::Ok,
            text: text.to_owned(),
            untagged: Vec::new(),
        };
        assert_eq!(
            response("[APPENDUID 5 7] done").code("APPENDUID"),
            Some("5 7")
        );
        assert_eq!(response("[READ-WRITE] done").code("READ-WRITE"), Some(""));
        assert_eq!(response("done").code("READ-WRITE"), None);
    }
}

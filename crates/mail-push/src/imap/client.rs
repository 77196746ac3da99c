//! One connection: commands are written, replies are read until the command's end.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::reply::{Capabilities, Code, Data, Done, Reply, Status};
use super::server::Protection;
use super::stream::Stream;
use super::{ImapError, ImapServer, ReplyReader, shown};

/// Longest time for connecting, with TLS and the greeting; and for one command that is short.
pub(super) const SHORT_WAIT: Duration = Duration::from_secs(30);
/// Longest time for a command that may list a whole mailbox.
pub(super) const LONG_WAIT: Duration = Duration::from_mins(5);

/// A connection to an IMAP server.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    reader: ReplyReader,
    last_tag: u32,
    pub(super) offered: Capabilities,
}

/// A part of a command.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// What is written as it is.
    Text(&'a str),
    /// A string of whatever bytes.
    String(&'a [u8]),
}

impl Client {
    /// Connects; the capabilities are known then, and nobody is logged in.
    pub async fn connect(server: &ImapServer) -> Result<Self, ImapError> {
        in_time(SHORT_WAIT, Self::begin(server)).await
    }

    async fn begin(server: &ImapServer) -> Result<Self, ImapError> {
        let mut stream = Stream::connect(&server.host, server.port).await?;
        if let Protection::Tls(config, name) = &server.protection {
            stream = stream.protect(config, name).await?;
        }
        let mut client = Self {
            stream,
            reader: ReplyReader::default(),
            last_tag: 0,
            offered: Capabilities::default(),
        };
        let is_told = client.greeting().await?;
        if let Protection::StartTls(config, name) = &server.protection {
            client.ask_capabilities().await?;
            if !client.offered.offer(Capabilities::STARTTLS) {
                return Err(ImapError::Lacks("STARTTLS"));
            }
            client.plain("STARTTLS").await?;
            // What came before TLS is nobody's word.
            if !client.reader.is_empty() {
                let text = "there is more behind the answer to STARTTLS";
                return Err(ImapError::Protocol(text.to_owned()));
            }
            client.stream = client.stream.protect(config, name).await?;
            client.ask_capabilities().await?;
        } else if !is_told {
            client.ask_capabilities().await?;
        }
        Ok(client)
    }

    /// Whether the greeting told the capabilities.
    async fn greeting(&mut self) -> Result<bool, ImapError> {
        let Reply::Data(Data::Status { status, code, text }) = self.reply().await? else {
            return Err(ImapError::Protocol("there is no greeting".to_owned()));
        };
        match (status, code) {
            (Status::Ok, Some(Code::Capability(offered))) => {
                self.offered = offered;
                Ok(true)
            }
            (Status::Ok, _) => Ok(false),
            (Status::PreAuth, _) => Err(ImapError::Protocol(
                "somebody is logged in already (PREAUTH)".to_owned(),
            )),
            _ => Err(ImapError::Unavailable(text)),
        }
    }

    pub(super) async fn ask_capabilities(&mut self) -> Result<(), ImapError> {
        let mut told = None;
        let heard = |data| {
            if let Data::Capability(offered) = data {
                told = Some(offered);
            }
        };
        let done = self.run(&[Part::Text("CAPABILITY")], SHORT_WAIT, heard);
        well("CAPABILITY", done.await?)?;
        self.offered = told.unwrap_or_default();
        Ok(())
    }

    /// A command without arguments whose data is of no interest.
    pub(super) async fn plain(&mut self, name: &'static str) -> Result<(), ImapError> {
        let done = self.run(&[Part::Text(name)], SHORT_WAIT, drop).await?;
        well(name, done).map(drop)
    }

    /// Runs a command; what the server says meanwhile goes to `heard`, in its order.
    pub(super) async fn run(
        &mut self,
        command: &[Part<'_>],
        wait: Duration,
        mut heard: impl FnMut(Data),
    ) -> Result<Done, ImapError> {
        let work = async {
            let tag = self.begin_command(command).await?;
            self.end(tag, &mut heard).await
        };
        in_time(wait, work).await
    }

    /// Writes a command; literals wait until the server wants them (RFC 9051 section 4.3).
    pub(super) async fn begin_command(&mut self, command: &[Part<'_>]) -> Result<u32, ImapError> {
        self.last_tag = self.last_tag.wrapping_add(1);
        let mut line = Zeroizing::new(format!("t{} ", self.last_tag).into_bytes());
        for part in command {
            match part {
                Part::Text(text) => line.extend_from_slice(text.as_bytes()),
                Part::String(text) if is_quotable(text) => {
                    line.push(b'"');
                    line.extend_from_slice(text);
                    line.push(b'"');
                }
                Part::String(text) => {
                    line.extend_from_slice(format!("{{{}}}\r\n", text.len()).as_bytes());
                    self.send(&line).await?;
                    self.wait_to_continue(self.last_tag).await?;
                    line.clear();
                    line.extend_from_slice(text);
                }
            }
        }
        line.extend_from_slice(b"\r\n");
        self.send(&line).await?;
        Ok(self.last_tag)
    }

    /// Waits until the server wants more; the text of its reply may be a challenge.
    pub(super) async fn wait_to_continue(&mut self, tag: u32) -> Result<Vec<u8>, ImapError> {
        loop {
            match self.reply().await? {
                Reply::Continue(text) => return Ok(text),
                Reply::Done(done) if done.tag == tag => return Err(not_continued(done)),
                Reply::Done(_) => return Err(other_tag()),
                Reply::Data(data) => end_of_session(&data)?,
            }
        }
    }

    /// Reads until the end of a command.
    pub(super) async fn end(
        &mut self,
        tag: u32,
        heard: &mut impl FnMut(Data),
    ) -> Result<Done, ImapError> {
        loop {
            match self.reply().await? {
                Reply::Done(done) if done.tag == tag => return Ok(done),
                Reply::Done(_) => return Err(other_tag()),
                Reply::Continue(_) => {
                    return Err(ImapError::Protocol("it wants more of a command".to_owned()));
                }
                Reply::Data(data) => {
                    end_of_session(&data)?;
                    heard(data);
                }
            }
        }
    }

    /// An answer within AUTHENTICATE.
    pub(super) async fn send_base64(&mut self, bytes: &[u8]) -> Result<(), ImapError> {
        let mut line = Zeroizing::new(STANDARD.encode(bytes));
        line.push_str("\r\n");
        self.send(line.as_bytes()).await
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), ImapError> {
        self.stream.send(bytes).await.map_err(ImapError::Away)
    }

    /// The next reply, however long it takes.
    pub(super) async fn reply(&mut self) -> Result<Reply, ImapError> {
        loop {
            if let Some(reply) = self.reader.next_reply()? {
                return Ok(reply);
            }
            let reader = &mut self.reader;
            let received = self.stream.receive(|bytes| reader.receive(bytes)).await;
            received.map_err(ImapError::Away)?;
        }
    }

    /// A reply that is there already.
    pub(super) fn received(&mut self) -> Result<Option<Reply>, ImapError> {
        self.reader.next_reply()
    }

    /// Gives back the memory of the reader, before a long wait.
    pub(super) fn rest(&mut self) {
        self.reader.rest();
    }
}

/// The error where a server does not want what a command has announced.
fn not_continued(done: Done) -> ImapError {
    ImapError::Command {
        command: "the command",
        text: done.text,
    }
}

/// BYE ends the session, whatever was asked.
pub(super) fn end_of_session(data: &Data) -> Result<(), ImapError> {
    match data {
        Data::Status {
            status: Status::Bye,
            text,
            ..
        } => Err(ImapError::Unavailable(text.clone())),
        _ => Ok(()),
    }
}

/// A command that was carried out, or the error.
pub(super) fn well(command: &'static str, done: Done) -> Result<Option<Code>, ImapError> {
    if done.status == Status::Ok {
        return Ok(done.code);
    }
    Err(ImapError::Command {
        command,
        text: shown(done.text.as_bytes()),
    })
}

/// What work gives, unless it takes longer than this: it hangs, then.
pub(crate) async fn in_time<T>(
    wait: Duration,
    work: impl Future<Output = Result<T, ImapError>>,
) -> Result<T, ImapError> {
    let Ok(done) = timeout(wait, work).await else {
        return Err(ImapError::Late(wait));
    };
    done
}

fn other_tag() -> ImapError {
    ImapError::Protocol("it answers a command that was not given".to_owned())
}

/// Whether a string stands between quotes as it is; others are literals.
fn is_quotable(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    text.len() < 1000 && text.iter().all(is_plain)
}

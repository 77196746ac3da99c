//! The socket to the relay. Nothing here waits but [`Connection::wait`].

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use super::queue::Queue;
use crate::wire::{self, Frame, Hello, Refusal, Rejected};

/// An established connection.
pub(super) struct Connection {
    socket: OwnedFd,
    /// What is to be sent before the records: the hello.
    head: Vec<u8>,
    /// The beginning of a frame that has not arrived whole.
    inbox: Vec<u8>,
    is_welcome: bool,
    /// Records that the relay has rejected, and their acknowledgement has not come yet: up to
    /// which, how many, why.
    rejected: Vec<(u64, u64, String)>,
}

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// The relay is gone, or the connection is.
    Lost,
    /// The relay does not want us, or does not speak as a relay does.
    Refused {
        /// As the relay says it.
        reason: Option<Refusal>,
        text: String,
        /// Whether it will be the same in a moment.
        is_lasting: bool,
    },
}

impl Ended {
    fn nonsense(text: String) -> Self {
        Self::Refused {
            reason: None,
            text,
            is_lasting: true,
        }
    }
}

impl From<Errno> for Ended {
    fn from(_: Errno) -> Self {
        Self::Lost
    }
}

impl Connection {
    /// Connects, and has the hello ready to be sent.
    pub(super) fn open(path: &Path, hello: &Hello<'_>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Where the relay's backlog is full this fails at once, too.
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self::over(socket, hello))
    }

    fn over(socket: OwnedFd, hello: &Hello<'_>) -> Self {
        let mut head = Vec::new();
        wire::write_hello(&mut head, hello);
        Self {
            socket,
            head,
            inbox: Vec::new(),
            is_welcome: false,
            rejected: Vec::new(),
        }
    }

    /// Whether the relay has answered the hello.
    pub(super) fn is_welcome(&self) -> bool {
        self.is_welcome
    }

    /// Sends as much as the socket takes. Where the relay has closed the connection, the error is
    /// what it said before.
    pub(super) fn send(&mut self, queue: &mut Queue) -> Result<(), Ended> {
        let sent = self.send_all(queue);
        match sent {
            // A refusal is told right after the connection was accepted, perhaps before anything
            // could be sent.
            Err(Ended::Lost) => self.receive(queue).and(Err(Ended::Lost)),
            done => done,
        }
    }

    fn send_all(&mut self, queue: &mut Queue) -> Result<(), Ended> {
        while !self.head.is_empty() {
            let Some(sent) = self.send_some(&self.head)? else {
                return Ok(());
            };
            self.head.drain(..sent);
        }
        self.head = Vec::new();
        while let Some(bytes) = queue.unsent() {
            let Some(sent) = self.send_some(bytes)? else {
                return Ok(());
            };
            queue.mark_sent(sent);
        }
        Ok(())
    }

    /// `None`: the socket takes nothing more now.
    fn send_some(&self, bytes: &[u8]) -> Result<Option<usize>, Ended> {
        loop {
            // Without NOSIGNAL the end of the relay would end the mail process.
            return match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => Ok(Some(sent)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Reads what the relay has said.
    pub(super) fn receive(&mut self, queue: &mut Queue) -> Result<(), Ended> {
        loop {
            let mut buffer = [0; 512];
            let bytes = match recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((0, _)) => return Err(Ended::Lost),
                Ok((bytes, _)) => bytes,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.inbox.extend_from_slice(&buffer[..bytes]);
            self.read_frames(queue)?;
        }
    }

    fn read_frames(&mut self, queue: &mut Queue) -> Result<(), Ended> {
        let mut read = 0;
        loop {
            let frame = wire::read_frame(&self.inbox[read..])
                .map_err(|error| Ended::nonsense(format!("it sends {error}")))?;
            let Some((frame, bytes)) = frame else {
                break;
            };
            match frame {
                Frame::Ack(records) => {
                    if !queue.acknowledge(records) {
                        let text =
                            format!("it acknowledges {records} records, more than were sent");
                        return Err(Ended::nonsense(text));
                    }
                }
                Frame::Refused { reason, text } => {
                    return Err(Ended::Refused {
                        reason,
                        text: text.to_owned(),
                        is_lasting: !matches!(reason, Some(Refusal::Busy | Refusal::Stopping)),
                    });
                }
                Frame::Welcome { .. } => self.is_welcome = true,
                Frame::Rejected(Rejected {
                    up_to,
                    count,
                    reason,
                }) => self.rejected.push((up_to, count, reason.to_owned())),
                Frame::Hello(_) | Frame::Records(_) => {
                    return Err(Ended::nonsense("it sends a client's frame".to_owned()));
                }
            }
            read += bytes;
        }
        self.inbox.drain(..read);
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        Ok(())
    }

    /// Records that are lost, with the reason, and that will not be sent again: what is not
    /// acknowledged is, and then the relay says so again.
    pub(super) fn take_lost(&mut self, queue: &Queue) -> Vec<(u64, String)> {
        let acknowledged = queue.acknowledged();
        let (lost, rejected) = std::mem::take(&mut self.rejected)
            .into_iter()
            .partition(|(up_to, ..)| *up_to <= acknowledged);
        self.rejected = rejected;
        let told = |(_, count, reason)| (count, reason);
        Vec::into_iter(lost).map(told).collect()
    }

    /// Waits until the relay has said something or takes more.
    pub(super) fn wait(&self, queue: &Queue, longest: Duration) -> io::Result<()> {
        let mut wanted = PollFlags::IN;
        if !self.head.is_empty() || queue.unsent().is_some() {
            wanted |= PollFlags::OUT;
        }
        let mut poll_fds = [PollFd::new(&self.socket, wanted)];
        let timeout = Timespec::try_from(longest).map_err(io::Error::other)?;
        match poll(&mut poll_fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::socketpair;

    use super::*;
    use crate::wire::VERSION;

    #[test]
    fn a_refusal_is_read_though_the_relay_has_closed_before_anything_was_sent() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, relays) = pair.expect("sockets");
        let hello = Hello {
            version: VERSION,
            host: "mail1",
            program: "lmtp",
            spill: "",
        };
        let mut connection = Connection::over(ours, &hello);
        let mut said = Vec::new();
        wire::write_refused(&mut said, Refusal::Peer, "uid 5000 may not send");
        send(&relays, &said, SendFlags::NOSIGNAL).expect("room");
        drop(relays);
        let ended = connection.send(&mut Queue::default());
        let Err(Ended::Refused {
            text, is_lasting, ..
        }) = ended
        else {
            panic!("not refused: {ended:?}");
        };
        assert_eq!(text, "uid 5000 may not send");
        assert!(is_lasting);
    }
}

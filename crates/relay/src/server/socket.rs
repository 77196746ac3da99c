//! A client's socket: read as soon as something comes, or when the sockets of all clients are.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use dovecast_log::embedded::Together;
use tokio::net::UnixStream;

use super::gather::{Gather, Watch};

/// The connection of one client.
pub(super) enum Socket {
    /// The session is woken for each frame.
    Each(UnixStream),
    /// The session is woken with others.
    Gathered { watch: Watch, stream: StdUnixStream },
}

impl Socket {
    /// Takes a connection over; one that cannot be watched is read at once.
    pub(super) fn new(stream: UnixStream, gather: Option<&Gather>) -> io::Result<Self> {
        let Some(gather) = gather else {
            return Ok(Self::Each(stream));
        };
        match gather.watch(&stream) {
            Ok(watch) => Ok(Self::Gathered {
                watch,
                // It is registered with tokio no more.
                stream: stream.into_std()?,
            }),
            Err(error) => {
                tracing::warn!(%error, "a client cannot be gathered with others");
                Ok(Self::Each(stream))
            }
        }
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Each(stream) => stream.readable().await,
            Self::Gathered { watch, .. } => {
                watch.readable().await;
                Ok(())
            }
        }
    }

    /// Waits until something may be written, after a write that was not whole.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Each(stream) => stream.writable().await,
            Self::Gathered { watch, .. } => {
                watch.writable().await;
                Ok(())
            }
        }
    }

    /// What the next append of what is read now is part of.
    pub(super) fn take_together(&self) -> Option<Arc<Together>> {
        match self {
            Self::Each(_) => None,
            Self::Gathered { watch, .. } => watch.take_together(),
        }
    }

    /// Whether the client is not read on, until this is called with `false`.
    pub(super) fn set_full(&self, is_full: bool) {
        if let Self::Gathered { watch, .. } = self {
            watch.set_full(is_full);
        }
    }

    /// Whether what has gathered is not read to its end.
    pub(super) fn has_gathered(&self) -> bool {
        match self {
            Self::Each(_) => false,
            Self::Gathered { watch, .. } => watch.is_readable(),
        }
    }

    /// Reads what is there, without waiting.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (watch, mut stream) = match self {
            Self::Each(stream) => return stream.try_read(buffer),
            Self::Gathered { watch, stream } => (watch, stream),
        };
        watch.begin_reading();
        let read = stream.read(buffer);
        if read.as_ref().is_ok_and(|bytes| *bytes == buffer.len()) {
            watch.keep_reading();
        }
        read
    }

    /// How much was written; 0 if the socket takes nothing now.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::Each(stream) => stream.try_write(bytes),
            Self::Gathered { stream, .. } => {
                let mut stream = stream;
                stream.write(bytes)
            }
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            done => done,
        }
    }

    /// To be called when a write was not whole, before [`Self::writable`]; and when what was left
    /// is written.
    pub(super) fn watch_writing(&self, is_stuck: bool) {
        let Self::Gathered { watch, stream } = self else {
            return;
        };
        let done = if is_stuck {
            watch.begin_writing(stream)
        } else {
            watch.end_writing(stream)
        };
        if let Err(error) = done {
            tracing::warn!(%error, "a client's socket cannot be watched");
        }
    }
}

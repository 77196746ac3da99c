//! A connection to an IMAP server, with TLS or without; its buffer for reading lives on the stack.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ImapError;

/// Bytes that are read at a time.
const READ_BYTES: usize = 4096;

/// A connection. TLS is boxed: its state is large, and a stream is moved.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) async fn connect(host: &str, port: u16) -> Result<Self, ImapError> {
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.map_err(ImapError::Away)?;
        stream.set_nodelay(true).map_err(ImapError::Away)?;
        Ok(Self::Plain(stream))
    }

    /// Begins TLS on a connection that has none.
    pub(super) async fn protect(
        self,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> Result<Self, ImapError> {
        let Self::Plain(stream) = self else {
            return Ok(self);
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), stream).await;
        // What is no I/O is about the certificate or the protocol.
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => ImapError::Tls(error),
            _ => ImapError::Away(error),
        })?;
        Ok(Self::Tls(Box::new(stream)))
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Waits for bytes and gives them to `take`; an end of the connection is an error.
    pub(super) async fn receive(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        poll_fn(|context| {
            let mut room = [0; READ_BYTES];
            let mut buffer = ReadBuf::new(&mut room);
            let read = match self {
                Self::Plain(stream) => Pin::new(stream).poll_read(context, &mut buffer),
                Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, &mut buffer),
            };
            ready!(read)?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            take(buffer.filled());
            Poll::Ready(Ok(()))
        })
        .await
    }
}

//! A connection of HTTP/2 that ends before any request on it is looked at, which the library of the
//! other connections cannot be made to do.

use anyhow::{Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a client begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty frame of settings: length, type, flags, stream.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// GOAWAY with the last stream 0 and no error.
const GO_AWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Type of the frame that a request begins with.
const HEADERS: u8 = 1;

/// Waits for a request, and says that it was not looked at.
pub(super) async fn go_away_at_once<S>(mut stream: S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut preface = vec![0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    if preface != PREFACE {
        bail!("no HTTP/2");
    }
    stream.write_all(&SETTINGS).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        if head[3] == HEADERS {
            stream.write_all(&GO_AWAY).await?;
            // Until the other side has read it and closes.
            while stream.read(&mut head).await? > 0 {}
            return Ok(());
        }
    }
}

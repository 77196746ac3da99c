//! A connection whose client has to read what it is sent, and not drop by drop.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::stats::{HttpStats, Slow};

/// So much has to be read in the time that a client has, or all that there is.
const PIECE: usize = 256 * 1024;

/// Fails when what is written is not read for so long.
pub(super) struct Stream<T> {
    inner: T,
    patience: Duration,
    stalled: Option<Stalled>,
    stats: Arc<HttpStats>,
}

/// A write has had to wait, and not all has been written since.
struct Stalled {
    over: Pin<Box<Sleep>>,
    /// Bytes since then.
    written: usize,
}

impl<T> Stream<T> {
    pub(super) fn new(inner: T, patience: Duration, stats: Arc<HttpStats>) -> Self {
        Self {
            inner,
            patience,
            stalled: None,
            stats,
        }
    }

    /// What a write has come to, unless it has waited too long.
    fn written(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            if let (Ok(bytes), Some(stalled)) = (&result, &mut self.stalled) {
                stalled.written += bytes;
                if stalled.written >= PIECE {
                    self.stalled = None;
                }
            }
            return Poll::Ready(result);
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Stalled {
            over: Box::pin(sleep(patience)),
            written: 0,
        });
        ready!(stalled.over.as_mut().poll(context));
        self.stats.was_slow(Slow::Reader);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is left to be written.
        self.stalled = None;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn a_reader_that_takes_drop_by_drop_is_one_that_does_not_read() {
        let (ours, mut theirs) = duplex(16);
        let stats = Arc::<HttpStats>::default();
        let mut stream = Stream::new(ours, PATIENCE, Arc::clone(&stats));
        // Each write finds room for a byte before its time is over.
        let reader = tokio::spawn(async move {
            for _ in 0..4_000 {
                theirs.read_u8().await?;
                tokio::time::sleep(PATIENCE / 20).await;
            }
            Ok::<_, io::Error>(())
        });
        let written = stream.write_all(&[0; 8 * 1024]).await;
        assert_eq!(
            written.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
        assert_eq!(stats.counts().slow, [0, 0, 1]);
        reader.abort();
    }

    #[tokio::test]
    async fn what_was_read_late_does_not_count_against_the_next_answer() {
        let (ours, mut theirs) = duplex(16);
        let stats = Arc::<HttpStats>::default();
        let mut stream = Stream::new(ours, PATIENCE, Arc::clone(&stats));
        for _ in 0..3 {
            let answer = async {
                stream.write_all(&[0; 64]).await?;
                stream.flush().await
            };
            let reader = async {
                theirs.read_exact(&mut [0; 64]).await?;
                // Idle for longer than it may take to read.
                tokio::time::sleep(2 * PATIENCE).await;
                Ok::<_, io::Error>(())
            };
            let (answered, read) = tokio::join!(answer, reader);
            answered.expect("written");
            read.expect("read");
        }
        assert_eq!(stats.counts().slow, [0, 0, 0]);
    }
}

//! A connection whose client has to read what it is sent, and to send the head of a request, and
//! neither drop by drop.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::limits::Times;
use super::progress::Progress;
use super::stats::{HttpStats, Slow};

/// So much has to be read in the time that a client has, or all that there is.
const PIECE: usize = 256 * 1024;

/// Fails when what is written is not read for so long, or the head of a request does not come.
pub(super) struct Stream<T> {
    inner: T,
    times: Times,
    stalled: Option<Stalled>,
    head: Head,
    stats: Arc<HttpStats>,
}

/// The head that is waited for.
struct Head {
    progress: Arc<Progress>,
    /// Number of heads that had come when something was read last.
    come: u64,
    /// When it has taken too long; `None` while nothing of it has come.
    over: Option<Pin<Box<Sleep>>>,
}

/// A write has had to wait, and not all has been written since.
struct Stalled {
    over: Pin<Box<Sleep>>,
    /// Bytes since then.
    written: usize,
}

impl<T> Stream<T> {
    /// What is read belongs to a head while no request of `progress` is under way.
    pub(super) fn new(
        inner: T,
        times: Times,
        progress: Arc<Progress>,
        stats: Arc<HttpStats>,
    ) -> Self {
        let head = Head {
            progress,
            come: 0,
            over: Some(Box::pin(sleep(times.head))),
        };
        Self {
            inner,
            times,
            stalled: None,
            head,
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
        let patience = self.times.request;
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
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let time = self.times.head;
        let head = &mut self.head;
        let come = head.progress.heads();
        if come != head.come {
            (head.come, head.over) = (come, None);
        }
        if head.progress.is_under_way() {
            return polled;
        }
        if polled.is_ready() {
            if buffer.filled().len() > before {
                head.over.get_or_insert_with(|| Box::pin(sleep(time)));
            }
            return polled;
        }
        let Some(over) = &mut head.over else {
            return polled;
        };
        ready!(over.as_mut().poll(context));
        self.stats.was_slow(Slow::Head);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    fn stream<T>(inner: T, stats: &Arc<HttpStats>) -> Stream<T> {
        let times = Times {
            head: PATIENCE,
            idle: PATIENCE,
            request: PATIENCE,
        };
        Stream::new(inner, times, Arc::default(), Arc::clone(stats))
    }

    #[tokio::test]
    async fn a_reader_that_takes_drop_by_drop_is_one_that_does_not_read() {
        let (ours, mut theirs) = duplex(16);
        let stats = Arc::<HttpStats>::default();
        let mut stream = stream(ours, &stats);
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
        assert_eq!(stats.counts().slow, [0, 0, 0, 1]);
        reader.abort();
    }

    #[tokio::test]
    async fn what_was_read_late_does_not_count_against_the_next_answer() {
        let (ours, mut theirs) = duplex(16);
        let stats = Arc::<HttpStats>::default();
        let mut stream = stream(ours, &stats);
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
        assert_eq!(stats.counts().slow, [0, 0, 0, 0]);
    }
    #[tokio::test]
    async fn a_head_has_its_time_and_what_lies_between_two_has_none() {
        let (ours, mut theirs) = duplex(64);
        let stats = Arc::<HttpStats>::default();
        let mut stream = stream(ours, &stats);
        let progress = Arc::clone(&stream.head.progress);
        for _ in 0..2 {
            theirs.write_u8(0).await.expect("written");
            stream.read_u8().await.expect("a head");
            let under_way = progress.begin();
            // A body may take longer, and so may the pause after the answer.
            for under_way in [Some(under_way), None] {
                let late = async {
                    tokio::time::sleep(2 * PATIENCE).await;
                    theirs.write_u8(0).await
                };
                let (read, written) = tokio::join!(stream.read_u8(), late);
                written.expect("written");
                read.expect("a byte");
                drop(under_way);
            }
            drop(progress.begin());
        }
        // Half a head, and no more.
        theirs.write_u8(0).await.expect("written");
        stream.read_u8().await.expect("half a head");
        let more = stream.read_u8().await;
        assert_eq!(
            more.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
        assert_eq!(stats.counts().slow, [1, 0, 0, 0]);
    }
}

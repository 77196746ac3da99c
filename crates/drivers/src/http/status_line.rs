//! The status of the answer that is under way, noted beside hyper's own reading.
//!
//! Where hyper refuses the headers of an answer, its status still says whether the endpoint has
//! what it was sent. Of interim answers (1xx) nothing is noted but that they came: the next head
//! is read as the first one was.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a status line begins with (RFC 9112, 4); a digit of the version and a blank come next.
const BEGINNING: &[u8; 7] = b"HTTP/1.";
/// Place of the digit of the version, of the blank behind it, of the first digit of the code, and
/// the place behind the last one.
const VERSION: u32 = 7;
const BLANK: u32 = 8;
const CODE: u32 = 9;
const END: u32 = 12;
/// Place after something that is no status line.
const NONE: u32 = 13;
/// Places in the head of an interim answer: in a line, at the beginning of one, behind the head.
const LINE: u32 = 14;
const NEXT_LINE: u32 = 15;
const NEXT_HEAD: u32 = 16;
/// Bits of the code; the place is above them.
const CODE_BITS: u32 = 16;

/// How far the status line of an answer was read, and the code in it. One word, so that noting it
/// takes neither a lock nor an allocation.
#[derive(Debug, Default)]
pub(super) struct StatusLine(AtomicU32);

impl StatusLine {
    /// Begins anew, for the answer to another request.
    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether any byte of an answer has come.
    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Status of a final answer; `None`: there is none yet.
    pub(super) fn status(&self) -> Option<u16> {
        let noted = self.0.load(Ordering::Relaxed);
        let (place, code) = (noted >> CODE_BITS, noted & 0xffff);
        let code = u16::try_from(code).ok()?;
        (place == END && code >= 200).then_some(code)
    }

    fn read(&self, bytes: &[u8]) {
        let noted = self.0.load(Ordering::Relaxed);
        let (mut place, mut code) = (noted >> CODE_BITS, noted & 0xffff);
        for byte in bytes {
            (place, code) = match (place, *byte) {
                (END, _) if code >= 200 => break,
                (NONE, _) => break,
                (NEXT_LINE, b'\n') => (NEXT_HEAD, 0),
                (END | LINE, b'\n') | (NEXT_LINE, b'\r') => (NEXT_LINE, code),
                (END | LINE | NEXT_LINE, _) => (LINE, code),
                // What some send behind the body of the answer before (RFC 9112, 2.2).
                (0 | NEXT_HEAD, b'\r' | b'\n') => (place, 0),
                (NEXT_HEAD, byte) if BEGINNING[0] == byte => (1, 0),
                (VERSION, b'0'..=b'9') => (BLANK, 0),
                // Some send more than one blank.
                (BLANK | CODE, b' ') => (CODE, 0),
                (CODE..END, digit @ b'0'..=b'9') => {
                    (place + 1, code * 10 + u32::from(digit - b'0'))
                }
                (0..VERSION, byte) if BEGINNING[place as usize] == byte => (place + 1, 0),
                _ => (NONE, 0),
            };
        }
        self.0.store((place << CODE_BITS) | code, Ordering::Relaxed);
    }
}

/// A stream whose answers have their status noted.
pub(super) struct Noting<S> {
    stream: S,
    line: Arc<StatusLine>,
}

impl<S> Noting<S> {
    pub(super) fn new(stream: S, line: &Arc<StatusLine>) -> Self {
        Self {
            stream,
            line: Arc::clone(line),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.line.read(&buffer.filled()[before..]);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_found_in_whatever_pieces_it_comes() {
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("\r\nHTTP/1.1  204 No Content", Some(204)),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            (
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n",
                Some(200),
            ),
            (
                "HTTP/1.1 100\n\nHTTP/1.1 102 a\n\nHTTP/1.0 503 b\n",
                Some(503),
            ),
            ("HTTP/1.1 103 \r\nA: HTTP/1.1 200 OK\r\n", None),
            ("HTTP/1.1 103 \r\n\r\nhello HTTP/1.1 200", None),
            ("HTTP/2 200\r\n", None),
            ("hello HTTP/1.1 200", None),
            ("", None),
        ] {
            for size in [1, 2, 5, 100] {
                let line = StatusLine::default();
                for piece in bytes.as_bytes().chunks(size) {
                    line.read(piece);
                }
                assert_eq!(line.status(), expected, "{bytes:?} by {size}");
                assert_eq!(line.has_begun(), !bytes.is_empty(), "{bytes:?} by {size}");
                line.clear();
                assert!(!line.has_begun());
            }
        }
    }
}

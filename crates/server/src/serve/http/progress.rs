//! How far a connection is: what its service knows and its stream has to know, which reads bytes
//! and not requests.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

/// Requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    heads: AtomicU64,
    ended: AtomicU64,
}

/// A request, from the end of its head until its answer is written.
pub(super) struct UnderWay(Arc<Progress>);

impl Progress {
    /// The head of a request has come.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.heads.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Number of heads that have come.
    pub(super) fn heads(&self) -> u64 {
        self.heads.load(Ordering::Relaxed)
    }

    /// Whether what comes now is of a request that has begun.
    pub(super) fn is_under_way(&self) -> bool {
        self.ended.load(Ordering::Relaxed) < self.heads()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl UnderWay {
    /// An answer, with whose body the request ends.
    pub(super) fn until_written(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(Held {
                body,
                _under_way: self,
            })
        })
    }
}

struct Held {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

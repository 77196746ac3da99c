//! Answers that are large: each holds the place of its read until it is sent, so that an account
//! which reads slowly has only as many of them in memory as it has places.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use dovecast_operations::ReadPlace;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;

use super::documents::Document;

/// Bytes that are handed to the connection at a time: it takes more when it has sent some, and so
/// the place is given back when nearly all is sent.
const PART_BYTES: usize = 64 * 1024;

/// An answer with the place of its read.
pub(crate) struct HeldAnswer<T>(pub(crate) Document<T>, pub(crate) ReadPlace);

impl<T: Serialize> IntoResponse for HeldAnswer<T> {
    fn into_response(self) -> Response {
        let Self(document, mut place) = self;
        let response = document.into_response();
        place.made();
        response.map(|body| Body::new(HeldBody::new(body, place)))
    }
}

/// A body in parts, which holds something until the last one.
struct HeldBody<P> {
    body: Body,
    /// What of the body is in memory, and not handed on.
    left: Bytes,
    _place: P,
}

impl<P> HeldBody<P> {
    fn new(body: Body, place: P) -> Self {
        Self {
            body,
            left: Bytes::new(),
            _place: place,
        }
    }
}

impl<P: Unpin> HttpBody for HeldBody<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let bytes = self.left.len().min(PART_BYTES);
        let part = self.left.split_to(bytes);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.left.len() as u64;
        let behind = self.body.size_hint();
        let mut hint = SizeHint::new();
        // The upper bound first: it may not be below the lower one.
        if let Some(upper) = behind.upper() {
            hint.set_upper(upper + left);
        }
        hint.set_lower(behind.lower() + left);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_place_is_held_until_the_last_part_of_the_answer_is_taken() {
        let text: String = "0123456789".repeat(20_000);
        let place = Arc::new(());
        let held = HeldBody::new(Body::from(text.clone()), Arc::clone(&place));
        let mut body = Body::new(held);
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        let mut taken = Vec::new();
        let mut parts = 0;
        while let Some(frame) = body.frame().await {
            let part = frame.expect("a part").into_data().expect("data");
            assert!(part.len() <= PART_BYTES);
            taken.extend_from_slice(&part);
            parts += 1;
            assert_eq!(Arc::strong_count(&place), 2);
            let left = text.len() - taken.len();
            assert_eq!(body.size_hint().exact(), Some(left as u64));
            assert_eq!(body.is_end_stream(), left == 0);
        }
        assert_eq!((taken, parts), (text.into_bytes(), 4));
        drop(body);
        assert_eq!(Arc::strong_count(&place), 1);
    }
}

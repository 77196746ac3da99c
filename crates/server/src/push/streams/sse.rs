//! `GET /events`: a stream as server-sent events (WHATWG HTML section 9.2). `id` is a cursor,
//! `event` the topic, `data` the message.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use dovecast_log::now_ms;
use hyper::body::Frame;
use tokio::time::{Instant, Sleep, sleep};

use super::cursor::Cursor;
use super::outlet::End;
use super::request::Asked;
use super::source::{GAP, Next, Source};
use crate::push::PushApi;
use crate::push::routes::PushError;
use crate::serve::http::streaming::Streaming;

/// A comment, which a client passes over and a proxy counts as traffic: a ping where no cursor is
/// known that would be one as well.
const PING: &[u8] = b":\n\n";

pub(super) async fn events(
    State(api): State<PushApi>,
    mut asked: Asked,
) -> Result<Response, PushError> {
    let connection = asked.connection.take();
    let streams = api.streams();
    let source = streams.open(asked).await?;
    let ping = streams.ping();
    let hello = id(source.cursor());
    let body = Events {
        source,
        hello: Some(hello),
        ping: Box::pin(sleep(ping)),
        every: ping,
        _streaming: connection.map(|connection| connection.begin()),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // It is a place among streams that the connection has, and it has none for more requests.
        (header::CONNECTION, "close"),
    ];
    let mut response = (headers, Body::new(body)).into_response();
    // nginx would gather events before it hands them on.
    let no = HeaderValue::from_static("no");
    response.headers_mut().insert("x-accel-buffering", no);
    Ok(response)
}

/// A cursor alone, which a browser keeps.
fn id(cursor: &Cursor) -> Bytes {
    format!("id: {cursor}\n\n").into()
}

/// The body: it ends with the stream.
struct Events {
    source: Source,
    /// Cursor that the client has, so that who is cut before the first event misses none.
    hello: Option<Bytes>,
    ping: Pin<Box<Sleep>>,
    every: Duration,
    _streaming: Option<Streaming>,
}

/// A reader that was cut off: the connection is closed without the end of the body, so that the
/// client sees that there is more.
#[derive(Debug, thiserror::Error)]
#[error("a stream was cut off")]
struct CutOff;

impl HttpBody for Events {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let this = self.get_mut();
        if let Some(hello) = this.hello.take() {
            return Poll::Ready(Some(Ok(Frame::data(hello))));
        }
        // Before it is looked for what is told: a cursor may pass over nothing that waits.
        let is_due = this.ping.as_mut().poll(context).is_ready();
        let ping = is_due.then(|| match this.source.idle_cursor(now_ms()) {
            Some(cursor) => id(&cursor),
            None => Bytes::from_static(PING),
        });
        let text = match this.source.poll_next(context) {
            Poll::Ready(Ok(Next::Told(told))) => told.sse(),
            Poll::Ready(Ok(Next::CaughtUp)) => id(this.source.begins()),
            Poll::Ready(Ok(Next::Gap)) => Bytes::from(format!("event: {GAP}\ndata: {{}}\n\n")),
            Poll::Ready(Err(End::Cut)) => return Poll::Ready(Some(Err(CutOff))),
            Poll::Ready(Err(End::TokenOver | End::Stopping)) => return Poll::Ready(None),
            Poll::Pending => match ping {
                Some(ping) => ping,
                None => return Poll::Pending,
            },
        };
        // The next ping is that long after the last thing that was sent.
        this.ping.as_mut().reset(Instant::now() + this.every);
        Poll::Ready(Some(Ok(Frame::data(text))))
    }
}

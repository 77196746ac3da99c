//! `GET /ws`: a stream as a WebSocket (RFC 6455), each message a text frame
//! `{"topic","id","data"}`. What a client says means nothing here; it has to answer pings.

mod handshake;

use std::future::poll_fn;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use super::outlet::End;
use super::request::Asked;
use super::source::{GAP, Next, Source};
use crate::push::PushApi;
use crate::push::counters::Count;
use crate::push::routes::PushError;
use crate::serve::http::streaming::Streaming;

pub(super) use handshake::Handshake;

/// Longest frame and message of a client, in bytes: it has nothing to say but pongs.
const MAX_CLIENT_BYTES: usize = 4096;
/// Buffer of what a client sends, in bytes: each connection has one.
const READ_BUFFER_BYTES: usize = 512;
/// How long the end of a stream may take to be told.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(super) async fn websocket(
    State(api): State<PushApi>,
    mut asked: Asked,
    mut request: Request,
) -> Result<Response, PushError> {
    let handshake = match Handshake::read(request.headers()) {
        Ok(handshake) => handshake,
        Err(refused) => return Ok(refused.into_response()),
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let connection = asked.connection.take();
    let source = api.streams().open(asked).await?;
    let every = api.streams().ping();
    let streaming = connection.map(|connection| connection.begin());
    tokio::spawn(run(upgrading, source, streaming, every));
    Ok(handshake.answer())
}

/// The stream, from the answer to its end.
async fn run(
    upgrading: OnUpgrade,
    mut source: Source,
    streaming: Option<Streaming>,
    every: Duration,
) {
    let Some(mut socket) = upgraded(upgrading).await else {
        return;
    };
    let end = pump(&mut socket, &mut source, every).await;
    // Its place is free now, whatever the client does about the end.
    drop((source, streaming));
    close(socket, end).await;
}

/// The connection, as soon as the answer is written.
pub(super) async fn upgraded(upgrading: OnUpgrade) -> Option<Socket> {
    let upgraded = upgrading.await.ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_CLIENT_BYTES))
        .max_frame_size(Some(MAX_CLIENT_BYTES));
    let io = TokioIo::new(upgraded);
    Some(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
}

/// Says why the stream ends; one that is cut is just closed.
pub(super) async fn close(mut socket: Socket, end: Option<End>) {
    let (code, reason) = match end {
        Some(End::TokenOver) => (CloseCode::Policy, "the session has ended"),
        Some(End::Stopping) => (CloseCode::Away, "the server is being stopped"),
        Some(End::Cut) => return,
        None => (CloseCode::Normal, ""),
    };
    let frame = CloseFrame {
        code,
        reason: Utf8Bytes::from_static(reason),
    };
    // Who does not hear it any more needs not.
    let _ = tokio::time::timeout(CLOSE_PATIENCE, socket.close(Some(frame))).await;
}

/// Sends what comes until the stream ends; `None`: by the client.
async fn pump(socket: &mut Socket, source: &mut Source, every: Duration) -> Option<End> {
    let mut pings = tokio::time::interval_at(Instant::now() + every, every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Whether nothing has come from the client since the last ping.
    let mut is_silent = false;
    loop {
        let message = tokio::select! {
            biased;
            next = poll_fn(|context| source.poll_next(context)) => match next {
                Ok(Next::Told(told)) => Message::Text(told.frame()),
                Ok(Next::CaughtUp) => continue,
                Ok(Next::Gap) => Message::text(format!(r#"{{"topic":"{GAP}","data":{{}}}}"#)),
                Err(end) => return Some(end),
            },
            read = socket.next() => {
                is_silent = false;
                match read {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => continue,
                }
            }
            _ = pings.tick() => {
                if is_silent {
                    source.count(Count::StreamSilent);
                    return Some(End::Cut);
                }
                is_silent = true;
                Message::Ping(Bytes::new())
            }
        };
        if let Some(end) = send(socket, source, message).await {
            return end;
        }
    }
}

/// Sends a message, unless the stream ends meanwhile: then why.
pub(super) async fn send(
    socket: &mut Socket,
    source: &mut Source,
    message: Message,
) -> Option<Option<End>> {
    tokio::select! {
        sent = socket.send(message) => sent.err().map(|_| None),
        end = poll_fn(|context| source.poll_end(context)) => Some(Some(end)),
    }
}

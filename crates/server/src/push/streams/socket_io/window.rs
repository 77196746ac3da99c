//! Socket.IO over a WebSocket.

use std::future::poll_fn;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use super::packets::{self, Said};
use super::{PING_TIMEOUT, Version, new_sid};
use crate::push::PushApi;
use crate::push::counters::Count;
use crate::push::routes::PushError;
use crate::push::streams::outlet::End;
use crate::push::streams::request::Asked;
use crate::push::streams::source::{Next, Source};
use crate::push::streams::websocket::{Handshake, Socket, close, send, upgraded};

/// A connection.
struct Window {
    version: Version,
    sid: String,
    source: Source,
    /// Whether the client has asked for the default name space.
    is_connected: bool,
    /// Whether nothing has come from the client since the last ping of ours.
    is_silent: bool,
    /// When something has come from it last.
    heard: Instant,
}

pub(super) async fn begin(
    api: &PushApi,
    version: Version,
    mut asked: Asked,
    (handshake, mut request): (Handshake, Request),
) -> Result<Response, PushError> {
    let sid = new_sid()?;
    let upgrading = hyper::upgrade::on(&mut request);
    let connection = asked.connection.take();
    let source = api.streams().open(asked).await?;
    let every = api.streams().ping();
    let streaming = connection.map(|connection| connection.begin());
    let mut window = Window {
        version,
        sid,
        source,
        is_connected: version == Version::Three,
        is_silent: false,
        heard: Instant::now(),
    };
    tokio::spawn(async move {
        let Some(mut socket) = upgraded(upgrading).await else {
            return;
        };
        let end = window.pump(&mut socket, every).await;
        // Its place is free now, whatever the client does about the end.
        drop((window, streaming));
        close(socket, end).await;
    });
    Ok(handshake.answer())
}

/// What a message of the client asks for.
enum Heard {
    /// A packet is said to it.
    Answered(String),
    /// Nothing is said to it.
    Taken,
    /// The client has closed the connection.
    Closed,
}

impl Window {
    /// Sends what comes until the stream ends; `None`: by the client.
    async fn pump(&mut self, socket: &mut Socket, every: Duration) -> Option<End> {
        let mut first = vec![packets::open(self.version, &self.sid, every)];
        if self.is_connected {
            first.push(packets::CONNECTED.to_owned());
        }
        for packet in first {
            if let Some(end) = send(socket, &mut self.source, Message::text(packet)).await {
                return end;
            }
        }
        let mut pings = tokio::time::interval_at(Instant::now() + every, every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased;
                next = poll_fn(|context| self.source.poll_either(context, self.is_connected)) => {
                    match next {
                        Ok(Next::Told(told)) => Message::Text(told.socket_io()),
                        // Clients of this kind have no cursors, and so no gaps.
                        Ok(Next::Gap | Next::CaughtUp) => continue,
                        Err(end) => return Some(end),
                    }
                }
                read = socket.next() => match self.heard(&read?.ok()?) {
                    Heard::Answered(answer) => Message::text(answer),
                    Heard::Taken => continue,
                    Heard::Closed => return None,
                },
                _ = pings.tick(), if self.version == Version::Four => {
                    if self.is_silent {
                        return Some(self.silent());
                    }
                    self.is_silent = true;
                    Message::text(packets::PING)
                }
                // It is the client that pings.
                () = sleep_until(self.heard + every + PING_TIMEOUT),
                    if self.version == Version::Three => return Some(self.silent()),
            };
            if let Some(end) = send(socket, &mut self.source, message).await {
                return end;
            }
        }
    }

    /// The end of a stream whose client is gone without a word.
    fn silent(&self) -> End {
        self.source.count(Count::StreamSilent);
        End::Cut
    }

    /// Takes a message of the client.
    fn heard(&mut self, message: &Message) -> Heard {
        self.is_silent = false;
        self.heard = Instant::now();
        let packet = match message {
            Message::Text(text) => text.as_str(),
            Message::Close(_) => return Heard::Closed,
            _ => return Heard::Taken,
        };
        match packets::said(packet) {
            Said::Close => Heard::Closed,
            Said::Ping(more) => Heard::Answered(format!("3{more}")),
            Said::Connect => {
                self.is_connected = true;
                Heard::Answered(packets::connected(self.version, &self.sid))
            }
            Said::Nothing => Heard::Taken,
        }
    }
}

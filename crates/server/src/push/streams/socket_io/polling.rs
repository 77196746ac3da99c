//! Socket.IO by long polling: between two requests the stream waits here, by its name. One that
//! nobody asks for any more ends.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use dovecast_mail_push::Person;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::packets::{self, Said};
use super::{Refused, Version, new_sid, payload};
use crate::push::PushApi;
use crate::push::routes::PushError;
use crate::push::streams::request::Asked;
use crate::push::streams::source::{Next, Source};

/// Longest time of a poll on which nothing is told; half the time that a request has, where that is
/// less.
const LONGEST_POLL: Duration = Duration::from_secs(20);
/// How long a stream waits for the next request beyond the time between pings.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most answers to a client that wait for its next poll.
const MAX_ANSWERS: usize = 32;
/// Most packets of one payload.
const MAX_PACKETS: usize = 64;

/// Streams of clients that poll, by their names.
#[derive(Default)]
pub(in crate::push::streams) struct Polls(Mutex<HashMap<String, Arc<Polled>>>);

/// One of them.
struct Polled {
    version: Version,
    sid: String,
    person: Person,
    ping: Duration,
    source: tokio::sync::Mutex<Source>,
    state: Mutex<State>,
    /// Something is to be said.
    news: Notify,
}

struct State {
    answers: VecDeque<String>,
    is_connected: bool,
    /// Whether the client has closed it, so that a poll that waits ends.
    is_over: bool,
    asked: Instant,
    next_ping: Instant,
}

impl Polls {
    fn get(&self, sid: &str) -> Option<Arc<Polled>> {
        self.all().get(sid).cloned()
    }

    fn remove(&self, sid: &str) {
        self.all().remove(sid);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Polled>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Polled {
    /// When the stream ends unless it is asked for.
    fn patience_ends(&self) -> Instant {
        self.state().asked + self.ping + PATIENCE
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins a stream, and says how it is called.
pub(super) async fn begin(
    api: &PushApi,
    version: Version,
    asked: Asked,
) -> Result<Response, PushError> {
    let sid = new_sid()?;
    let person = asked.person.clone();
    let source = api.streams().open(asked).await?;
    let ping = api.streams().ping();
    let now = Instant::now();
    let polled = Arc::new(Polled {
        version,
        sid: sid.clone(),
        person,
        ping,
        source: tokio::sync::Mutex::new(source),
        state: Mutex::new(State {
            answers: VecDeque::new(),
            is_connected: version == Version::Three,
            is_over: false,
            asked: now,
            next_ping: now + ping,
        }),
        news: Notify::new(),
    });
    let polls = Arc::clone(api.streams().polls());
    polls.all().insert(sid.clone(), Arc::clone(&polled));
    let polled = Arc::downgrade(&polled);
    tokio::spawn(async move { forgotten(&polls, polled).await });
    let mut first = vec![packets::open(version, &sid, ping)];
    if version == Version::Three {
        first.push(packets::CONNECTED.to_owned());
    }
    Ok(payload(packets::join(version, &first)))
}

/// Waits until nobody asks for a stream any more, or it is gone.
async fn forgotten(polls: &Polls, polled: Weak<Polled>) {
    while let Some(end) = polled.upgrade().map(|polled| polled.patience_ends()) {
        sleep_until(end).await;
        let Some(polled) = polled.upgrade() else {
            return;
        };
        if polled.patience_ends() > Instant::now() {
            continue;
        }
        // A poll that is under way is somebody who asks.
        if polled.source.try_lock().is_ok() {
            polls.remove(&polled.sid);
            return;
        }
        polled.state().asked = Instant::now();
    }
}

/// A request of a stream that has begun: a poll, or what its client says.
pub(super) async fn go_on(
    api: &PushApi,
    sid: &str,
    asked: Asked,
    request: Request,
) -> Result<Response, PushError> {
    let polls = api.streams().polls();
    // Whoever has learnt the name of another's stream can do nothing with it.
    let is_theirs = |polled: &Arc<Polled>| polled.person == asked.person;
    let Some(polled) = polls.get(sid).filter(is_theirs) else {
        return Ok(Refused::UnknownSession.into_response());
    };
    polled.state().asked = Instant::now();
    let is_post = request.method() == Method::POST;
    let answered = if is_post {
        said(&polled, request).await
    } else {
        let longest = longest_poll(api.request_time());
        poll(&polled, asked, longest).await
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(refused) => {
            polls.remove(sid);
            polled.state().is_over = true;
            polled.news.notify_one();
            match refused {
                Some(refused) => refused.into_response(),
                None => payload(if is_post { "ok" } else { packets::NOOP }.to_owned()),
            }
        }
    };
    polled.state().asked = Instant::now();
    if !is_post {
        // The connection of a poll has no place among requests any more.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

/// An answer, or the end of the stream with what is refused, if something is.
type Answered = Result<Response, Option<Refused>>;

async fn said(polled: &Polled, request: Request) -> Answered {
    let body = Bytes::from_request(request, &()).await;
    let body = body.map_err(|_| Some(Refused::BadRequest))?;
    let text = std::str::from_utf8(&body).map_err(|_| Some(Refused::BadRequest))?;
    let all = packets::split(polled.version, text).ok_or(Some(Refused::BadRequest))?;
    for packet in all.into_iter().take(MAX_PACKETS) {
        let answer = match packets::said(packet) {
            Said::Close => return Err(None),
            Said::Ping(more) => format!("3{more}"),
            Said::Connect => {
                polled.state().is_connected = true;
                packets::connected(polled.version, &polled.sid)
            }
            Said::Nothing => continue,
        };
        let mut state = polled.state();
        if state.answers.len() >= MAX_ANSWERS {
            return Err(Some(Refused::BadRequest));
        }
        state.answers.push_back(answer);
    }
    polled.news.notify_one();
    Ok(payload("ok".to_owned()))
}

fn longest_poll(request_time: Duration) -> Duration {
    LONGEST_POLL.min(request_time / 2)
}

async fn poll(polled: &Polled, mut asked: Asked, longest: Duration) -> Answered {
    // Two polls at a time are the mark of a client that is broken.
    let Ok(mut source) = polled.source.try_lock() else {
        return Err(Some(Refused::BadRequest));
    };
    let streaming = asked.connection.take().map(|connection| connection.begin());
    let until = Instant::now() + longest;
    let found = loop {
        let (is_connected, next_ping, mut found) = {
            let mut state = polled.state();
            if state.is_over {
                return Err(None);
            }
            let answers: Vec<String> = state.answers.drain(..).collect();
            (state.is_connected, state.next_ping, answers)
        };
        if polled.version == Version::Four && next_ping <= Instant::now() {
            polled.state().next_ping = Instant::now() + polled.ping;
            found.push(packets::PING.to_owned());
        }
        if is_connected {
            gather(&mut source, &mut found).await.map_err(|()| None)?;
        }
        if !found.is_empty() {
            break found;
        }
        let wake = match polled.version {
            Version::Four => until.min(next_ping),
            Version::Three => until,
        };
        tokio::select! {
            () = polled.news.notified() => {}
            next = poll_fn(|context| source.poll_either(context, is_connected)) => match next {
                Ok(Next::Told(told)) => {
                    let mut found = vec![told.socket_io().to_string()];
                    gather(&mut source, &mut found).await.map_err(|()| None)?;
                    break found;
                }
                Ok(Next::Gap | Next::CaughtUp) => {}
                Err(_) => return Err(None),
            },
            () = sleep_until(wake) => {
                if until <= Instant::now() {
                    break vec![packets::NOOP.to_owned()];
                }
            }
        }
    };
    drop(streaming);
    Ok(payload(packets::join(polled.version, &found)))
}

/// Adds what waits already; an error: the stream has ended.
async fn gather(source: &mut Source, found: &mut Vec<String>) -> Result<(), ()> {
    while found.len() < MAX_PACKETS {
        let next = poll_fn(|context| match source.poll_next(context) {
            std::task::Poll::Ready(next) => std::task::Poll::Ready(Some(next)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        });
        match next.await {
            Some(Ok(Next::Told(told))) => found.push(told.socket_io().to_string()),
            Some(Ok(Next::Gap | Next::CaughtUp)) => {}
            Some(Err(_)) => return Err(()),
            None => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_answered_before_its_request_is_ended() {
        for (request_secs, poll_ms) in [(1, 500), (20, 10_000), (40, 20_000), (3_600, 20_000)] {
            let longest = longest_poll(Duration::from_secs(request_secs));
            assert_eq!(longest, Duration::from_millis(poll_ms), "{request_secs}");
        }
    }
}

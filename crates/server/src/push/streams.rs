//! Streams: what open windows are told of a person's mail, by SSE, by
//! WebSocket and by Socket.IO, while they are open.
//!
//! Nothing is owed to a window that was closed, so streams keep nothing in the store. They follow
//! the log by themselves: each node reads all of it (`feed`), finds the streams of an event's
//! person (`hub`) and puts what is told into their queues (`outlet`); an event is rendered once for
//! all of them (`told`). Who comes back says what it has had last (`cursor`), and is told from the
//! log what it has missed (`catch_up`). Each stream sees both as one (`source`).

mod catch_up;
mod cursor;
mod feed;
mod hub;
mod lasting;
mod outlet;
mod request;
pub(crate) mod socket_io;
mod source;
mod sse;
#[cfg(test)]
mod tests;
mod told;
mod turns;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use dovecast_log::{Log, now_ms};
use dovecast_mail_push::Topics;
use dovecast_notification::EventAccount;
use dovecast_operations::Refusal;
use dovecast_operations::push::MailPush;
use tokio::sync::{Mutex, mpsc};

use super::PushApi;
use super::counters::{Count, Counters};
use catch_up::CatchUp;
pub(crate) use catch_up::Patience;
use feed::EventFeed;
use hub::{Hub, NoPlace};
use outlet::Outlet;
use socket_io::Polls;
use source::Source;

/// How long a new stream waits for the log to be followed, which it is right after the start.
const FEED_PATIENCE: Duration = Duration::from_secs(5);
/// After how long one who found no place may try again.
const FULL_RETRY: Duration = Duration::from_secs(30);

/// Bounds of the streams of one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamLimits {
    /// Most streams of one person.
    pub(crate) per_person: usize,
    /// Most streams in all.
    pub(crate) total: usize,
    /// Time between pings of a stream on which nothing is told.
    pub(crate) ping: Duration,
    pub(crate) patience: Patience,
}

/// The streams of this node. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Parts>);

struct Parts {
    hub: Arc<Hub>,
    limits: StreamLimits,
    counters: Arc<Counters>,
    /// Streams of clients that poll.
    polls: Arc<Polls>,
    /// Streams that want to catch up: each says so once, and is taken at once.
    catch_ups: mpsc::UnboundedSender<CatchUp>,
    requests: Arc<Mutex<mpsc::UnboundedReceiver<CatchUp>>>,
}

impl Streams {
    pub(crate) fn new(limits: StreamLimits, counters: Arc<Counters>) -> Self {
        let (catch_ups, requests) = mpsc::unbounded_channel();
        Self(Arc::new(Parts {
            hub: Arc::new(Hub::new(limits, Arc::clone(&counters))),
            limits,
            counters,
            polls: Arc::default(),
            catch_ups,
            requests: Arc::new(Mutex::new(requests)),
        }))
    }

    /// Follows the log until it is closed.
    pub(super) async fn follow<L: Log + Clone>(
        &self,
        log: &L,
        topics: &[String],
        account: &EventAccount,
    ) {
        let feed = EventFeed {
            hub: Arc::clone(&self.0.hub),
            counters: Arc::clone(&self.0.counters),
            account: account.clone(),
            requests: Arc::clone(&self.0.requests),
        };
        feed.follow(log, topics).await;
    }

    /// Ends streams whose token is good no more, for ever.
    pub(super) async fn check_tokens(&self, acts: &MailPush) {
        lasting::check(&self.0.hub, acts, self.0.limits.ping).await;
    }

    /// Ends all streams, also those that would begin from now on.
    pub(super) fn stop(&self) {
        self.0.hub.stop();
    }

    /// Ends the streams that were opened with a token.
    pub(super) fn end_token(&self, token: &str) {
        self.0.hub.end_token(token);
    }

    /// Time between pings.
    fn ping(&self) -> Duration {
        self.0.limits.ping
    }

    fn polls(&self) -> &Arc<Polls> {
        &self.0.polls
    }

    /// Begins a stream; it goes on behind the cursor, if there is one.
    async fn open(&self, asked: request::Asked) -> Result<Source, Refusal> {
        let hub = &self.0.hub;
        if tokio::time::timeout(FEED_PATIENCE, hub.followed())
            .await
            .is_err()
        {
            return Err(Refusal::Unavailable(
                "The log cannot be followed at the moment".into(),
            ));
        }
        let outlet = Arc::new(Outlet::new(
            asked.person,
            asked.topics.unwrap_or_else(Topics::all),
            asked.content.unwrap_or_default(),
            asked.token,
        ));
        // Before the stream is told anything: nothing of that is before its cursor.
        let begins = hub.now(now_ms());
        let slot = hub.attach(&outlet).map_err(|full| {
            self.0.counters.add(Count::StreamRefused, 1);
            refused(full)
        })?;
        let turns = slot.turns.clone();
        let mut source = Source::new(slot, begins, Arc::clone(&self.0.counters));
        if let Some(from) = asked.from {
            let range = (from.clone(), hub.seen());
            let (catch_up, caught) = CatchUp::new(outlet, range, turns, self.0.limits.patience);
            source.catch_up(from, (catch_up, self.0.catch_ups.clone()), caught);
        }
        Ok(source)
    }
}

fn refused(full: NoPlace) -> Refusal {
    match full {
        NoPlace::Person => Refusal::TooMuch {
            reason: "This person has as many streams as one may have".to_owned(),
            after: FULL_RETRY,
        },
        NoPlace::Node => {
            Refusal::Unavailable("This server has as many streams as it may have".into())
        }
        NoPlace::Stopping => Refusal::Unavailable("The server is being stopped".into()),
    }
}

/// The requests that begin streams.
pub(super) fn routes() -> Router<PushApi> {
    Router::new()
        .route("/events", get(sse::events))
        .route("/ws", get(websocket::websocket))
}

//! Sends to one webhook: one request after the other, over a connection that is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery};

use super::Webhook;
use super::answer::judged;
use crate::guard::{Addresses, Guard};
use crate::http::sockets::{AccountSockets, Sockets};
use crate::http::{self, BodyLimits, Connection, HttpError, Tried};
use crate::template::TemplateError;

/// How much of an answer's body is read, and dropped, so that the connection can be kept: by its
/// head an answer is complete, and one that keeps its body back must not hold up the next delivery.
const BODY: BodyLimits = BodyLimits {
    bytes: 64 * 1024,
    time: Duration::from_millis(200),
};
/// How much is read of a body, and kept, of a service whose answer says more in its body than in
/// its head. Of a body that does not end within that the head counts.
const JUDGED_BODY: BodyLimits = BodyLimits {
    bytes: 64 * 1024,
    time: Duration::from_secs(5),
};

/// Delivers to a webhook, one after the other, over a connection that is kept.
pub struct Sender {
    webhook: Arc<Webhook>,
    guard: Guard,
    /// Where its connection takes its place.
    sockets: AccountSockets,
    connection: Option<Connection>,
    waits_for: Wait,
}

/// Why an attempt has no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A template that is mended mends what is owed.
    #[error("the template {0}")]
    Template(#[from] TemplateError),
}

/// What an attempt that is under way waits for.
enum Wait {
    /// Addresses of the host.
    Name,
    /// Place of a connection.
    Place,
    /// A connection to one of these.
    Connection(Addresses),
    Answer,
}

impl Sender {
    /// Connects when there is something to deliver.
    pub fn new(webhook: Arc<Webhook>, guard: Guard, sockets: &Sockets) -> Self {
        Self {
            sockets: sockets.of_account(guard.account()),
            webhook,
            guard,
            connection: None,
            waits_for: Wait::Answer,
        }
    }

    async fn attempt(&mut self, delivery: &Delivery) -> Attempt {
        let started = Instant::now();
        let timeout = self.webhook.timeout;
        let exchanged = tokio::time::timeout(timeout, self.exchange(delivery)).await;
        let latency = started.elapsed();
        let attempt = match exchanged {
            Ok(Ok((connection, answer))) => self.finish(connection, answer).await,
            Ok(Err(error @ Unanswered::Http(_))) => Attempt::failed(error.to_string()),
            Ok(Err(error @ Unanswered::Template(_))) => Attempt::not_made(error.to_string()),
            // Nobody was asked anything.
            Err(_) if matches!(self.waits_for, Wait::Place) => Attempt::not_made(self.too_late()),
            Err(_) => Attempt::failed(self.too_late()),
        };
        Attempt { latency, ..attempt }
    }

    /// What an answer means; the connection is kept if it can be.
    async fn finish(&mut self, mut connection: Connection, answer: http::Answer) -> Attempt {
        let mut attempt = judged(&answer.head);
        let format = self.webhook.format.as_deref();
        let is_kept = match format.filter(|format| format.judges_bodies()) {
            // Whatever the body does changes nothing any more.
            None => connection.finish(answer, BODY).await,
            Some(format) => {
                let mut body = Vec::new();
                let take = |piece: &Bytes| body.extend_from_slice(piece);
                let is_whole = connection.finish_with(answer, JUDGED_BODY, take).await;
                if is_whole {
                    attempt = format.judge(attempt, &body);
                }
                is_whole && connection.is_usable()
            }
        };
        if is_kept && self.sockets.may_keep() {
            self.connection = Some(connection);
        }
        attempt
    }

    /// What did not come within the timeout.
    fn too_late(&self) -> String {
        let ms = self.webhook.timeout.as_millis();
        match &self.waits_for {
            Wait::Name => {
                let host = &self.webhook.origin.host;
                format!("the address of `{host}` was not found within {ms} ms")
            }
            Wait::Place => format!(
                "there are too many connections to endpoints: none was closed within {ms} ms"
            ),
            // As where it is refused: how long an attempt took is said beside.
            Wait::Connection(to) => format!("no connection to {}", Tried::of(to)),
            Wait::Answer => format!("no answer within {ms} ms"),
        }
    }

    async fn exchange(
        &mut self,
        delivery: &Delivery,
    ) -> Result<(Connection, http::Answer), Unanswered> {
        loop {
            let mut connection = match self.connection.take() {
                Some(connection) if connection.is_usable() => connection,
                _ => self.connect().await?,
            };
            self.waits_for = Wait::Answer;
            // In memory from here until it is sent: very many attempts may wait for an answer.
            let body = match self.webhook.body(delivery).await {
                Ok(body) => body,
                Err(error) => {
                    self.connection = Some(connection);
                    return Err(error.into());
                }
            };
            let request = self.webhook.request(delivery, body);
            match connection.exchange(request).await {
                Ok(answer) => return Ok((connection, answer)),
                // An old connection that the endpoint has closed meanwhile says nothing about the
                // endpoint.
                Err(_) if connection.may_have_been_closed() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, HttpError> {
        let origin = &self.webhook.origin;
        self.waits_for = Wait::Name;
        let addresses = self.guard.addresses(&origin.host, origin.port).await?;
        self.waits_for = Wait::Place;
        let place = self.sockets.place().await;
        self.waits_for = Wait::Connection(addresses.clone());
        Connection::open(&addresses, origin, (place, &self.sockets)).await
    }
}

impl Courier for Sender {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(self.attempt(delivery))
    }

    fn closed(&mut self) -> Boxed<'_, ()> {
        Box::pin(self.sockets.keep(&mut self.connection))
    }
}

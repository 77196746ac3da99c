//! Dead letters: listed, shown, delivered again, dropped.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dovecast_notification::{EndpointId, Notification, NotificationId};
use dovecast_store::DeadLetterPage;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Operations, Operator, OwnEndpoint, Refusal, Resource, Result};

/// Deliveries that an endpoint owes from which on nothing of the log is delivered to it again: each
/// has a copy of its notification in the store.
const MOST_OWED: u32 = 1_000;
/// When to ask again for a delivery of the log that was refused for those.
const OWED_AGAIN: Duration = Duration::from_mins(1);

/// Which dead letters of an endpoint are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenLetters {
    /// One, by the name of its notification.
    One(NotificationName),
    /// All since this time.
    Since(Timestamp),
    /// All; for redelivery also what is owed for later.
    All,
}

/// Name of a notification: its id, or the `webhook-id` of its delivery to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationName {
    /// Id of the notification.
    pub id: Uuid,
    /// Endpoint of the delivery, in a `webhook-id`.
    pub endpoint: Option<Uuid>,
}

impl FromStr for NotificationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is neither the id of a notification nor a `webhook-id`");
        let parse = |text: &str| Uuid::try_parse(text).map_err(|_| bad());
        let Some(pair) = text.strip_prefix("msg_") else {
            let id = parse(text)?;
            return Ok(Self { id, endpoint: None });
        };
        let (id, endpoint) = pair.split_once('_').ok_or_else(bad)?;
        Ok(Self {
            id: parse(id)?,
            endpoint: Some(parse(endpoint)?),
        })
    }
}

impl fmt::Display for NotificationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endpoint {
            None => self.id.fmt(f),
            Some(endpoint) => {
                let (id, endpoint) = (self.id.as_simple(), endpoint.as_simple());
                write!(f, "msg_{id}_{endpoint}")
            }
        }
    }
}

impl NotificationName {
    /// The notification, unless this names its delivery to another endpoint.
    pub fn for_endpoint(self, endpoint: EndpointId) -> Option<NotificationId> {
        let is_its = self.endpoint.is_none_or(|of| of == endpoint.0);
        is_its.then_some(NotificationId(self.id))
    }
}

impl ChosenLetters {
    /// From when on dead letters are meant, in milliseconds since 1970.
    fn since_ms(self) -> i64 {
        match self {
            Self::Since(time) => time.as_millisecond(),
            Self::One(_) | Self::All => i64::MIN,
        }
    }
}

impl Operations {
    /// The latest dead letters of an endpoint before one, at most so many and as a page holds, the
    /// newest first.
    pub async fn dead_letters(
        &self,
        own: &OwnEndpoint,
        before: Option<Uuid>,
        most: usize,
    ) -> Result<DeadLetterPage> {
        Ok(self.store.dead_letters_of(own.id(), before, most).await?)
    }

    /// The latest dead letters of all accounts before one, and records that were no notification:
    /// at most so many and as a page holds.
    pub async fn all_dead_letters(
        &self,
        _: Operator,
        before: Option<Uuid>,
        most: usize,
    ) -> Result<DeadLetterPage> {
        Ok(self.store.dead_letters(before, most).await?)
    }

    /// Drops dead letters of an endpoint, which are not delivered any more; how many those were.
    pub async fn drop_dead_letters(&self, own: &OwnEndpoint, which: ChosenLetters) -> Result<u64> {
        let endpoint = own.id();
        let dropped = match which {
            ChosenLetters::Since(_) | ChosenLetters::All => {
                let since_ms = which.since_ms();
                let dropping = self.store.drop_dead_letters_since(endpoint, since_ms);
                dropping.await?
            }
            ChosenLetters::One(name) => {
                let none = || Refusal::no(Resource::DeadLetter, name);
                let notification = name.for_endpoint(endpoint).ok_or_else(none)?;
                if !self.store.drop_dead_letter(endpoint, notification).await? {
                    return Err(none());
                }
                1
            }
        };
        tracing::info!(endpoint.id = %endpoint, dropped, by = %own.by(), "dead letters were dropped, as was asked for");
        Ok(dropped)
    }

    /// Delivers dead letters of an active endpoint again, or what is owed to it for later; how many
    /// deliveries are due now.
    pub async fn redeliver(&self, own: &OwnEndpoint, which: ChosenLetters) -> Result<u64> {
        must_be_active(own)?;
        let endpoint = own.id();
        let redelivered = match which {
            ChosenLetters::Since(_) => {
                let since_ms = which.since_ms();
                self.store.redeliver_since(endpoint, since_ms).await?
            }
            ChosenLetters::All => {
                let letters = self
                    .store
                    .redeliver_since(endpoint, which.since_ms())
                    .await?;
                self.save_anew(own).await?;
                letters + self.due_at_once(own).await?
            }
            ChosenLetters::One(name) => {
                let none = || Refusal::no(Resource::Owed, name);
                let notification = name.for_endpoint(endpoint).ok_or_else(none)?;
                match self.store.redeliver(endpoint, notification).await? {
                    0 => return Err(none()),
                    deliveries => deliveries,
                }
            }
        };
        tracing::info!(endpoint.id = %endpoint, redelivered, by = %own.by(), "deliveries are due again, as was asked for");
        Ok(redelivered)
    }

    /// A notification whose delivery to an endpoint is owed or a dead letter, with what the
    /// endpoint may see of it.
    pub async fn undelivered(
        &self,
        own: &OwnEndpoint,
        name: NotificationName,
    ) -> Result<Notification> {
        let none = || Refusal::no(Resource::Owed, name);
        let notification = name.for_endpoint(own.id()).ok_or_else(none)?;
        let content = self.store.content_of(own.id(), notification).await?;
        let content = content.ok_or_else(none)?;
        Notification::from_canonical(notification, &content.into()).map_err(|_| none())
    }

    /// Delivers a notification of the log to an active endpoint that receives it, whatever has
    /// become of it before.
    pub async fn deliver_again(
        &self,
        own: &OwnEndpoint,
        notification: &Notification,
    ) -> Result<()> {
        must_be_active(own)?;
        if own.endpoint().flow.paused {
            let reason = "the endpoint is paused: what it is owed then waits in the log";
            return Err(Refusal::NotWanted(reason.to_owned()));
        }
        if self.store.owes(own.id(), MOST_OWED).await? {
            let reason = format!(
                "the endpoint owes {MOST_OWED} deliveries already; ask again when it owes fewer"
            );
            return Err(Refusal::TooMuch {
                reason,
                after: OWED_AGAIN,
            });
        }
        if let Some(reason) = self.why_not(own, notification).await? {
            return Err(Refusal::NotWanted(reason));
        }
        let endpoint = own.id();
        self.store.owe_now(endpoint, notification).await?;
        tracing::info!(endpoint.id = %endpoint, redelivered = 1, by = %own.by(), "deliveries are due again, as was asked for");
        Ok(())
    }
}

fn must_be_active(own: &OwnEndpoint) -> Result<()> {
    if own.endpoint().active {
        Ok(())
    } else {
        Err(Refusal::NotActive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_named_by_its_id_or_by_a_webhook_id() {
        let (id, endpoint) = ("019aa3b1-6e58-7d0c-8f00-000000000001", Uuid::from_u128(7));
        let named: NotificationName = id.parse().expect("an id");
        assert_eq!((named.to_string(), named.endpoint), (id.to_owned(), None));
        let text = format!("msg_{}_{}", id.replace('-', ""), endpoint.as_simple());
        let of: NotificationName = text.parse().expect("a webhook-id");
        assert_eq!((of.id, of.endpoint), (named.id, Some(endpoint)));
        assert_eq!(of.to_string(), text);
    }
}

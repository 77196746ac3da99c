//! What has become of a person's pushes, for who asks why a device did not ring.

use dovecast_mail_push::{Person, SubscriptionId};

use super::time::PushNow;
use crate::error::Result;
use crate::open::Store;
use crate::row;

/// Pushes of one person that are looked at; who has more waiting sees the first ones.
const MOST_WAITING: i64 = 1000;
const MINUTE_MS: i64 = 60_000;

/// A push that waits, as far as it is told: nothing of the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingPush {
    /// Subscription that it is for.
    pub subscription: SubscriptionId,
    /// Topic of its message.
    pub topic: String,
    /// When it was written.
    pub created_ms: i64,
    /// When it is due.
    pub due_ms: i64,
    /// When it is dropped.
    pub deadline_ms: i64,
    /// Attempts that have failed.
    pub failures: u64,
    /// Whether an attempt is under way.
    pub is_claimed: bool,
}

/// Pushes of a device that its service has accepted within a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPushes {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// How many.
    pub count: u64,
    /// When the last one was.
    pub last_ms: i64,
}

/// What has become of a person's pushes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushTraces {
    /// Pushes that wait, the next one first.
    pub waiting: Vec<WaitingPush>,
    /// What was accepted, by device.
    pub accepted: Vec<AcceptedPushes>,
    /// What was accepted for the person within the last minute.
    pub within_minute: u64,
    /// Now, by this node's clock, as all times here.
    pub now_ms: i64,
}

impl Store {
    /// What has become of a person's pushes.
    pub async fn push_traces(&self, person: &Person) -> Result<PushTraces> {
        let PushNow { now_ms, ahead_ms } = self.push_now().await?;
        let waiting = sqlx::query(
            "SELECT subscription_id, topic, created_ms, due_ms, deadline_ms, failures, claimed_until_ms \
             FROM push_waiting WHERE context = $1 AND user_name = $2 ORDER BY due_ms, id LIMIT $3",
        )
        .bind(&*person.context)
        .bind(&*person.user)
        .bind(MOST_WAITING)
        .fetch_all(&self.database.pool)
        .await?;
        let waiting = waiting.iter().map(|found| {
            Ok(WaitingPush {
                subscription: row::id(found, "subscription_id")?,
                topic: row::text(found, "topic")?,
                created_ms: row::number(found, "created_ms")? - ahead_ms,
                due_ms: row::number(found, "due_ms")? - ahead_ms,
                deadline_ms: row::number(found, "deadline_ms")? - ahead_ms,
                failures: unsigned(row::number(found, "failures")?),
                is_claimed: row::number(found, "claimed_until_ms")? > now_ms,
            })
        });
        let accepted = sqlx::query(
            "SELECT subscription_id, COUNT(*) AS total, MAX(accepted_ms) AS last_ms FROM push_accepted \
             WHERE context = $1 AND user_name = $2 GROUP BY subscription_id ORDER BY subscription_id",
        )
        .bind(&*person.context)
        .bind(&*person.user)
        .fetch_all(&self.database.pool)
        .await?;
        let accepted = accepted.iter().map(|found| {
            Ok(AcceptedPushes {
                subscription: row::id(found, "subscription_id")?,
                count: unsigned(row::number(found, "total")?),
                last_ms: row::number(found, "last_ms")? - ahead_ms,
            })
        });
        let within = sqlx::query(
            "SELECT COUNT(*) AS total FROM push_accepted WHERE context = $1 AND user_name = $2 AND accepted_ms > $3",
        )
        .bind(&*person.context)
        .bind(&*person.user)
        .bind(now_ms - MINUTE_MS)
        .fetch_one(&self.database.pool)
        .await?;
        Ok(PushTraces {
            waiting: waiting.collect::<Result<_>>()?,
            accepted: accepted.collect::<Result<_>>()?,
            within_minute: unsigned(row::number(&within, "total")?),
            now_ms: now_ms - ahead_ms,
        })
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

//! Pushes that are due: claimed by one process for a moment, so that no two send the same.

use std::collections::HashMap;

use dovecast_mail_push::lanes::{LanePermit, Lanes};
use dovecast_mail_push::plan::deadline_ms;
use dovecast_mail_push::subscription::QuietHours;
use dovecast_mail_push::{
    DeviceAddress, Person, PushContent, SubscriptionId, Tag, Topic, TransportKind,
};
use serde_json::Value;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::due::Due;
use super::person;
use super::time::PushNow;
use crate::error::{Result, with_sources};
use crate::open::Store;
use crate::row;

const IS_HELD: &str =
    "SELECT 1 AS here FROM push_held WHERE until_ms > $1 AND until_ms <= $2 LIMIT 1";
/// What waits for a service that has asked for time is due when that is over: it is not looked at
/// again and again meanwhile, however much it is.
const PUT_OFF: &str = "UPDATE push_waiting SET due_ms = COALESCE((SELECT push_held.until_ms FROM push_held \
    JOIN push_subscription AS device ON device.lane = push_held.lane WHERE device.id = push_waiting.subscription_id), due_ms) \
    WHERE id IN (SELECT push.id FROM push_waiting AS push JOIN push_subscription AS device ON device.id = push.subscription_id \
    JOIN push_held ON push_held.lane = device.lane WHERE push.due_ms <= $1 AND push.claimed_until_ms <= $1 \
    AND push_held.until_ms > $1 AND push_held.until_ms <= $2 LIMIT $3)";
/// Pushes that are put off at a time.
const PUT_OFF_AT_A_TIME: i64 = 1_000;
/// The later of two times that a service has named holds; one that is not believed never does.
const HOLD: &str = "INSERT INTO push_held (lane, asked_ms, until_ms) VALUES ($1, $2, $3) \
    ON CONFLICT (lane) DO UPDATE SET asked_ms = excluded.asked_ms, until_ms = excluded.until_ms \
    WHERE push_held.until_ms < excluded.until_ms OR push_held.until_ms > $4";
const CLAIM: &str = "UPDATE push_waiting SET claimed_until_ms = $1 WHERE id = $2 AND revision = $3 \
    AND (claimed_until_ms <= $4 OR claimed_until_ms > $5)";
/// A claimed push that is still that of its subscription, and nobody else's device: the address of
/// the device, as it is sealed now.
const STILL: &str = "SELECT device.sealed FROM push_waiting AS push JOIN push_subscription AS device \
    ON device.id = push.subscription_id WHERE push.id = $1 AND push.revision = $2 \
    AND push.context = device.context AND push.user_name = device.user_name \
    AND device.context = $3 AND device.user_name = $4";
/// How long a push is claimed; longer than an attempt takes. What is claimed for longer than ten
/// times that was claimed before a clock was set back.
const CLAIM_MS: i64 = 60_000;

/// How many pushes are claimed.
#[derive(Clone, Copy, Debug)]
pub struct ClaimLimits {
    /// Most that are looked at.
    pub most: u32,
    /// Most that one person gets within a minute.
    pub per_minute: u32,
}

/// A push that is claimed, and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedPush {
    /// Names the push.
    pub(super) id: String,
    /// State of it that was claimed.
    pub(super) revision: i64,
    /// Sealed address, to see whether it is still the same.
    sealed: String,
    /// Subscription that it is for.
    pub subscription: SubscriptionId,
    /// Whose mail it is of.
    pub person: Person,
    /// Client of the subscription.
    pub client: String,
    /// Where the device is.
    pub address: DeviceAddress,
    /// Topic of the message.
    pub topic: Topic,
    /// What the device shows it as.
    pub tag: Tag,
    /// What is told.
    pub message: Value,
    /// Whether the message has a shorter form that was not tried yet.
    pub has_short: bool,
    /// Urgency that the subscription asks for.
    pub urgency: dovecast_mail_push::subscription::Urgency,
    /// Quiet hours in which the push waits for their end; `None`: it is sent at any time.
    pub quiet_hours: Option<QuietHours>,
    /// Unseen mails, where that is known.
    pub badge: Option<u32>,
    /// When it was written, by this node's clock.
    pub created_ms: i64,
    /// When it is dropped, by this node's clock.
    pub deadline_ms: i64,
    /// Attempts that have failed.
    pub failures: u32,
}

/// Whether a claimed push may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaySend {
    /// Nothing has changed since the push was claimed.
    Yes,
    /// The person has registered the device anew, or its address was sealed with another key: the
    /// push is claimed again with the address that is there now.
    Readdressed,
    /// The push was replaced or taken back, or its device is gone or another person's.
    No,
}

impl ClaimedPush {
    /// Address as it was sealed when it was claimed.
    pub(super) fn sealed(&self) -> &str {
        &self.sealed
    }
}

impl Store {
    /// Claims pushes that are due and find a place in the lanes, for a minute. Hosts and persons
    /// that have no place left are not even looked at: what waits for them hides no other. One
    /// whose device is another person's is dropped and counted in the second number; so is one
    /// whose address cannot be opened in the third.
    pub async fn claim_pushes(
        &self,
        limits: ClaimLimits,
        lanes: &Lanes,
    ) -> Result<(Vec<(ClaimedPush, LanePermit)>, u64, u64)> {
        let now = self.push_now().await?;
        let now_ms = now.now_ms;
        let set_back_ms = now_ms + 10 * CLAIM_MS;
        self.put_off_held(now_ms).await?;
        let found = self
            .due_pushes((now_ms, set_back_ms), limits, lanes)
            .await?;
        let (mut claimed, mut wrong, mut locked) = (Vec::new(), 0, 0);
        let mut taken: HashMap<Person, i64> = HashMap::new();
        for due in self.readable(&found, "push_waiting", Due::read) {
            if !due.is_its_devices {
                match self.drop_push(&due.id).await {
                    Ok(()) => wrong += 1,
                    Err(error) if claimed.is_empty() => return Err(error),
                    Err(_) => break,
                }
                continue;
            }
            // What is under way may still be accepted within this minute.
            let under_way = i64::try_from(lanes.of_person(&due.person)).unwrap_or(i64::MAX);
            let Some(permit) = lanes.take(&due.lane, &due.person) else {
                continue;
            };
            let had = due.had.saturating_add(under_way);
            let taken = taken.entry(due.person.clone()).or_insert(had);
            if *taken >= i64::from(limits.per_minute) {
                continue;
            }
            let done = sqlx::query(CLAIM)
                .bind(now_ms + CLAIM_MS)
                .bind(&due.id)
                .bind(due.revision)
                .bind(now_ms)
                .bind(set_back_ms)
                .execute(&self.database.pool)
                .await;
            match done {
                Ok(done) if done.rows_affected() == 0 => continue,
                Ok(_) => {}
                Err(error) if claimed.is_empty() => return Err(error.into()),
                // Whoever asks next is told; what is claimed until now is sent.
                Err(_) => break,
            }
            *taken += 1;
            match self.claimed(due.row, now).await {
                Ok(push) => claimed.push((push, permit)),
                Err(error) => {
                    let error = with_sources(&error);
                    tracing::error!(
                        subscription.id = due.subscription,
                        error,
                        "a push is put off: its device cannot be read"
                    );
                    locked += 1;
                }
            }
        }
        Ok((claimed, wrong, locked))
    }

    /// Claims nothing for devices of this lane for so long, on any node: their service has asked
    /// for time. A time that it has named before is not shortened, and more than the deadline of a
    /// push is not believed.
    pub async fn hold_lane(&self, lane: &str, for_ms: i64) -> Result<()> {
        let now_ms = self.push_now().await?.now_ms;
        let believed_ms = now_ms.saturating_add(deadline_ms());
        sqlx::query(HOLD)
            .bind(lane)
            .bind(now_ms)
            .bind(now_ms.saturating_add(for_ms).min(believed_ms))
            .bind(believed_ms)
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    async fn put_off_held(&self, now_ms: i64) -> Result<()> {
        let believed_ms = now_ms.saturating_add(deadline_ms());
        let held = sqlx::query(IS_HELD)
            .bind(now_ms)
            .bind(believed_ms)
            .fetch_optional(&self.database.pool)
            .await?;
        if held.is_some() {
            sqlx::query(PUT_OFF)
                .bind(now_ms)
                .bind(believed_ms)
                .bind(PUT_OFF_AT_A_TIME)
                .execute(&self.database.pool)
                .await?;
        }
        Ok(())
    }

    /// Whether a claimed push may be sent: it was not replaced or taken back, and its device is
    /// still the same person's, at the same address. Asked right before each attempt.
    pub async fn may_send(&self, push: &ClaimedPush) -> Result<MaySend> {
        let found = sqlx::query(STILL)
            .bind(&push.id)
            .bind(push.revision)
            .bind(&*push.person.context)
            .bind(&*push.person.user)
            .fetch_optional(&self.database.pool)
            .await?;
        let Some(found) = found else {
            return Ok(MaySend::No);
        };
        Ok(if row::text(&found, "sealed")? == push.sealed {
            MaySend::Yes
        } else {
            MaySend::Readdressed
        })
    }

    async fn claimed(&self, found: &AnyRow, now: PushNow) -> Result<ClaimedPush> {
        let id = row::text(found, "subscription_id")?;
        let sealed = row::text(found, "sealed")?;
        let json = |column: &str| -> Result<Value> {
            let read = serde_json::from_str(&row::text(found, column)?);
            Ok(read.map_err(|error| row::wrong(column, error))?)
        };
        let address = self.open_address(&id, &sealed).await?;
        let transport = TransportKind::from_name(&row::text(found, "transport")?);
        if transport != Some(address.kind()) {
            let other = std::io::Error::other("the address is of another transport");
            return Err(row::wrong("transport", other).into());
        }
        let topic = Topic::from_name(&row::text(found, "topic")?);
        let unknown = || row::wrong("topic", std::io::Error::other("unknown topic"));
        let wishes = dovecast_mail_push::Wishes::from_json(&json("wishes")?);
        let wishes = wishes.map_err(|error| row::wrong("wishes", error))?;
        let passes_quiet_hours = row::number(found, "passes_quiet")? > 0;
        let (mut message, short) = (json("message")?, json("short_message")?);
        let badge = row::optional_number(found, "badge")?;
        let is_closing = topic == Some(Topic::MailClose);
        if is_closing && let Some(badge) = badge {
            message["badge"] = badge.into();
        }
        if !is_closing && wishes.content == PushContent::Ids {
            // It may have been more when this was planned.
            message = short.clone();
        }
        let failures = row::number(found, "failures")?;
        Ok(ClaimedPush {
            id: row::text(found, "id")?,
            revision: row::number(found, "revision")?,
            sealed,
            subscription: row::id(found, "subscription_id")?,
            person: person(found)?,
            client: row::text(found, "client")?,
            address,
            topic: topic.ok_or_else(unknown)?,
            tag: Tag::from_text(&tag(&row::text(found, "tag")?)),
            has_short: !is_closing && message != short,
            message,
            urgency: wishes.urgency,
            quiet_hours: wishes.quiet_hours.filter(|_| !passes_quiet_hours),
            badge: badge.and_then(|badge| u32::try_from(badge).ok()),
            created_ms: row::number(found, "created_ms")? - now.ahead_ms,
            deadline_ms: row::number(found, "deadline_ms")? - now.ahead_ms,
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
        })
    }

    async fn drop_push(&self, id: &str) -> Result<()> {
        sqlx::query("DELETE FROM push_waiting WHERE id = $1")
            .bind(id)
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }
}

/// The tag of a row. What earlier versions have gathered has the id of its row, with hyphens:
/// more characters than a Topic of RFC 8030 may have.
fn tag(written: &str) -> String {
    match Uuid::try_parse(written) {
        Ok(id) => id.simple().to_string(),
        Err(_) => written.to_owned(),
    }
}

//! Pushes that wait: written by what events mean for devices, replaced, gathered, taken back.

use std::collections::BTreeSet;

use dovecast_mail_push::plan::{GATHER_AT_MOST_MS, GATHER_MS, deadline_ms};
use dovecast_mail_push::retry::SHOWN;
use dovecast_mail_push::{EventPlan, Person, PlannedPush, SubscriptionId, Tag, Topic, message};
use serde_json::Value;
use uuid::Uuid;

use super::time::PushNow;
use crate::connection::Transaction;
use crate::error::Result;
use crate::open::Store;
use crate::row;

const INSERT: &str = "INSERT INTO push_waiting (id, subscription_id, context, user_name, topic, tag, message, \
    short_message, badge, gathered_until_ms, created_ms, due_ms, deadline_ms, failures, revision, claimed_until_ms, \
    quiet_until_ms, passes_quiet) SELECT $1, id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, 0, $14, $15 \
    FROM push_subscription \
    WHERE id = $13 AND context = $2 AND user_name = $3 AND (expires_ms IS NULL OR expires_ms > $10) \
    ON CONFLICT (subscription_id, tag) DO UPDATE SET topic = excluded.topic, message = excluded.message, \
    short_message = excluded.short_message, badge = excluded.badge, created_ms = excluded.created_ms, \
    due_ms = excluded.due_ms, deadline_ms = excluded.deadline_ms, failures = 0, quiet_until_ms = excluded.quiet_until_ms, \
    passes_quiet = excluded.passes_quiet, \
    revision = push_waiting.revision + 1";
/// A push to which others may be added: nobody sends it, it was never tried, and it waits for the
/// end of the same quiet hours, or of none, as they do, and rings in quiet hours if they do.
const GATHERING: &str = "SELECT id, message, short_message, badge, gathered_until_ms FROM push_waiting \
    WHERE subscription_id = $1 AND gathered_until_ms > $2 AND claimed_until_ms = 0 AND failures = 0 \
    AND quiet_until_ms = $3 AND passes_quiet = $4 ORDER BY created_ms DESC LIMIT 1";
const ADD: &str = "UPDATE push_waiting SET message = $1, short_message = $2, badge = $3, due_ms = $4, \
    revision = revision + 1 WHERE id = $5 AND claimed_until_ms = 0";
/// What waits for the end of quiet hours is due at $1, with as much time as it would have had then.
/// $3 is now by this node's clock, of which the database is ahead by $4.
const END_QUIET: &str = "UPDATE push_waiting SET deadline_ms = deadline_ms - due_ms + $1, \
    gathered_until_ms = CASE WHEN gathered_until_ms > 0 THEN $1 ELSE 0 END, due_ms = $1, quiet_until_ms = 0 \
    WHERE subscription_id = $2 AND quiet_until_ms > $3 AND due_ms >= quiet_until_ms + $4 AND claimed_until_ms = 0";
const TAKE_BACK: &str = "DELETE FROM push_waiting WHERE context = $1 AND user_name = $2 AND tag = $3 AND topic <> $4 \
    AND claimed_until_ms = 0 RETURNING subscription_id, may_be_shown";
/// What devices show, and what is on its way to them: its service may have accepted it already.
const SHOWN_BY: &str = "SELECT subscription_id FROM push_accepted WHERE context = $1 AND user_name = $2 AND tag = $3 \
    AND accepted_ms > $5 UNION SELECT subscription_id FROM push_waiting WHERE context = $1 AND user_name = $2 AND tag = $3 \
    AND topic <> $4 AND claimed_until_ms <> 0";
/// Longest gathered push, in bytes: a push has 4 KiB, of which encryption and names take some.
const MAX_GATHERED_BYTES: usize = 2_800;

/// What was written of the plans of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushesWritten {
    /// Pushes that wait now, or were replaced by a newer state.
    pub pushes: u64,
    /// Messages that were added to pushes that wait.
    pub gathered: u64,
    /// Pushes that were dropped because their mail was read or is gone.
    pub taken_back: u64,
    /// Pushes that close what devices show.
    pub closings: u64,
}

impl Store {
    /// Writes what events mean for devices, all or nothing, in their order. What is written again
    /// after a crash replaces itself.
    pub async fn write_pushes(&self, plans: &[(Person, EventPlan)]) -> Result<PushesWritten> {
        let mut written = PushesWritten::default();
        if plans
            .iter()
            .all(|(_, plan)| plan.take_back.is_none() && plan.pushes.is_empty())
        {
            return Ok(written);
        }
        let now = self.push_now().await?;
        let mut tx = self.database.begin_writing().await?;
        for (person, plan) in plans {
            if let Some((tag, badge)) = &plan.take_back {
                let mail = TakenBack {
                    person,
                    tag,
                    badge: *badge,
                };
                let (taken_back, closings) = mail.take_back(&mut tx, now).await?;
                written.taken_back += taken_back;
                written.closings += closings;
            }
            for push in &plan.pushes {
                if push.tag.is_none() && gather(&mut tx, push, now).await? {
                    written.gathered += 1;
                } else {
                    insert(&mut tx, push, now).await?;
                    written.pushes += 1;
                }
            }
        }
        tx.commit().await?;
        Ok(written)
    }

    /// How many pushes wait.
    pub async fn waiting_pushes(&self) -> Result<u64> {
        let total = sqlx::query("SELECT COUNT(*) AS total FROM push_waiting");
        let total = total.fetch_one(&self.database.pool).await?;
        Ok(u64::try_from(row::number(&total, "total")?).unwrap_or_default())
    }
}

/// A mail that is read or gone.
struct TakenBack<'a> {
    person: &'a Person,
    tag: &'a Tag,
    badge: Option<u32>,
}

impl TakenBack<'_> {
    /// What waits goes; what is shown, or about to be, is closed: how many of each. A mail that
    /// nobody was told of costs two statements.
    async fn take_back(&self, tx: &mut Transaction, now: PushNow) -> Result<(u64, u64)> {
        let dropped = sqlx::query(TAKE_BACK)
            .bind(&*self.person.context)
            .bind(&*self.person.user)
            .bind(self.tag.as_str())
            .bind(Topic::MailClose.name())
            .fetch_all(&mut **tx)
            .await?;
        let since_ms = now.now_ms - i64::try_from(SHOWN.as_millis()).unwrap_or(i64::MAX);
        let shown = sqlx::query(SHOWN_BY)
            .bind(&*self.person.context)
            .bind(&*self.person.user)
            .bind(self.tag.as_str())
            .bind(Topic::MailClose.name())
            .bind(since_ms)
            .fetch_all(&mut **tx)
            .await?;
        // What waited may be shown where an attempt had no answer.
        let mut devices = BTreeSet::new();
        for found in &dropped {
            if row::number(found, "may_be_shown")? > 0 {
                devices.insert(row::text(found, "subscription_id")?);
            }
        }
        for found in &shown {
            devices.insert(row::text(found, "subscription_id")?);
        }
        for id in &devices {
            let id = id
                .parse()
                .map_err(|error| row::wrong("subscription_id", error))?;
            insert(tx, &self.closing(id, now), now).await?;
        }
        Ok((dropped.len() as u64, devices.len() as u64))
    }

    fn closing(&self, subscription: SubscriptionId, now: PushNow) -> PlannedPush {
        let now_ms = now.now_ms - now.ahead_ms;
        PlannedPush {
            subscription,
            person: self.person.clone(),
            topic: Topic::MailClose,
            tag: Some(self.tag.clone()),
            message: message::closing(self.tag, self.badge),
            short: message::closing(self.tag, self.badge),
            badge: self.badge,
            due_ms: now_ms,
            deadline_ms: now_ms.saturating_add(deadline_ms()),
            quiet_until_ms: None,
            // It rings nobody.
            passes_quiet_hours: true,
        }
    }
}

/// Ends the quiet hours for what waits for a device: it is due, and where the device has other
/// quiet hours now, the next attempt has it wait for those.
pub(super) async fn end_quiet(
    tx: &mut Transaction,
    subscription: &str,
    now: PushNow,
) -> Result<()> {
    sqlx::query(END_QUIET)
        .bind(now.now_ms)
        .bind(subscription)
        .bind(now.now_ms.saturating_sub(now.ahead_ms))
        .bind(now.ahead_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Writes a push, whose times are those of this node's clock.
async fn insert(tx: &mut Transaction, push: &PlannedPush, now: PushNow) -> Result<()> {
    // It is the tag of what is gathered, too: a Topic of RFC 8030 has 32 characters at most.
    let id = Uuid::now_v7().simple().to_string();
    let tag = push.tag.as_ref().map_or(&*id, Tag::as_str);
    let due_ms = push.due_ms.saturating_add(now.ahead_ms);
    // The first message that is gathered waits in the form of the list.
    let (topic, message, short, until_ms) = if push.tag.is_some() {
        (push.topic, push.message.clone(), push.short.clone(), 0)
    } else {
        let list = |one: &Value| message::changes(std::slice::from_ref(one));
        let until_ms = due_ms - GATHER_MS + GATHER_AT_MOST_MS;
        (
            Topic::MailChanges,
            list(&push.message),
            list(&push.short),
            until_ms,
        )
    };
    sqlx::query(INSERT)
        .bind(&id)
        .bind(&*push.person.context)
        .bind(&*push.person.user)
        .bind(topic.name())
        .bind(tag)
        .bind(message.to_string())
        .bind(short.to_string())
        .bind(push.badge.map(i64::from))
        .bind(until_ms)
        .bind(now.now_ms)
        .bind(due_ms)
        .bind(push.deadline_ms.saturating_add(now.ahead_ms))
        .bind(push.subscription.to_string())
        .bind(quiet_until_ms(push))
        .bind(i64::from(push.passes_quiet_hours))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The end of quiet hours is a time of the day, and so the same whatever a node's clock shows: it
/// is compared, and not moved into the time of the database.
fn quiet_until_ms(push: &PlannedPush) -> i64 {
    push.quiet_until_ms.unwrap_or_default()
}

/// Adds a message to a push that waits for more; `false`: there is none with room.
async fn gather(tx: &mut Transaction, push: &PlannedPush, now: PushNow) -> Result<bool> {
    let found = sqlx::query(GATHERING)
        .bind(push.subscription.to_string())
        .bind(now.now_ms)
        .bind(quiet_until_ms(push))
        .bind(i64::from(push.passes_quiet_hours))
        .fetch_optional(&mut **tx)
        .await?;
    let Some(found) = found else {
        return Ok(false);
    };
    let with = |column: &str, message: &Value| -> Result<Option<String>> {
        let mut list: Value = serde_json::from_str(&row::text(&found, column)?)
            .map_err(|error| row::wrong("message", error))?;
        let Some(changes) = list["changes"].as_array_mut() else {
            return Ok(None);
        };
        // What was written before a crash is written again.
        if changes.last() != Some(message) {
            changes.push(message.clone());
        }
        let text = list.to_string();
        Ok((text.len() <= MAX_GATHERED_BYTES).then_some(text))
    };
    let (Some(message), Some(short)) = (
        with("message", &push.message)?,
        with("short_message", &push.short)?,
    ) else {
        return Ok(false);
    };
    let until_ms = row::number(&found, "gathered_until_ms")?;
    let badge = row::optional_number(&found, "badge")?;
    let added = sqlx::query(ADD)
        .bind(message)
        .bind(short)
        .bind(push.badge.map(i64::from).or(badge))
        .bind(push.due_ms.saturating_add(now.ahead_ms).min(until_ms))
        .bind(row::text(&found, "id")?)
        .execute(&mut **tx)
        .await?;
    Ok(added.rows_affected() > 0)
}

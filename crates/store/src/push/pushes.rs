//! Pushes that wait: written by what events mean for devices, replaced, gathered, taken back.

use std::collections::{BTreeSet, HashMap, HashSet};

use dovecast_mail_push::plan::deadline_ms;
use dovecast_mail_push::retry::SHOWN;
use dovecast_mail_push::{EventPlan, Person, PlannedPush, SubscriptionId, Tag, Topic, message};
use serde_json::Value;
use uuid::Uuid;

use super::gathering::Gathering;
use super::time::PushNow;
use crate::connection::Transaction;
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::{ROWS, Statement};

/// A mail that came is read from the log again after a crash, or where another node goes on: where
/// $16 is 1 it is not written for a device that was told of it, or to which it is on its way.
const INSERT: &str = "INSERT INTO push_waiting (id, subscription_id, context, user_name, topic, tag, message, \
    short_message, badge, gathered_until_ms, created_ms, due_ms, deadline_ms, failures, revision, claimed_until_ms, \
    quiet_until_ms, passes_quiet) SELECT $1, id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, 0, $14, $15 \
    FROM push_subscription \
    WHERE id = $13 AND context = $2 AND user_name = $3 AND (expires_ms IS NULL OR expires_ms > $10) \
    AND ($16 = 0 OR NOT EXISTS (SELECT 1 FROM push_accepted AS told WHERE told.subscription_id = $13 AND told.tag = $5)) \
    ON CONFLICT (subscription_id, tag) DO UPDATE SET topic = excluded.topic, message = excluded.message, \
    short_message = excluded.short_message, badge = excluded.badge, created_ms = excluded.created_ms, \
    due_ms = excluded.due_ms, deadline_ms = excluded.deadline_ms, failures = 0, quiet_until_ms = excluded.quiet_until_ms, \
    passes_quiet = excluded.passes_quiet, \
    revision = push_waiting.revision + 1 \
    WHERE $16 = 0 OR (push_waiting.topic = excluded.topic AND push_waiting.claimed_until_ms = 0)";
/// PostgreSQL asks of what was told before it waits for whoever ends the push of the same mail: it
/// is asked once more after that.
const TOLD_MEANWHILE: &str = "DELETE FROM push_waiting WHERE EXISTS (SELECT 1 FROM push_accepted AS told \
    WHERE told.subscription_id = push_waiting.subscription_id AND told.tag = push_waiting.tag) AND id IN (";
/// What waits for the end of quiet hours is due at $1, with as much time as it would have had then.
/// $3 is now by this node's clock, of which the database is ahead by $4.
const END_QUIET: &str = "UPDATE push_waiting SET deadline_ms = deadline_ms - due_ms + $1, \
    gathered_until_ms = CASE WHEN gathered_until_ms > 0 THEN $1 ELSE 0 END, due_ms = $1, quiet_until_ms = 0 \
    WHERE subscription_id = $2 AND quiet_until_ms > $3 AND due_ms >= quiet_until_ms + $4 AND claimed_until_ms = 0";
/// Most pushes that wait for one device.
const MAX_WAITING: i64 = 500;
const DROP_BEYOND: &str = "DELETE FROM push_waiting WHERE subscription_id = $1 AND claimed_until_ms = 0 AND id IN \
    (SELECT id FROM push_waiting WHERE subscription_id = $1 \
    ORDER BY CASE WHEN topic = 'mail:changes' THEN 1 ELSE 0 END, created_ms DESC, id DESC LIMIT 1000000 OFFSET $2)";
/// What waits shows how many mails are unseen when it is claimed, not when it was written. The
/// short form names the mailbox in one of two ways.
const BADGE: &str = "UPDATE push_waiting SET badge = $1 WHERE context = $2 AND user_name = $3 AND badge <> $1 \
    AND (REPLACE(short_message, $4, '') <> short_message OR REPLACE(short_message, $5, '') <> short_message)";
const TAKE_BACK: &str = "DELETE FROM push_waiting WHERE context = $1 AND user_name = $2 AND tag = $3 AND topic <> $4 \
    AND claimed_until_ms = 0 RETURNING subscription_id, may_be_shown";
/// What devices show, and what is on its way to them: its service may have accepted it already.
const SHOWN_BY: &str = "SELECT subscription_id FROM push_accepted WHERE context = $1 AND user_name = $2 AND tag = $3 \
    AND accepted_ms > $5 UNION SELECT subscription_id FROM push_waiting WHERE context = $1 AND user_name = $2 AND tag = $3 \
    AND topic <> $4 AND claimed_until_ms <> 0";
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
    /// Pushes that were dropped because too many waited for their device, the oldest.
    pub crowded: u64,
}

impl Store {
    /// Writes what events mean for devices, all or nothing, in their order. What is written again
    /// after a crash replaces itself, or was told.
    pub async fn write_pushes(&self, plans: &[(Person, EventPlan)]) -> Result<PushesWritten> {
        let mut written = PushesWritten::default();
        let says_nothing = |plan: &EventPlan| {
            plan.take_back.is_none() && plan.pushes.is_empty() && plan.unseen.is_none()
        };
        if plans.iter().all(|(_, plan)| says_nothing(plan)) {
            return Ok(written);
        }
        let now = self.push_now().await?;
        let mut tx = self.database.begin_writing().await?;
        let mut told = told_tags(&mut tx, plans).await?;
        let mut gathering = Gathering::default();
        let mut devices = BTreeSet::new();
        let mut mails = Vec::new();
        for (person, plan) in plans {
            if let Some((tag, badge)) = &plan.take_back
                && told.contains(&(person, tag))
            {
                let mail = TakenBack {
                    person,
                    tag,
                    mailbox: plan.unseen.as_ref().map(|(mailbox, _)| &**mailbox),
                    badge: *badge,
                };
                let (taken_back, closed) = mail.take_back(&mut tx, now).await?;
                written.taken_back += taken_back;
                written.closings += closed.len() as u64;
                devices.extend(closed);
            }
            for push in &plan.pushes {
                let Some(tag) = &push.tag else {
                    gathering.add(push);
                    continue;
                };
                told.insert((&push.person, tag));
                if let Some(id) = insert(&mut tx, push, now).await? {
                    written.pushes += 1;
                    devices.insert(push.subscription);
                    // A file has one writer.
                    if push.is_of_one_mail && self.database.is_postgres {
                        mails.push(id);
                    }
                }
            }
        }
        written.pushes -= drop_told_meanwhile(&mut tx, mails).await?;
        for gathered in gathering.all() {
            let (added, new) = gathered.write(&mut tx, now).await?;
            written.gathered += added;
            written.pushes += new;
            if new > 0 {
                devices.insert(gathered.subscription());
            }
        }
        update_badges(&mut tx, plans).await?;
        for device in devices {
            written.crowded += drop_beyond(&mut tx, device).await?;
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
    /// Where the unseen mails are counted.
    mailbox: Option<&'a str>,
    badge: Option<u32>,
}

impl TakenBack<'_> {
    /// What waits goes, so many; what is shown, or about to be, is closed, on these devices.
    async fn take_back(
        &self,
        tx: &mut Transaction,
        now: PushNow,
    ) -> Result<(u64, Vec<SubscriptionId>)> {
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
        let mut closed = Vec::new();
        for id in &devices {
            let id = id
                .parse()
                .map_err(|error| row::wrong("subscription_id", error))?;
            insert(tx, &self.closing(id, now), now).await?;
            closed.push(id);
        }
        Ok((dropped.len() as u64, closed))
    }

    fn closing(&self, subscription: SubscriptionId, now: PushNow) -> PlannedPush {
        let now_ms = now.now_ms - now.ahead_ms;
        let message = message::closing(self.tag, self.badge);
        // Nobody is told the mailbox: the badge is found by it.
        let mut short = message.clone();
        if let Some(mailbox) = self.mailbox {
            short["mailbox"] = mailbox.into();
        }
        PlannedPush {
            subscription,
            person: self.person.clone(),
            topic: Topic::MailClose,
            tag: Some(self.tag.clone()),
            is_of_one_mail: false,
            message,
            short,
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

/// Writes a push of a mail, whose times are those of this node's clock, with this id, unless one
/// waits already; `None`: its device is gone, or was told of the mail.
async fn insert(tx: &mut Transaction, push: &PlannedPush, now: PushNow) -> Result<Option<String>> {
    let id = Uuid::now_v7().simple().to_string();
    let tag = push.tag.as_ref().map_or(&*id, Tag::as_str);
    let form = Form {
        id: &id,
        tag,
        topic: push.topic,
        message: push.message.to_string(),
        short: push.short.to_string(),
        gathered_until_ms: 0,
    };
    let is_written = insert_as(tx, push, form, now).await?;
    Ok(is_written.then_some(id))
}

/// Drops what was written of mails that were told while it was; how many.
async fn drop_told_meanwhile(tx: &mut Transaction, ids: Vec<String>) -> Result<u64> {
    let mut dropped = 0;
    for ids in ids.chunks(ROWS) {
        let mut statement = Statement::new(TOLD_MEANWHILE);
        statement.bind_list(ids.iter().cloned(), ", ").push(")");
        dropped += statement.execute(&mut *tx).await?;
    }
    Ok(dropped)
}

/// How a push is written.
pub(super) struct Form<'a> {
    pub(super) id: &'a str,
    pub(super) tag: &'a str,
    pub(super) topic: Topic,
    pub(super) message: String,
    pub(super) short: String,
    /// Until when others are added; 0: none is.
    pub(super) gathered_until_ms: i64,
}

/// Writes a push in a form, with the device, the times and the badge of this one; whether it is
/// written.
pub(super) async fn insert_as(
    tx: &mut Transaction,
    push: &PlannedPush,
    form: Form<'_>,
    now: PushNow,
) -> Result<bool> {
    let done = sqlx::query(INSERT)
        .bind(form.id)
        .bind(&*push.person.context)
        .bind(&*push.person.user)
        .bind(form.topic.name())
        .bind(form.tag)
        .bind(form.message)
        .bind(form.short)
        .bind(push.badge.map(i64::from))
        .bind(form.gathered_until_ms)
        .bind(now.now_ms)
        .bind(push.due_ms.saturating_add(now.ahead_ms))
        .bind(push.deadline_ms.saturating_add(now.ahead_ms))
        .bind(push.subscription.to_string())
        .bind(quiet_until_ms(push))
        .bind(i64::from(push.passes_quiet_hours))
        .bind(i64::from(push.is_of_one_mail))
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Has what waits of a mailbox show how many mails are unseen in it by the last event.
async fn update_badges(tx: &mut Transaction, plans: &[(Person, EventPlan)]) -> Result<()> {
    let mut last: HashMap<(&Person, &str), u32> = HashMap::new();
    for (person, plan) in plans {
        if let Some((mailbox, unseen)) = &plan.unseen {
            last.insert((person, mailbox), *unseen);
        }
    }
    for ((person, mailbox), unseen) in last {
        let folder = message::ox_folder(mailbox);
        sqlx::query(BADGE)
            .bind(i64::from(unseen))
            .bind(&*person.context)
            .bind(&*person.user)
            .bind(format!("\"mailbox\":{}", Value::from(mailbox)))
            .bind(format!("\"folder\":{}", Value::from(folder)))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Drops the oldest of what waits for a device beyond what may; how many.
async fn drop_beyond(tx: &mut Transaction, device: SubscriptionId) -> Result<u64> {
    let dropped = sqlx::query(DROP_BEYOND)
        .bind(device.to_string())
        .bind(MAX_WAITING)
        .execute(&mut **tx)
        .await?;
    Ok(dropped.rows_affected())
}

/// The mails among those that are taken back of which anything waits or is shown, in a statement
/// for each person: very many are read at once of which nobody was told.
async fn told_tags<'a>(
    tx: &mut Transaction,
    plans: &'a [(Person, EventPlan)],
) -> Result<HashSet<(&'a Person, &'a Tag)>> {
    let mut asked: HashMap<&Person, HashMap<&str, &Tag>> = HashMap::new();
    for (person, plan) in plans {
        if let Some((tag, _)) = &plan.take_back {
            asked.entry(person).or_default().insert(tag.as_str(), tag);
        }
    }
    let mut told = HashSet::new();
    for (person, tags) in asked {
        let mut statement = Statement::new("SELECT tag FROM push_waiting WHERE context = ");
        for part in ["", " UNION SELECT tag FROM push_accepted WHERE context = "] {
            statement.push(part);
            statement.bind(person.context.to_string());
            statement.push(" AND user_name = ");
            statement
                .bind(person.user.to_string())
                .push(" AND tag IN (");
            let tags = tags.keys().map(|tag| (*tag).to_owned());
            statement.bind_list(tags, ", ").push(")");
        }
        for found in statement.fetch_all(&mut *tx).await? {
            if let Some(tag) = tags.get(&*row::text(&found, "tag")?) {
                told.insert((person, *tag));
            }
        }
    }
    Ok(told)
}

/// The end of quiet hours is a time of the day, and so the same whatever a node's clock shows: it
/// is compared, and not moved into the time of the database.
pub(super) fn quiet_until_ms(push: &PlannedPush) -> i64 {
    push.quiet_until_ms.unwrap_or_default()
}

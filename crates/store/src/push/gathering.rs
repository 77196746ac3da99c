//! Messages other than of new mail, which a device gets several at a time: added to what waits for
//! more, or written as the first of what will.
//!
//! The messages of one write are put together before they are written: a person who marks a
//! thousand mails makes a thousand of them.

use std::collections::BTreeMap;

use dovecast_mail_push::plan::{GATHER_AT_MOST_MS, GATHER_MS};
use dovecast_mail_push::{PlannedPush, SubscriptionId, Topic, message};
use serde_json::Value;
use uuid::Uuid;

use super::pushes::{Form, insert_as, quiet_until_ms};
use super::time::PushNow;
use crate::connection::Transaction;
use crate::error::Result;
use crate::row;

/// A push to which others may be added: nobody sends it, it was never tried, and it waits for the
/// end of the same quiet hours, or of none, as they do, and rings in quiet hours if they do.
const GATHERING: &str = "SELECT id, message, short_message, badge, gathered_until_ms FROM push_waiting \
    WHERE subscription_id = $1 AND gathered_until_ms > $2 AND claimed_until_ms = 0 AND failures = 0 \
    AND quiet_until_ms = $3 AND passes_quiet = $4 ORDER BY created_ms DESC, id DESC LIMIT 1";
const ADD: &str = "UPDATE push_waiting SET message = $1, short_message = $2, badge = $3, due_ms = $4, \
    revision = revision + 1 WHERE id = $5 AND claimed_until_ms = 0";
/// Longest gathered push, in bytes: a push has 4 KiB, of which encryption and names take some.
const MAX_BYTES: usize = 2_800;

/// Messages of a write, by the device, the end of the quiet hours they wait for, and whether they
/// ring in those.
#[derive(Default)]
pub(super) struct Gathering<'a>(BTreeMap<(SubscriptionId, i64, bool), Gathered<'a>>);

/// Messages for one device, in their order; at least one.
pub(super) struct Gathered<'a>(Vec<&'a PlannedPush>);

/// A list of messages that grows as long as it fits into a push.
struct List {
    messages: Vec<Value>,
    bytes: usize,
}

impl List {
    fn new(messages: Vec<Value>) -> Self {
        let bytes = message::changes(&messages).to_string().len();
        Self { messages, bytes }
    }

    /// Whether a message has room behind the others; alone each one has.
    fn has_room(&self, message: &Value) -> bool {
        self.messages.is_empty() || self.bytes_with(message) <= MAX_BYTES
    }

    fn bytes_with(&self, message: &Value) -> usize {
        self.bytes + 1 + message.to_string().len()
    }

    fn push(&mut self, message: &Value) {
        self.bytes = self.bytes_with(message);
        self.messages.push(message.clone());
    }

    fn text(&self) -> String {
        message::changes(&self.messages).to_string()
    }
}

/// What a device is told, and the same with ids alone.
struct Lists {
    full: List,
    short: List,
}

impl Lists {
    fn new() -> Self {
        Self {
            full: List::new(Vec::new()),
            short: List::new(Vec::new()),
        }
    }

    /// `None`: what waits is no list.
    fn of(message: &str, short: &str) -> Result<Option<Self>> {
        let read = |text: &str| -> Result<Option<List>> {
            let mut list: Value =
                serde_json::from_str(text).map_err(|error| row::wrong("message", error))?;
            let messages = list["changes"].as_array_mut().map(std::mem::take);
            Ok(messages.map(List::new))
        };
        let lists = read(message)?.zip(read(short)?);
        Ok(lists.map(|(full, short)| Self { full, short }))
    }

    /// Takes as many as fit; the others.
    fn take<'p, 'a>(&mut self, pushes: &'p [&'a PlannedPush]) -> &'p [&'a PlannedPush] {
        for (place, push) in pushes.iter().enumerate() {
            if !self.full.has_room(&push.message) || !self.short.has_room(&push.short) {
                return &pushes[place..];
            }
            self.full.push(&push.message);
            self.short.push(&push.short);
        }
        &[]
    }

    /// Whether it ends with these: what was written before a crash is written again.
    fn ends_with(&self, pushes: &[&PlannedPush]) -> bool {
        let before = self.full.messages.len().checked_sub(pushes.len());
        before.is_some_and(|before| {
            let last = self.full.messages[before..].iter();
            last.eq(pushes.iter().map(|push| &push.message))
        })
    }
}

impl<'a> Gathering<'a> {
    pub(super) fn add(&mut self, push: &'a PlannedPush) {
        let key = (
            push.subscription,
            quiet_until_ms(push),
            push.passes_quiet_hours,
        );
        let of_device = self.0.entry(key).or_insert_with(|| Gathered(Vec::new()));
        of_device.0.push(push);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Gathered<'a>> {
        self.0.values()
    }
}

impl Gathered<'_> {
    pub(super) fn subscription(&self) -> SubscriptionId {
        self.0[0].subscription
    }

    /// Writes all of them: how many were added to a push that waits, and how many pushes are new.
    pub(super) async fn write(&self, tx: &mut Transaction, now: PushNow) -> Result<(u64, u64)> {
        let mut left = self.add_to_waiting(tx, now).await?;
        let mut new = 0;
        while let Some(first) = left.first() {
            let mut lists = Lists::new();
            let rest = lists.take(left);
            let taken = &left[..left.len() - rest.len()];
            let until_ms = first.due_ms - GATHER_MS + GATHER_AT_MOST_MS;
            let last = taken.last().unwrap_or(first);
            let whole = PlannedPush {
                badge: taken.iter().rev().find_map(|push| push.badge),
                due_ms: last.due_ms.min(until_ms),
                ..(*last).clone()
            };
            // The tag of what is gathered, too: a Topic of RFC 8030 has 32 characters at most.
            let id = Uuid::now_v7().simple().to_string();
            let form = Form {
                id: &id,
                tag: &id,
                topic: Topic::MailChanges,
                message: lists.full.text(),
                short: lists.short.text(),
                gathered_until_ms: until_ms.saturating_add(now.ahead_ms),
            };
            insert_as(tx, &whole, form, now).await?;
            new += 1;
            left = rest;
        }
        let messages = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        Ok((messages - new, new))
    }

    /// Adds as many as have room to what waits for more; the others.
    async fn add_to_waiting(&self, tx: &mut Transaction, now: PushNow) -> Result<&[&PlannedPush]> {
        let pushes = &self.0[..];
        let Some(first) = pushes.first() else {
            return Ok(pushes);
        };
        let found = sqlx::query(GATHERING)
            .bind(first.subscription.to_string())
            .bind(now.now_ms)
            .bind(quiet_until_ms(first))
            .bind(i64::from(first.passes_quiet_hours))
            .fetch_optional(&mut **tx)
            .await?;
        let Some(found) = found else {
            return Ok(pushes);
        };
        let message = row::text(&found, "message")?;
        let lists = Lists::of(&message, &row::text(&found, "short_message")?)?;
        let Some(mut lists) = lists else {
            return Ok(pushes);
        };
        if lists.ends_with(pushes) {
            return Ok(&[]);
        }
        let left = lists.take(pushes);
        let Some(last) = pushes[..pushes.len() - left.len()].last() else {
            return Ok(pushes);
        };
        let until_ms = row::number(&found, "gathered_until_ms")?;
        let badge = row::optional_number(&found, "badge")?;
        let added = sqlx::query(ADD)
            .bind(lists.full.text())
            .bind(lists.short.text())
            .bind(last.badge.map(i64::from).or(badge))
            .bind(last.due_ms.saturating_add(now.ahead_ms).min(until_ms))
            .bind(row::text(&found, "id")?)
            .execute(&mut **tx)
            .await?;
        Ok(if added.rows_affected() > 0 {
            left
        } else {
            pushes
        })
    }
}

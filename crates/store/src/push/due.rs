//! Which pushes are due, and what decides whether one of them is claimed.

use dovecast_mail_push::Person;
use dovecast_mail_push::lanes::{Lanes, PersonLane};
use dovecast_mail_push::plan::deadline_ms;
use sqlx::any::AnyRow;

use super::person;
use super::sending::ClaimLimits;
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// What a push's person has had within the last minute; that began at `$1`.
macro_rules! had {
    () => {
        "(SELECT COUNT(*) FROM push_accepted WHERE push_accepted.context = push.context \
        AND push_accepted.user_name = push.user_name AND push_accepted.accepted_ms > $1)"
    };
}

/// When a push has its turn: one that closes or tells of changes lets what rings go before it for
/// a minute.
macro_rules! turn {
    ($push:literal) => {
        concat!(
            "(",
            $push,
            ".due_ms + CASE WHEN ",
            $push,
            ".topic IN ('mail:close', 'mail:changes') THEN 60000 ELSE 0 END)"
        )
    };
}

/// Whom it is for is asked of both: what waits, and the subscription. What waits for one device
/// goes one after the other: only its first push that is due, and none while another is under way.
const DUE: &str = concat!(
    "SELECT push.id, push.subscription_id, push.context, push.user_name, device.login, device.client, \
    device.transport, device.sealed, push.passes_quiet, push.topic, push.tag, push.message, push.short_message, push.badge, push.created_ms, \
    push.deadline_ms, push.failures, push.revision, device.context AS device_context, device.user_name AS device_user, \
    device.wishes, device.lane, ",
    had!(),
    " AS had FROM push_waiting AS push JOIN push_subscription AS device ON device.id = push.subscription_id \
    WHERE push.due_ms <= $2 AND push.deadline_ms > $2 AND (device.expires_ms IS NULL OR device.expires_ms > $2) \
    AND (push.claimed_until_ms <= $2 OR push.claimed_until_ms > $3) AND ",
    had!(),
    " < $4 AND NOT EXISTS (SELECT 1 FROM push_waiting AS other WHERE other.subscription_id = push.subscription_id \
    AND other.id <> push.id AND ((other.claimed_until_ms > $2 AND other.claimed_until_ms <= $3) \
    OR (other.due_ms <= $2 AND other.deadline_ms > $2 AND (",
    turn!("other"),
    " < ",
    turn!("push"),
    " OR (",
    turn!("other"),
    " = ",
    turn!("push"),
    " AND other.id < push.id))))) \
    AND NOT EXISTS (SELECT 1 FROM push_held WHERE push_held.lane = device.lane AND push_held.until_ms > $2 \
    AND push_held.until_ms <= $5)",
);
const MINUTE_MS: i64 = 60_000;

/// A row of a push that is due, as far as it decides whether the push is claimed.
pub(super) struct Due<'a> {
    pub(super) row: &'a AnyRow,
    pub(super) id: String,
    pub(super) revision: i64,
    pub(super) subscription: String,
    pub(super) person: Person,
    /// Whether the device is still the person's.
    pub(super) is_its_devices: bool,
    pub(super) lane: String,
    /// What the person has had within the last minute.
    pub(super) had: i64,
}

impl<'a> Due<'a> {
    pub(super) fn read(row: &'a AnyRow) -> Result<Self> {
        let person = person(row)?;
        let of_device = [
            row::text(row, "device_context")?,
            row::text(row, "device_user")?,
        ];
        Ok(Self {
            row,
            id: row::text(row, "id")?,
            revision: row::number(row, "revision")?,
            subscription: row::text(row, "subscription_id")?,
            is_its_devices: of_device == [&*person.context, &*person.user],
            person,
            lane: row::text(row, "lane")?,
            had: row::number(row, "had")?,
        })
    }
}

impl Store {
    /// Rows of pushes that may be claimed, the most urgent first.
    pub(super) async fn due_pushes(
        &self,
        (now_ms, set_back_ms): (i64, i64),
        limits: ClaimLimits,
        lanes: &Lanes,
    ) -> Result<Vec<AnyRow>> {
        let mut statement = Statement::of_numbered(
            DUE,
            &[
                now_ms - MINUTE_MS,
                now_ms,
                set_back_ms,
                i64::from(limits.per_minute),
                now_ms.saturating_add(deadline_ms()),
            ],
        );
        let hosts = lanes.full_hosts();
        if !hosts.is_empty() {
            statement.push(" AND device.lane NOT IN (");
            statement.bind_list(hosts, ", ").push(")");
        }
        for PersonLane {
            person,
            under_way,
            is_full,
        } in lanes.persons()
        {
            statement.push(" AND NOT (push.context = ");
            statement.bind(person.context.to_string());
            statement.push(" AND push.user_name = ");
            statement.bind(person.user.to_string());
            if !is_full {
                // What is under way may still be accepted within this minute.
                let under_way = i64::try_from(under_way).unwrap_or(i64::MAX);
                statement.push(" AND ").push(had!()).push(" >= ");
                statement.bind(i64::from(limits.per_minute).saturating_sub(under_way));
            }
            statement.push(")");
        }
        statement.push(" ORDER BY push.due_ms, push.id LIMIT ");
        statement.bind(i64::from(limits.most));
        let mut connection = self.database.pool.acquire().await?;
        statement.fetch_all(&mut connection).await
    }
}

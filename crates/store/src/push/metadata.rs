//! Persons whose METADATA entry may be set at their mail server, so that it is taken away in the
//! end, also when a process or the mail server was away then.
//!
//! A row is written before the entry is set, and deleted when it was taken away, each by whoever
//! has the lease of the person's listener. The password that this takes stays as long as the row.

use dovecast_mail_push::Person;
use dovecast_mail_push::placement::Lease;

use super::person;
use super::sweeping::Sweep;
use crate::error::Result;
use crate::open::Store;

/// How long an entry is tried to be taken away of a person who has left, and their password kept
/// for it: longer than a mail server is down.
const GIVEN_UP_AFTER_MS: i64 = 7 * 24 * 3_600_000;

/// A node with an older lease overwrites nothing.
const PUT: &str = "INSERT INTO push_metadata (context, user_name, login, fence, left_ms) VALUES ($1, $2, $3, $4, 0) \
    ON CONFLICT (context, user_name) DO UPDATE SET login = excluded.login, fence = excluded.fence, left_ms = 0 \
    WHERE push_metadata.fence <= excluded.fence";
/// Takes the row away, unless a node with a newer lease has written it.
const TAKEN_AWAY: &str =
    "DELETE FROM push_metadata WHERE context = $1 AND user_name = $2 AND fence <= $3";
/// A condition on the rows: the person has a subscription or a session that has not expired by
/// `$1`.
macro_rules! is_there {
    () => {
        "(EXISTS (SELECT 1 FROM push_subscription AS s WHERE s.context = push_metadata.context \
         AND s.user_name = push_metadata.user_name AND (s.expires_ms IS NULL OR s.expires_ms > $1)) \
         OR EXISTS (SELECT 1 FROM push_session AS s WHERE s.context = push_metadata.context \
         AND s.user_name = push_metadata.user_name AND s.expires_ms > $1))"
    };
}
/// Notes that a person has left, at `$1`, who has neither a subscription nor a session any more.
pub(super) const LEFT: Sweep = Sweep {
    table: "push_metadata",
    act: "UPDATE push_metadata SET left_ms = $1",
    condition: concat!("left_ms = 0 AND NOT ", is_there!()),
};
/// Notes that a person is back who had left.
pub(super) const COME_BACK: Sweep = Sweep {
    table: "push_metadata",
    act: "UPDATE push_metadata SET left_ms = 0",
    condition: concat!("left_ms > 0 AND ", is_there!()),
};
/// Takes away rows of persons who have left at `$1` or before: their entry was tried for long.
pub(super) const GIVE_UP: Sweep = Sweep {
    table: "push_metadata",
    act: "DELETE FROM push_metadata",
    condition: "left_ms > 0 AND left_ms <= $1",
};

impl Store {
    /// Notes that a person's entry is going to be set; `false`: somebody with a newer lease has.
    pub async fn put_metadata(&self, lease: &Lease) -> Result<bool> {
        let done = sqlx::query(PUT)
            .bind(&*lease.person.context)
            .bind(&*lease.person.user)
            .bind(&*lease.person.login)
            .bind(lease.fence)
            .execute(&self.database.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Persons whose entries may be set.
    pub async fn persons_with_metadata(&self) -> Result<Vec<Person>> {
        let rows = sqlx::query(
            "SELECT context, user_name, login FROM push_metadata ORDER BY context, user_name",
        )
        .fetch_all(&self.database.pool)
        .await?;
        Ok(self.readable(&rows, "push_metadata", person))
    }

    /// Notes that a person's entry was taken away; one that was set with a newer lease stays.
    pub async fn forget_metadata(&self, lease: &Lease) -> Result<()> {
        sqlx::query(TAKEN_AWAY)
            .bind(&*lease.person.context)
            .bind(&*lease.person.user)
            .bind(lease.fence)
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    /// Gives up entries that could not be taken away of persons who have left a week ago; how many
    /// there were.
    pub async fn give_up_metadata(&self) -> Result<u64> {
        let now_ms = self.expiry_now_ms().await?;
        for sweep in [COME_BACK, LEFT] {
            self.sweep_persons(&sweep, &[now_ms]).await?;
        }
        let given_up_ms = now_ms.saturating_sub(GIVEN_UP_AFTER_MS);
        self.sweep_persons(&GIVE_UP, &[given_up_ms]).await
    }
}

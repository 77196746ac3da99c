//! What is known of mailboxes that are heard without events, so that a restart misses nothing.
//!
//! It is written by whoever has the lease of the person's listener, and by nobody else.

use dovecast_mail_push::Person;
use dovecast_mail_push::placement::Lease;

use super::credentials::SPARED_MS;
use super::sweeping::{Sweep, has_nothing};
use super::time::EXPIRED_KEPT_MS;
use crate::error::Result;
use crate::open::Store;
use crate::row;

/// A node with an older lease overwrites nothing.
const PUT: &str = "INSERT INTO push_heard (context, user_name, snapshot, fence) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (context, user_name) DO UPDATE SET snapshot = excluded.snapshot, fence = excluded.fence \
    WHERE push_heard.fence <= excluded.fence";
/// Forgets what was heard for persons who have neither a session nor a subscription; those that
/// have expired after `$1` count as being there.
pub(super) const FORGET_HEARD: Sweep = Sweep {
    table: "push_heard",
    act: "DELETE FROM push_heard",
    condition: has_nothing!("push_heard"),
};
/// Forgets passwords of such persons. One stays as long as METADATA is to be taken away with it,
/// and one that was stored after `$2` stays in any case.
pub(super) const FORGET_CREDENTIALS: Sweep = Sweep {
    table: "push_credential",
    act: "DELETE FROM push_credential",
    condition: concat!(
        "changed_ms <= $2 AND ",
        has_nothing!("push_credential"),
        " AND NOT EXISTS (SELECT 1 FROM push_metadata AS m WHERE m.context = push_credential.context \
         AND m.user_name = push_credential.user_name)"
    ),
};

impl Store {
    /// What is known of a person's mailbox, as it was put.
    pub async fn heard(&self, person: &Person) -> Result<Option<String>> {
        let found =
            sqlx::query("SELECT snapshot FROM push_heard WHERE context = $1 AND user_name = $2")
                .bind(&*person.context)
                .bind(&*person.user)
                .fetch_optional(&self.database.pool)
                .await?;
        found.map(|found| row::text(&found, "snapshot")).transpose()
    }

    /// Keeps what is known of a person's mailbox; `false`: somebody with a newer lease has.
    pub async fn put_heard(&self, lease: &Lease, snapshot: &str) -> Result<bool> {
        let done = sqlx::query(PUT)
            .bind(&*lease.person.context)
            .bind(&*lease.person.user)
            .bind(snapshot)
            .bind(lease.fence)
            .execute(&self.database.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets what is known of a person's mailbox: whoever hears it again begins anew. What was
    /// put with a newer lease stays.
    pub async fn forget_heard(&self, lease: &Lease) -> Result<()> {
        sqlx::query("DELETE FROM push_heard WHERE context = $1 AND user_name = $2 AND fence <= $3")
            .bind(&*lease.person.context)
            .bind(&*lease.person.user)
            .bind(lease.fence)
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    /// Forgets what is known of the mailboxes, and the credentials, of persons who have neither a
    /// subscription nor a session any more, however those went; how many rows there were. What has
    /// expired keeps them for a day, as itself. Credentials that were stored within the last minute
    /// are left to the next time.
    pub async fn forget_unheard(&self) -> Result<u64> {
        let now_ms = self.expiry_now_ms().await?;
        let kept_ms = now_ms.saturating_sub(EXPIRED_KEPT_MS);
        let spared_ms = now_ms.saturating_sub(SPARED_MS);
        let heard = self.sweep_persons(&FORGET_HEARD, &[kept_ms]).await?;
        let numbers = [kept_ms, spared_ms];
        let credentials = self.sweep_persons(&FORGET_CREDENTIALS, &numbers).await?;
        Ok(heard + credentials)
    }
}

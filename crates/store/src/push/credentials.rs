//! Logins and passwords with which mailboxes are listened to, both sealed.
//!
//! What cannot be sealed is not stored. What the mail server has refused is given to nobody until
//! another one is stored.

use std::fmt;

use dovecast_mail_push::Person;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroize;

use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::secrets::{Field, Passcrypt};

const PUT: &str = "INSERT INTO push_credential (id, context, user_name, sealed, changed_ms) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (context, user_name) DO UPDATE SET sealed = excluded.sealed, id = excluded.id, \
    changed_ms = excluded.changed_ms, refused_ms = NULL";
const KNOWN: &str = "SELECT id, context, user_name FROM push_credential WHERE refused_ms IS NULL";
const REFUSE: &str = "UPDATE push_credential SET refused_ms = $1 \
    WHERE context = $2 AND user_name = $3 AND id = $4";
const FIND: &str = "SELECT id, sealed FROM push_credential WHERE context = $1 AND user_name = $2 AND refused_ms IS NULL";
/// What was stored a short time ago is not forgotten: its session, which is there before it, may be
/// younger than what a statement sees that forgets.
pub(super) const SPARED_MS: i64 = 60_000;
/// Looks at all in one statement, so that what is made meanwhile keeps them.
const FORGET: &str = "DELETE FROM push_credential WHERE context = $1 AND user_name = $2 AND changed_ms <= $4 \
    AND NOT EXISTS (SELECT 1 FROM push_subscription AS s WHERE s.context = push_credential.context \
    AND s.user_name = push_credential.user_name AND (s.expires_ms IS NULL OR s.expires_ms > $3)) \
    AND NOT EXISTS (SELECT 1 FROM push_session AS s \
    WHERE s.context = push_credential.context AND s.user_name = push_credential.user_name AND s.expires_ms > $3) \
    AND NOT EXISTS (SELECT 1 FROM push_metadata AS m WHERE m.context = push_credential.context \
    AND m.user_name = push_credential.user_name)";

/// With what a mailbox is opened. [`fmt::Debug`] shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxCredentials {
    /// Name at the mail server.
    pub login: String,
    /// The password.
    pub password: String,
}

/// Credentials that are stored and were not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCredentials {
    /// Context of the person.
    pub context: String,
    /// User of the person.
    pub user: String,
    /// Name of these: other ones of the same person have another.
    pub name: String,
}

/// Place of sealed credentials.
pub(crate) fn field(id: &str) -> Field<'_> {
    Field {
        table: "push_credential",
        row: id,
        name: "sealed",
    }
}

impl Store {
    /// Stores what a mailbox is opened with, in place of what was there; the name they have.
    pub async fn keep_credentials(
        &self,
        person: &Person,
        credentials: &MailboxCredentials,
        passcrypt: &Passcrypt,
    ) -> Result<String> {
        let inner = passcrypt.seal(person, credentials)?;
        let id = Uuid::now_v7().to_string();
        let now_ms = self.expiry_now_ms().await?;
        let mut change = self.change().await?;
        let sealed = change.seal(field(&id), inner.as_bytes()).await?;
        sqlx::query(PUT)
            .bind(&id)
            .bind(&*person.context)
            .bind(&*person.user)
            .bind(sealed)
            .bind(now_ms)
            .execute(&mut *change.tx)
            .await?;
        change.commit().await?;
        Ok(id)
    }

    /// What a mailbox is opened with; `None`: nothing is stored, or the mail server has refused it.
    pub async fn credentials(
        &self,
        person: &Person,
        passcrypt: &Passcrypt,
    ) -> Result<Option<MailboxCredentials>> {
        let found = sqlx::query(FIND).bind(&*person.context).bind(&*person.user);
        let Some(found) = found.fetch_optional(&self.database.pool).await? else {
            return Ok(None);
        };
        let (id, sealed) = (row::text(&found, "id")?, row::text(&found, "sealed")?);
        if self.keys.ring().lacks_key_of(&sealed) {
            self.keys.refresh().await?;
        }
        let inner = self.keys.ring().open(field(&id), &sealed)?;
        let inner = std::str::from_utf8(&inner).unwrap_or_default();
        Ok(Some(passcrypt.open(person, inner)?))
    }

    /// Whether credentials of a person are stored that were not refused.
    pub async fn has_credentials(&self, person: &Person) -> Result<bool> {
        let found = sqlx::query(FIND).bind(&*person.context).bind(&*person.user);
        Ok(found.fetch_optional(&self.database.pool).await?.is_some())
    }

    /// All credentials that were not refused, by the persons whose they are.
    pub async fn known_credentials(&self) -> Result<Vec<KnownCredentials>> {
        let rows = sqlx::query(KNOWN).fetch_all(&self.database.pool).await?;
        let known = rows.iter().map(|found| {
            Ok(KnownCredentials {
                context: row::text(found, "context")?,
                user: row::text(found, "user_name")?,
                name: row::text(found, "id")?,
            })
        });
        known.collect()
    }

    /// Notes that the mail server has refused those of this name: they are tried no more. Others
    /// that were stored meanwhile stay.
    pub async fn refuse_credentials(&self, person: &Person, name: &str) -> Result<()> {
        sqlx::query(REFUSE)
            .bind(self.clock.now_ms())
            .bind(&*person.context)
            .bind(&*person.user)
            .bind(name)
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    /// Forgets those of a person who has neither a subscription nor a session any more, nor
    /// METADATA that is to be taken away; `false`: there were none, they are needed still, or they
    /// were stored within the last minute, and are left to [`Store::forget_unheard`].
    pub async fn forget_unneeded_credentials(&self, person: &Person) -> Result<bool> {
        let now_ms = self.expiry_now_ms().await?;
        let done = sqlx::query(FORGET)
            .bind(&*person.context)
            .bind(&*person.user)
            .bind(now_ms)
            .bind(now_ms.saturating_sub(SPARED_MS))
            .execute(&self.database.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

impl Drop for MailboxCredentials {
    fn drop(&mut self) {
        self.login.zeroize();
        self.password.zeroize();
    }
}

impl fmt::Debug for MailboxCredentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MailboxCredentials(...)")
    }
}

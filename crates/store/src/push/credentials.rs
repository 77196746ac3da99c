//! Logins and passwords with which mailboxes are listened to, both sealed.
//!
//! What cannot be sealed is not stored. What the mail server has refused is given to nobody until
//! another one is stored.

use std::fmt;

use dovecast_mail_push::Person;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::secrets::Field;

const PUT: &str = "INSERT INTO push_credential (id, context, user_name, sealed, changed_ms) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (context, user_name) DO UPDATE SET sealed = excluded.sealed, id = excluded.id, \
    changed_ms = excluded.changed_ms, refused_ms = NULL";
const FIND: &str = "SELECT id, sealed FROM push_credential WHERE context = $1 AND user_name = $2 AND refused_ms IS NULL";

/// With what a mailbox is opened. [`fmt::Debug`] shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxCredentials {
    /// Name at the mail server.
    pub login: String,
    /// The password.
    pub password: String,
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
    /// Stores what a mailbox is opened with, in place of what was there.
    pub async fn keep_credentials(
        &self,
        person: &Person,
        credentials: &MailboxCredentials,
    ) -> Result<()> {
        let json = serde_json::to_vec(credentials).map_err(|error| row::wrong("sealed", error))?;
        let json = Zeroizing::new(json);
        let id = Uuid::now_v7().to_string();
        let mut change = self.change().await?;
        let sealed = change.seal(field(&id), &json).await?;
        sqlx::query(PUT)
            .bind(&id)
            .bind(&*person.context)
            .bind(&*person.user)
            .bind(sealed)
            .bind(self.clock.now_ms())
            .execute(&mut *change.tx)
            .await?;
        change.commit().await
    }

    /// What a mailbox is opened with; `None`: nothing is stored, or the mail server has refused it.
    pub async fn credentials(&self, person: &Person) -> Result<Option<MailboxCredentials>> {
        let found = sqlx::query(FIND).bind(&*person.context).bind(&*person.user);
        let Some(found) = found.fetch_optional(&self.database.pool).await? else {
            return Ok(None);
        };
        let (id, sealed) = (row::text(&found, "id")?, row::text(&found, "sealed")?);
        if self.keys.ring().lacks_key_of(&sealed) {
            self.keys.refresh().await?;
        }
        let json = self.keys.ring().open(field(&id), &sealed)?;
        let wrong = || {
            row::wrong(
                "sealed",
                std::io::Error::other("credentials cannot be read"),
            )
        };
        let read = serde_json::from_slice(&json).map_err(|_| wrong());
        Ok(Some(read?))
    }

    /// Notes that the mail server has refused them: they are tried no more.
    pub async fn refuse_credentials(&self, person: &Person) -> Result<()> {
        sqlx::query(
            "UPDATE push_credential SET refused_ms = $1 WHERE context = $2 AND user_name = $3",
        )
        .bind(self.clock.now_ms())
        .bind(&*person.context)
        .bind(&*person.user)
        .execute(&self.database.pool)
        .await?;
        Ok(())
    }

    /// Forgets them: the person has no subscription any more that needs them.
    pub async fn forget_credentials(&self, person: &Person) -> Result<()> {
        sqlx::query("DELETE FROM push_credential WHERE context = $1 AND user_name = $2")
            .bind(&*person.context)
            .bind(&*person.user)
            .execute(&self.database.pool)
            .await?;
        Ok(())
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

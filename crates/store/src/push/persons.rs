//! All persons of whom mail push knows, on whichever node.

use dovecast_mail_push::Person;

use super::person;
use crate::error::Result;
use crate::open::Store;

/// Each person by each login that a session or a subscription has.
const ALL: &str = "SELECT context, user_name, login FROM push_session WHERE expires_ms > $1 \
    UNION SELECT context, user_name, login FROM push_subscription WHERE expires_ms IS NULL OR expires_ms > $1";

impl Store {
    /// Persons who have a session or a subscription, once for each of their logins.
    pub async fn push_persons(&self) -> Result<Vec<Person>> {
        let rows = sqlx::query(ALL)
            .bind(self.expiry_now_ms().await?)
            .fetch_all(&self.database.pool)
            .await?;
        Ok(self.readable(&rows, "push_session", person))
    }
}

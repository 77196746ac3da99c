//! Clients of persons that have subscriptions, and whether those are for new mail.
//!
//! Whoever decides which mailboxes are heard asks each few seconds, so that is a column with an
//! index of its own; wishes are read once, when a subscription is written.

use dovecast_mail_push::{Person, Topics};
use sqlx::any::AnyRow;

use super::person;
use crate::error::Result;
use crate::open::Store;
use crate::row;

/// Subscriptions that are looked at in one round; there are some only after an upgrade.
const LOOKED_AT_ONCE: i64 = 1000;

const NOT_LOOKED_AT: &str =
    "SELECT id, wishes FROM push_subscription WHERE new_mail < 0 ORDER BY id LIMIT $1";
const LOOKED_AT: &str =
    "UPDATE push_subscription SET new_mail = $1 WHERE id = $2 AND wishes = $3 AND new_mail < 0";
const NEW_MAIL: &str = "SELECT context, user_name, client, MIN(login) AS login, 1 AS new_mail FROM push_subscription \
    WHERE new_mail > 0 AND (expires_ms IS NULL OR expires_ms > $1) \
    GROUP BY context, user_name, client ORDER BY context, user_name, client";
const ALL: &str = "SELECT context, user_name, client, MIN(login) AS login, MAX(new_mail) AS new_mail \
    FROM push_subscription WHERE expires_ms IS NULL OR expires_ms > $1 \
    GROUP BY context, user_name, client ORDER BY context, user_name, client";

/// A client of a person that has a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushClient {
    /// Whose.
    pub person: Person,
    /// The client.
    pub client: String,
    /// Whether one of its subscriptions is for new mail.
    pub has_new_mail: bool,
}

/// What of a subscription's wishes says whether it is for new mail.
#[derive(serde::Deserialize)]
struct TopicsOnly<'a> {
    #[serde(borrow)]
    topics: Vec<std::borrow::Cow<'a, str>>,
}

impl Store {
    /// All clients that have subscriptions, each once.
    pub async fn push_clients(&self) -> Result<Vec<PushClient>> {
        self.clients(ALL).await
    }

    /// Clients that have subscriptions for new mail, each once.
    pub async fn new_mail_clients(&self) -> Result<Vec<PushClient>> {
        self.clients(NEW_MAIL).await
    }

    async fn clients(&self, statement: &'static str) -> Result<Vec<PushClient>> {
        self.look_at_wishes().await?;
        let rows = sqlx::query(statement)
            .bind(self.expiry_now_ms().await?)
            .fetch_all(&self.database.pool)
            .await?;
        Ok(self.readable(&rows, "push_subscription", client))
    }

    /// Looks at the wishes of subscriptions that an older version has written. Wishes that cannot
    /// be read are for nothing.
    async fn look_at_wishes(&self) -> Result<()> {
        loop {
            let rows = sqlx::query(NOT_LOOKED_AT)
                .bind(LOOKED_AT_ONCE)
                .fetch_all(&self.database.pool)
                .await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut tx = self.database.begin_writing().await?;
            for found in &rows {
                let wishes = row::text(found, "wishes")?;
                let new_mail = match has_new_mail(&wishes) {
                    Ok(has_new_mail) => i64::from(has_new_mail),
                    Err(error) => {
                        self.note_unreadable("push_subscription", &error.into());
                        0
                    }
                };
                sqlx::query(LOOKED_AT)
                    .bind(new_mail)
                    .bind(row::text(found, "id")?)
                    .bind(wishes)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
        }
    }
}

fn client(found: &AnyRow) -> Result<PushClient> {
    Ok(PushClient {
        person: person(found)?,
        client: row::text(found, "client")?,
        has_new_mail: row::number(found, "new_mail")? > 0,
    })
}

fn has_new_mail(wishes: &str) -> Result<bool, sqlx::Error> {
    let only: TopicsOnly<'_> =
        serde_json::from_str(wishes).map_err(|error| row::wrong("wishes", error))?;
    let topics = Topics::parse(only.topics.iter().map(|one| &**one));
    Ok(topics.is_ok_and(|topics| topics.have_new_mail()))
}

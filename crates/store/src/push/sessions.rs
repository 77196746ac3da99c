//! Sessions of persons: a login that was checked, for a while. Only hashes are kept.

use dovecast_mail_push::Person;

use super::person;
use super::time::EXPIRED_KEPT_MS;
use crate::error::Result;
use crate::open::Store;
use crate::registry::secrets;
use crate::row;

const INSERT: &str = "INSERT INTO push_session (token_hash, context, user_name, login, created_ms, expires_ms) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const FIND: &str =
    "SELECT context, user_name, login, expires_ms FROM push_session WHERE token_hash = $1";

/// A session at the one moment at which its token is known.
#[derive(Clone)]
pub struct NewSession {
    /// The token.
    pub secret: String,
    /// When it is good no more.
    pub expires_ms: i64,
}

/// What is known of a session's token that somebody shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownSession {
    /// Who has it.
    Good(Person),
    /// A session whose time is over.
    Expired,
    /// There is none.
    Unknown,
}

impl Store {
    /// Begins a session.
    pub async fn create_session(&self, person: &Person, lives_ms: i64) -> Result<NewSession> {
        let secret = secrets::session()?;
        let now_ms = self.expiry_now_ms().await?;
        let expires_ms = now_ms.saturating_add(lives_ms);
        sqlx::query(INSERT)
            .bind(secrets::hash(&secret))
            .bind(&*person.context)
            .bind(&*person.user)
            .bind(&*person.login)
            .bind(now_ms)
            .bind(expires_ms)
            .execute(&self.database.pool)
            .await?;
        Ok(NewSession { secret, expires_ms })
    }

    /// Who has a session.
    pub async fn session(&self, secret: &str) -> Result<ShownSession> {
        let found = sqlx::query(FIND).bind(secrets::hash(secret));
        let found = found.fetch_optional(&self.database.pool).await?;
        let Some(found) = found else {
            return Ok(ShownSession::Unknown);
        };
        if row::number(&found, "expires_ms")? <= self.expiry_now_ms().await? {
            return Ok(ShownSession::Expired);
        }
        Ok(ShownSession::Good(person(&found)?))
    }

    /// Ends a session; `false`: there is none.
    pub async fn delete_session(&self, secret: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM push_session WHERE token_hash = $1")
            .bind(secrets::hash(secret))
            .execute(&self.database.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Persons who have a session, each once, without those that cannot be read.
    pub async fn persons_with_sessions(&self) -> Result<Vec<Person>> {
        let rows = sqlx::query(
            "SELECT context, user_name, MIN(login) AS login FROM push_session WHERE expires_ms > $1 \
             GROUP BY context, user_name ORDER BY context, user_name",
        )
        .bind(self.expiry_now_ms().await?)
        .fetch_all(&self.database.pool)
        .await?;
        Ok(self.readable(&rows, "push_session", person))
    }

    /// Removes sessions whose time was over a day ago; how many there were.
    pub async fn drop_expired_sessions(&self) -> Result<u64> {
        let now_ms = self.expiry_now_ms().await?;
        let done = sqlx::query("DELETE FROM push_session WHERE expires_ms <= $1")
            .bind(now_ms.saturating_sub(EXPIRED_KEPT_MS))
            .execute(&self.database.pool)
            .await?;
        Ok(done.rows_affected())
    }
}

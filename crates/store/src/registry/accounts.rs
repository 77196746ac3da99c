//! Accounts and users, made when they are first seen.

use dovecast_log::now_ms;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{AccountId, EndpointId, UserId};
use crate::error::{Result, StoreError};
use crate::id::Id;
use crate::open::Store;
use crate::row;

/// Whose endpoints they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Id of the account here; applications name it by its number.
    pub id: AccountId,
    /// What others call it; notifications name it.
    pub number: String,
}

/// A user, as the proxy in front tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Unique within the account.
    pub username: String,
    /// Address.
    pub email: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Language.
    pub locale: Option<String>,
    /// The organisation.
    pub org_id: Option<String>,
    /// Whether the user may log in.
    pub is_active: bool,
    /// Whether the user administers the organisation.
    pub is_org_admin: bool,
    /// Whether the user is an employee of the operator.
    pub is_internal: bool,
}

impl Store {
    /// The account of a number; it is made if it is not there, and refused if it is closed.
    pub async fn account_seen(&self, number: &str) -> Result<Account> {
        if let Some(account) = self.open_account(number).await? {
            return Ok(account);
        }
        // Another request may have been faster; then its row stays.
        sqlx::query(
            "INSERT INTO account (id, number, created_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(AccountId::new().to_string())
        .bind(number)
        .bind(now_ms())
        .execute(&self.database.pool)
        .await?;
        let account = self.open_account(number).await?;
        Ok(account.ok_or(sqlx::Error::RowNotFound)?)
    }

    async fn open_account(&self, number: &str) -> Result<Option<Account>> {
        let found = sqlx::query("SELECT id, number, closed_ms FROM account WHERE number = $1")
            .bind(number)
            .fetch_optional(&self.database.pool)
            .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        if row::optional_number(&row, "closed_ms")?.is_some() {
            return Err(StoreError::AccountClosed);
        }
        Ok(Some(from_row(&row)?))
    }

    /// The account of a number, closed or not; `None`: there is none.
    pub async fn account(&self, number: &str) -> Result<Option<Account>> {
        let found = sqlx::query("SELECT id, number FROM account WHERE number = $1")
            .bind(number)
            .fetch_optional(&self.database.pool)
            .await?;
        found.map(|row| from_row(&row)).transpose()
    }

    /// The account of an endpoint; `None`: there is no such endpoint.
    pub async fn account_of_endpoint(&self, endpoint: EndpointId) -> Result<Option<Account>> {
        let found = sqlx::query(
            "SELECT account.id, number FROM account JOIN endpoint ON endpoint.account_id = account.id \
             WHERE endpoint.id = $1",
        )
        .bind(endpoint.to_string())
        .fetch_optional(&self.database.pool)
        .await?;
        found.map(|row| from_row(&row)).transpose()
    }

    /// The user of this name in an account; `None`: there is none.
    pub async fn user(&self, account: AccountId, username: &str) -> Result<Option<UserId>> {
        let found =
            sqlx::query("SELECT id FROM account_user WHERE account_id = $1 AND username = $2")
                .bind(account.to_string())
                .bind(username)
                .fetch_optional(&self.database.pool)
                .await?;
        found.map(|row| row::id(&row, "id")).transpose()
    }

    /// The user of an account; made if not there. What is known about one that is there stays.
    pub async fn user_seen(&self, account: AccountId, profile: &Profile) -> Result<UserId> {
        for _ in 0..2 {
            if let Some(user) = self.user(account, &profile.username).await? {
                return Ok(user);
            }
            self.insert_user(account, profile).await?;
        }
        Err(sqlx::Error::RowNotFound.into())
    }

    async fn insert_user(&self, account: AccountId, profile: &Profile) -> Result<()> {
        sqlx::query(
            "INSERT INTO account_user (id, account_id, username, email, first_name, last_name, locale, org_id, \
             is_active, is_org_admin, is_internal, created_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
        )
        .bind(Id::<Profile>::new().to_string())
        .bind(account.to_string())
        .bind(&profile.username)
        .bind(&profile.email)
        .bind(&profile.first_name)
        .bind(&profile.last_name)
        .bind(&profile.locale)
        .bind(&profile.org_id)
        .bind(i64::from(profile.is_active))
        .bind(i64::from(profile.is_org_admin))
        .bind(i64::from(profile.is_internal))
        .bind(now_ms())
        .execute(&self.database.pool)
        .await?;
        Ok(())
    }
}

fn from_row(row: &AnyRow) -> Result<Account> {
    Ok(Account {
        id: row::id(row, "id")?,
        number: row.try_get("number")?,
    })
}

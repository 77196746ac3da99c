//! Accounts as the operator sees them: listed, closed, opened again.
//!
//! A closed account stays as a row: its number is not taken anew, and nobody acts for it. One
//! transaction closes it, takes its tokens and ends all delivery to its endpoints. What belongs to
//! it goes behind that in steps, each a short transaction; what was interrupted is finished by
//! [`Store::finish_closings`], or by who closes the account again.

use dovecast_log::now_ms;
use sqlx::any::AnyRow;

use super::listing::Page;
use super::{AccountId, EndpointId};
use crate::connection::Connection;
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;
use dovecast_notification::filter::EVERY_ACCOUNT;

/// Endpoints of one transaction: others wait for each.
const ENDPOINTS_AT_A_TIME: i64 = 100;
/// Interrupted closings that are looked for at a time.
const CLOSINGS_AT_A_TIME: i64 = 100;

const SELECT: &str = "SELECT id, number, created_ms, closed_ms, \
    (SELECT COUNT(*) FROM endpoint WHERE endpoint.account_id = account.id) AS endpoints, \
    (SELECT COUNT(*) FROM api_token WHERE api_token.account_id = account.id) AS tokens, \
    (SELECT COUNT(*) FROM account_user WHERE account_user.account_id = account.id) AS users \
    FROM account";
const USERS: &str = "DELETE FROM account_user WHERE id IN \
    (SELECT id FROM account_user WHERE account_id = $1 LIMIT $2)";
/// What persons of mail push have whose context is the account ($1: its number).
const OF_PERSONS: [&str; 4] = [
    "DELETE FROM push_session WHERE token_hash IN \
        (SELECT token_hash FROM push_session WHERE context = $1 LIMIT $2)",
    "DELETE FROM push_subscription WHERE id IN \
        (SELECT id FROM push_subscription WHERE context = $1 LIMIT $2)",
    "DELETE FROM push_credential WHERE id IN \
        (SELECT id FROM push_credential WHERE context = $1 LIMIT $2)",
    // Whoever takes METADATA away needs the lease; it is swept after that.
    "DELETE FROM push_lease WHERE context = $1 AND user_name IN \
        (SELECT user_name FROM push_lease WHERE context = $1 AND NOT EXISTS (SELECT 1 FROM push_metadata AS m \
        WHERE m.context = push_lease.context AND m.user_name = push_lease.user_name) LIMIT $2)",
];

/// Accounts that are closed and still have something, behind an id.
const HALF_CLOSED: &str = "SELECT id, number FROM account WHERE closed_ms IS NOT NULL AND id > $1 \
    AND (EXISTS (SELECT 1 FROM endpoint WHERE endpoint.account_id = account.id) \
    OR EXISTS (SELECT 1 FROM account_user WHERE account_user.account_id = account.id) \
    OR EXISTS (SELECT 1 FROM push_session WHERE context = account.number) \
    OR EXISTS (SELECT 1 FROM push_subscription WHERE context = account.number) \
    OR EXISTS (SELECT 1 FROM push_credential WHERE context = account.number)) \
    ORDER BY id LIMIT $2";

/// An account, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Id of the account here.
    pub id: AccountId,
    /// What others call it.
    pub number: String,
    /// When it was first seen.
    pub created_ms: i64,
    /// When it was closed, if it is.
    pub closed_ms: Option<i64>,
    /// How many endpoints it has.
    pub endpoints: i64,
    /// How many tokens it has.
    pub tokens: i64,
    /// How many users of it are known.
    pub users: i64,
}

/// What went with an account that was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedAccount {
    /// Endpoints of the account, with their filters.
    pub endpoints: u64,
    /// Tokens of the account.
    pub tokens: u64,
}

const CLOSED: &str = "SELECT 1 AS closed FROM account WHERE id = $1 AND closed_ms IS NOT NULL";
const CLOSED_NUMBER: &str =
    "SELECT 1 AS closed FROM account WHERE number = $1 AND closed_ms IS NOT NULL";

impl Store {
    /// Some of all accounts, in the order in which they were first seen.
    pub async fn accounts(&self, limit: i64, offset: i64) -> Result<Page<AccountRecord>> {
        let mut tx = self.database.begin_reading().await?;
        let total = sqlx::query("SELECT COUNT(*) AS total FROM account WHERE number <> $1")
            .bind(EVERY_ACCOUNT)
            .fetch_one(&mut *tx)
            .await?;
        let mut statement = Statement::new(SELECT);
        statement
            .push(" WHERE number <> ")
            .bind(EVERY_ACCOUNT.to_owned());
        statement.push(" ORDER BY id LIMIT ").bind(limit);
        statement.push(" OFFSET ").bind(offset);
        let rows = statement.fetch_all(&mut tx).await?;
        tx.commit().await?;
        let items: Result<Vec<_>> = rows.iter().map(from_row).collect();
        Ok(Page {
            items: items?,
            total: row::number(&total, "total")?,
        })
    }

    /// An account as it is listed; `None`: there is none of this number.
    pub async fn account_record(&self, number: &str) -> Result<Option<AccountRecord>> {
        let mut connection = self.database.pool.acquire().await?;
        let mut statement = Statement::new(SELECT);
        statement.push(" WHERE number = ").bind(number.to_owned());
        let rows = statement.fetch_all(&mut connection).await?;
        rows.first().map(from_row).transpose()
    }

    /// Closes an account: nobody acts for it from now on, and its tokens, its endpoints with their
    /// filters, what they owe, their past, its users, and what persons of mail push have whose
    /// context it is, go. `None`: there is none.
    pub async fn close_account(&self, number: &str) -> Result<Option<ClosedAccount>> {
        let Some((account, tokens)) = self.mark_closed(number).await? else {
            return Ok(None);
        };
        let endpoints = self.empty_closed(account, number).await?;
        Ok(Some(ClosedAccount { endpoints, tokens }))
    }

    /// Finishes closings that were interrupted, by the end of a process for example; how many
    /// accounts that were.
    pub async fn finish_closings(&self) -> Result<u64> {
        let mut finished = 0;
        let mut after = String::new();
        loop {
            let rows = sqlx::query(HALF_CLOSED)
                .bind(after.clone())
                .bind(CLOSINGS_AT_A_TIME)
                .fetch_all(&self.database.pool)
                .await?;
            let Some(last) = rows.last() else {
                return Ok(finished);
            };
            after = row::text(last, "id")?;
            for found in &rows {
                let number = row::text(found, "number")?;
                self.empty_closed(row::id(found, "id")?, &number).await?;
                finished += 1;
            }
        }
    }

    /// Takes from a closed account what it has; how many endpoints that were.
    async fn empty_closed(&self, account: AccountId, number: &str) -> Result<u64> {
        let mut endpoints = 0;
        loop {
            // What there is of each endpoint goes, and the endpoint last: as long as it is there,
            // who comes after an interruption finds it.
            let ids = self.some_endpoints(account).await?;
            // Somebody may have opened it again: what is made since stays.
            if ids.is_empty() || !self.is_closed_now(account).await? {
                break;
            }
            for id in &ids {
                self.delete_rows_of(*id).await?;
            }
            // What is noted of them from now on is swept later.
            endpoints += self.delete_endpoints(&ids).await?;
        }
        if self.is_closed_now(account).await? {
            self.delete_in_steps(USERS, account.to_string()).await?;
            for statement in OF_PERSONS {
                self.delete_in_steps(statement, number.to_owned()).await?;
            }
        }
        Ok(endpoints)
    }

    /// Whether an account of this number was closed.
    pub async fn is_closed(&self, number: &str) -> Result<bool> {
        let found = sqlx::query(CLOSED_NUMBER)
            .bind(number)
            .fetch_optional(&self.database.pool)
            .await?;
        Ok(found.is_some())
    }

    async fn is_closed_now(&self, account: AccountId) -> Result<bool> {
        let mut connection = self.database.pool.acquire().await?;
        is_closed(&mut connection, account).await
    }

    /// Opens an account that was closed, without what it had; `false`: there is none.
    pub async fn reopen_account(&self, number: &str) -> Result<bool> {
        let done = sqlx::query("UPDATE account SET closed_ms = NULL WHERE number = $1")
            .bind(number)
            .execute(&self.database.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Marks an account as closed, deletes its tokens, and has nothing delivered to its endpoints.
    async fn mark_closed(&self, number: &str) -> Result<Option<(AccountId, u64)>> {
        let mut change = self.change().await?;
        let found = sqlx::query(
            "UPDATE account SET closed_ms = COALESCE(closed_ms, $1) WHERE number = $2 RETURNING id",
        )
        .bind(now_ms())
        .bind(number)
        .fetch_optional(&mut *change.tx)
        .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let account: AccountId = row::id(&found, "id")?;
        // Those of its persons of mail push, too.
        let tokens = sqlx::query("DELETE FROM api_token WHERE account_id = $1 OR context = $2")
            .bind(account.to_string())
            .bind(number)
            .execute(&mut *change.tx)
            .await?;
        let endpoints = sqlx::query(
            "SELECT id FROM endpoint WHERE account_id = $1 AND active <> 0 ORDER BY id",
        )
        .bind(account.to_string())
        .fetch_all(&mut *change.tx)
        .await?;
        let ids = endpoints.iter().map(|found| row::id(found, "id"));
        let ids: Vec<EndpointId> = ids.collect::<Result<_>>()?;
        // One after the other in the order of their ids, as all who lock several do.
        for id in &ids {
            sqlx::query("UPDATE endpoint SET active = 0 WHERE id = $1")
                .bind(id.to_string())
                .execute(&mut *change.tx)
                .await?;
        }
        change.touch_all(&ids).await?;
        let committed = change.commit().await;
        // Even where it is not known whether they are gone.
        self.token_owners.forget();
        committed?;
        Ok(Some((account, tokens.rows_affected())))
    }

    /// The first endpoints of an account.
    async fn some_endpoints(&self, account: AccountId) -> Result<Vec<EndpointId>> {
        let rows =
            sqlx::query("SELECT id FROM endpoint WHERE account_id = $1 ORDER BY id LIMIT $2")
                .bind(account.to_string())
                .bind(ENDPOINTS_AT_A_TIME)
                .fetch_all(&self.database.pool)
                .await?;
        rows.iter().map(|row| row::id(row, "id")).collect()
    }

    /// Deletes endpoints, with their filters.
    async fn delete_endpoints(&self, ids: &[EndpointId]) -> Result<u64> {
        let mut change = self.change().await?;
        let mut deleted = 0;
        for id in ids {
            let done = sqlx::query("DELETE FROM endpoint WHERE id = $1")
                .bind(id.to_string())
                .execute(&mut *change.tx)
                .await?;
            deleted += done.rows_affected();
            change.gone(*id).await?;
        }
        change.commit().await?;
        Ok(deleted)
    }
}

/// Fails if an account is closed: what is made for it now would outlive it.
pub(super) async fn must_be_open(change: &mut Change<'_>, account: AccountId) -> Result<()> {
    if is_closed(&mut change.tx, account).await? {
        return Err(StoreError::AccountClosed);
    }
    Ok(())
}

async fn is_closed(connection: &mut Connection, account: AccountId) -> Result<bool> {
    let found = sqlx::query(CLOSED)
        .bind(account.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

fn from_row(row: &AnyRow) -> Result<AccountRecord> {
    Ok(AccountRecord {
        id: row::id(row, "id")?,
        number: row::text(row, "number")?,
        created_ms: row::number(row, "created_ms")?,
        closed_ms: row::optional_number(row, "closed_ms")?,
        endpoints: row::number(row, "endpoints")?,
        tokens: row::number(row, "tokens")?,
        users: row::number(row, "users")?,
    })
}

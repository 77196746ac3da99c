//! Deleting whole accounts and applications, which only dovecast itself does, with what it has made
//! for a while.

use super::{ApplicationId, EndpointId, TokenId, lost, owners};
use crate::error::Result;
use crate::feed::Change;
use crate::open::Store;
use crate::row;

/// What hangs on an endpoint, and the endpoint.
const OF_ENDPOINT: [&str; 5] = [
    "DELETE FROM attempts WHERE endpoint_id = $1",
    "DELETE FROM dead_letter WHERE endpoint_id = $1",
    "DELETE FROM owed WHERE endpoint_id = $1",
    "DELETE FROM owed_range WHERE endpoint_id = $1",
    "DELETE FROM endpoint WHERE id = $1",
];
/// What hangs on an account, and the account.
const OF_ACCOUNT: [&str; 5] = [
    "DELETE FROM dead_letter WHERE account_id = $1",
    "DELETE FROM dead_body WHERE account_id = $1 AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE body_id = dead_body.id)",
    "DELETE FROM account_user WHERE account_id = $1",
    "DELETE FROM api_token WHERE account_id = $1",
    "DELETE FROM account WHERE id = $1",
];

impl Store {
    /// Deletes an account with its endpoints, what they owe, their past, its users and its tokens;
    /// `false`: there is none.
    pub async fn delete_account(&self, number: &str) -> Result<bool> {
        let mut change = self.change().await?;
        let found = sqlx::query("SELECT id FROM account WHERE number = $1")
            .bind(number)
            .fetch_optional(&mut *change.tx)
            .await?;
        let Some(found) = found else {
            return Ok(false);
        };
        let account = row::text(&found, "id")?;
        let endpoints = "SELECT id FROM endpoint WHERE account_id = $1";
        for id in endpoint_ids(&mut change, endpoints, &account).await? {
            change.gone(id).await?;
            for statement in OF_ENDPOINT {
                let query = sqlx::query(statement).bind(id.to_string());
                query.execute(&mut *change.tx).await?;
            }
        }
        for statement in OF_ACCOUNT {
            let query = sqlx::query(statement).bind(&account);
            query.execute(&mut *change.tx).await?;
        }
        let committed = change.commit().await;
        self.token_owners.forget();
        committed?;
        Ok(true)
    }

    /// Deletes an application with its event types and levels; `false`: there is none. Filters that
    /// name it lose it, and never widen by that.
    pub async fn delete_application(&self, id: ApplicationId) -> Result<bool> {
        self.delete_application_by(None, id).await
    }

    /// As [`Store::delete_application`], with a token of the scope `registration`: one that is the
    /// token's.
    pub async fn delete_application_with(&self, token: TokenId, id: ApplicationId) -> Result<bool> {
        self.delete_application_by(Some(token), id).await
    }

    async fn delete_application_by(
        &self,
        token: Option<TokenId>,
        id: ApplicationId,
    ) -> Result<bool> {
        let mut change = self.change().await?;
        if let Some(token) = token {
            owners::must_own(&mut change, token, id).await?;
        }
        let naming = "SELECT endpoint_id AS id FROM filter WHERE id IN \
             (SELECT filter_id FROM filter_application WHERE member_id = $1 \
             UNION SELECT filter_id FROM filter_event_type JOIN event_type ON event_type.id = member_id \
             WHERE application_id = $1 \
             UNION SELECT filter_id FROM filter_level JOIN level ON level.id = member_id \
             JOIN event_type ON event_type.id = event_type_id WHERE application_id = $1)";
        let endpoints = endpoint_ids(&mut change, naming, &id.to_string()).await?;
        change.touch_all(&endpoints).await?;
        lost::application_goes(&mut change, id).await?;
        let done = sqlx::query("DELETE FROM application WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *change.tx)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        change.commit().await?;
        Ok(true)
    }
}

async fn endpoint_ids(
    change: &mut Change<'_>,
    statement: &'static str,
    of: &str,
) -> Result<Vec<EndpointId>> {
    let rows = sqlx::query(statement)
        .bind(of)
        .fetch_all(&mut *change.tx)
        .await?;
    rows.iter().map(|row| row::id(row, "id")).collect()
}

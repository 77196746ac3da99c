//! API tokens: who asks, where no proxy in front tells. Only hashes are kept.

use std::io;

use sqlx::any::AnyRow;

use super::accounts::Account;
use super::secrets;
use super::{AccountId, TokenId};
use crate::clock::now_ms;
use crate::error::Result;
use crate::feed::Change;
use crate::open::Store;
use crate::row;

const ADMIN: &str = "admin";
const REGISTRATION: &str = "registration";
const ACCOUNT: &str = "account";

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Tokens and registration.
    Admin,
    /// Registration of applications.
    Registration,
    /// The endpoints of an account, by its number.
    Account(String),
}

/// Who a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOwner {
    /// Whoever runs this dovecast.
    Admin,
    /// An application.
    Registration,
    /// An account.
    Account(Account),
}

/// A token, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Id of the token, which is no secret.
    pub id: TokenId,
    /// What a person calls it.
    pub name: String,
    /// What it is for.
    pub scope: Scope,
    /// The end of it, to tell tokens apart.
    pub last_four: String,
    /// When it was made.
    pub created_ms: i64,
}

/// A token at the one moment at which it is known.
#[derive(Clone)]
pub struct NewToken {
    /// As it is listed.
    pub token: ApiToken,
    /// The token itself.
    pub secret: String,
}

impl Store {
    /// Makes a token; the account is made if it is not there.
    pub async fn create_token(&self, name: &str, scope: Scope) -> Result<NewToken> {
        let account = match &scope {
            Scope::Account(number) => Some(self.account_seen(number).await?.id),
            Scope::Admin | Scope::Registration => None,
        };
        let mut change = self.change().await?;
        let token = insert(&mut change, name, scope, account).await?;
        change.commit().await?;
        Ok(token)
    }

    /// Makes an admin token if there is none, as on the first start; `None`: there is one. It is
    /// kept if it could be shown: `show` is called before the commit, and its error is returned. A
    /// token that was shown and whose commit failed is none.
    pub async fn first_admin_token(
        &self,
        name: &str,
        show: impl FnOnce(&NewToken) -> io::Result<()>,
    ) -> Result<Option<io::Result<NewToken>>> {
        let mut change = self.change().await?;
        let there = sqlx::query("SELECT COUNT(*) AS there FROM api_token WHERE scope = $1")
            .bind(ADMIN)
            .fetch_one(&mut *change.tx)
            .await?;
        if row::number(&there, "there")? > 0 {
            return Ok(None);
        }
        let token = insert(&mut change, name, Scope::Admin, None).await?;
        if let Err(error) = show(&token) {
            // Nothing has happened: the change is dropped without a commit.
            return Ok(Some(Err(error)));
        }
        change.commit().await?;
        Ok(Some(Ok(token)))
    }

    /// All tokens, in the order in which they were made.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>> {
        let rows = sqlx::query(
            "SELECT api_token.id, scope, name, last_four, api_token.created_ms, number FROM api_token \
             LEFT JOIN account ON account.id = account_id ORDER BY api_token.created_ms, api_token.id",
        )
        .fetch_all(&self.database.pool)
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Deletes a token; `false`: there is none of this id.
    pub async fn delete_token(&self, id: TokenId) -> Result<bool> {
        let done = sqlx::query("DELETE FROM api_token WHERE id = $1")
            .bind(id.to_string())
            .execute(&self.database.pool)
            .await;
        // Even where it is not known whether it is gone.
        self.token_owners.forget();
        Ok(done?.rows_affected() > 0)
    }

    /// Who a token stands for; `None`: it is none. One that another node deletes is good for a
    /// second more.
    pub async fn token_owner(&self, secret: &str) -> Result<Option<TokenOwner>> {
        let hash = secrets::hash(secret);
        let asked = match self.token_owners.get(&hash) {
            Ok(owner) => return Ok(Some(owner)),
            Err(asked) => asked,
        };
        let found = sqlx::query(
            "SELECT scope, account_id, number FROM api_token \
             LEFT JOIN account ON account.id = account_id WHERE hash = $1",
        )
        .bind(hash.clone())
        .fetch_optional(&self.database.pool)
        .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let owner = match &*row::text(&row, "scope")? {
            ADMIN => TokenOwner::Admin,
            REGISTRATION => TokenOwner::Registration,
            _ => TokenOwner::Account(Account {
                id: row::id(&row, "account_id")?,
                number: row::text(&row, "number")?,
            }),
        };
        self.token_owners.remember(hash, &owner, asked);
        Ok(Some(owner))
    }
}

async fn insert(
    change: &mut Change<'_>,
    name: &str,
    scope: Scope,
    account: Option<AccountId>,
) -> Result<NewToken> {
    let secret = secrets::token()?;
    let token = ApiToken {
        id: TokenId::new(),
        name: name.to_owned(),
        last_four: secret[secret.len() - 4..].to_owned(),
        created_ms: now_ms(),
        scope,
    };
    let scope = match &token.scope {
        Scope::Admin => ADMIN,
        Scope::Registration => REGISTRATION,
        Scope::Account(_) => ACCOUNT,
    };
    sqlx::query(
        "INSERT INTO api_token (id, hash, scope, account_id, name, last_four, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(token.id.to_string())
    .bind(secrets::hash(&secret))
    .bind(scope)
    .bind(account.map(|id| id.to_string()))
    .bind(name)
    .bind(&token.last_four)
    .bind(token.created_ms)
    .execute(&mut *change.tx)
    .await?;
    Ok(NewToken { token, secret })
}

fn from_row(row: &AnyRow) -> Result<ApiToken> {
    Ok(ApiToken {
        id: row::id(row, "id")?,
        name: row::text(row, "name")?,
        scope: match &*row::text(row, "scope")? {
            ADMIN => Scope::Admin,
            REGISTRATION => Scope::Registration,
            _ => Scope::Account(row::text(row, "number")?),
        },
        last_four: row::text(row, "last_four")?,
        created_ms: row::number(row, "created_ms")?,
    })
}

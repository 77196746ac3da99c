//! API tokens: who asks, where no proxy in front tells. Only hashes are kept.

use std::collections::{BTreeSet, HashMap};
use std::io;

use dovecast_log::now_ms;
use dovecast_mail_push::Person;
use sqlx::any::AnyRow;

use super::{AccountId, TokenId, closing, owners, secrets};
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

pub(super) const ADMIN: &str = "admin";
pub(super) const REGISTRATION: &str = "registration";
pub(super) const SEND: &str = "send";
const ACCOUNT: &str = "account";
pub(super) const PERSON: &str = "person";

/// Most tokens of one account, those whose time is over included: they are listed as a whole, and
/// as many as an account may have endpoints are enough for one each.
pub const MAX_ACCOUNT_TOKENS: u64 = 1000;

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Tokens, accounts and registration.
    Admin,
    /// Registration of its applications.
    Registration,
    /// Notifications of its applications, to any account.
    Send,
    /// The endpoints of an account, by its number.
    Account(String),
    /// The devices of a person, for mail push.
    Person(Person),
}

impl Scope {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Admin => ADMIN,
            Self::Registration => REGISTRATION,
            Self::Send => SEND,
            Self::Account(_) => ACCOUNT,
            Self::Person(_) => PERSON,
        }
    }

    /// Number of the account, of a token that is for one.
    pub fn account_number(&self) -> Option<&str> {
        match self {
            Self::Account(number) => Some(number),
            Self::Admin | Self::Registration | Self::Send | Self::Person(_) => None,
        }
    }

    /// The person, of a token that is for one.
    pub fn person(&self) -> Option<&Person> {
        match self {
            Self::Person(person) => Some(person),
            _ => None,
        }
    }

    /// Whether tokens of this scope have applications.
    pub fn has_applications(&self) -> bool {
        matches!(self, Self::Registration | Self::Send)
    }
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
    /// Names of its applications.
    pub applications: Vec<String>,
    /// The end of it, to tell tokens apart.
    pub last_four: String,
    /// When it was made.
    pub created_ms: i64,
    /// When it is good no more, if ever.
    pub expires_ms: Option<i64>,
    /// When it was last used, to about a minute.
    pub last_used_ms: Option<i64>,
}

/// What a new token may do, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrant {
    /// What it is for.
    pub scope: Scope,
    /// Names of its applications, where its scope has any.
    pub applications: BTreeSet<String>,
    /// When it is good no more, if ever.
    pub expires_ms: Option<i64>,
}

impl From<Scope> for TokenGrant {
    fn from(scope: Scope) -> Self {
        Self {
            scope,
            applications: BTreeSet::new(),
            expires_ms: None,
        }
    }
}

/// What is to be different of a token; `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenEdit {
    /// What a person calls it.
    pub name: Option<String>,
    /// Names of its applications, all of them.
    pub applications: Option<BTreeSet<String>>,
    /// When it is good no more, if ever.
    pub expires_ms: Option<Option<i64>>,
}

/// A token at the one moment at which it is known.
#[derive(Clone)]
pub struct NewToken {
    /// As it is listed.
    pub token: ApiToken,
    /// The token itself.
    pub secret: String,
}

/// Which tokens.
#[derive(Clone, Copy)]
enum Which {
    All,
    Token(TokenId),
    Account(AccountId),
}

impl Store {
    /// Makes a token; the account is made if it is not there.
    pub async fn create_token(&self, name: &str, grant: impl Into<TokenGrant>) -> Result<NewToken> {
        let grant = grant.into();
        let account = match &grant.scope {
            Scope::Account(number) => Some(self.account_seen(number).await?.id),
            Scope::Admin | Scope::Registration | Scope::Send | Scope::Person(_) => None,
        };
        let mut change = self.change().await?;
        let token = insert(&mut change, name, grant, account).await?;
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
        // One whose time is over lets nobody in.
        let there = sqlx::query(
            "SELECT COUNT(*) AS there FROM api_token \
             WHERE scope = $1 AND (expires_ms IS NULL OR expires_ms > $2)",
        )
        .bind(ADMIN)
        .bind(self.clock.now_ms())
        .fetch_one(&mut *change.tx)
        .await?;
        if row::number(&there, "there")? > 0 {
            return Ok(None);
        }
        let token = insert(&mut change, name, Scope::Admin.into(), None).await?;
        if let Err(error) = show(&token) {
            // Nothing has happened: the change is dropped without a commit.
            return Ok(Some(Err(error)));
        }
        change.commit().await?;
        Ok(Some(Ok(token)))
    }

    /// All tokens, in the order in which they were made.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>> {
        self.load_tokens(Which::All).await
    }

    /// The tokens of an account, in the order in which they were made.
    pub async fn tokens_of(&self, account: AccountId) -> Result<Vec<ApiToken>> {
        self.load_tokens(Which::Account(account)).await
    }

    /// One token; `None`: there is none of this id.
    pub async fn token(&self, id: TokenId) -> Result<Option<ApiToken>> {
        Ok(self.load_tokens(Which::Token(id)).await?.pop())
    }

    async fn load_tokens(&self, which: Which) -> Result<Vec<ApiToken>> {
        let mut tx = self.database.begin_reading().await?;
        let mut statement = Statement::new(
            "SELECT api_token.id, scope, name, last_four, api_token.created_ms, expires_ms, \
             last_used_ms, number, context, user_name, login FROM api_token LEFT JOIN account ON account.id = account_id",
        );
        match which {
            Which::All => &mut statement,
            Which::Token(id) => statement
                .push(" WHERE api_token.id = ")
                .bind(id.to_string()),
            Which::Account(id) => statement.push(" WHERE account_id = ").bind(id.to_string()),
        };
        statement.push(" ORDER BY api_token.created_ms, api_token.id");
        let rows = statement.fetch_all(&mut tx).await?;
        let mut applications = match which {
            Which::All => owners::of_tokens(&mut tx, None).await?,
            Which::Token(id) => owners::of_tokens(&mut tx, Some(id)).await?,
            Which::Account(_) => HashMap::new(),
        };
        tx.commit().await?;
        let tokens = rows.iter().map(|row| from_row(row, &mut applications));
        tokens.collect()
    }

    /// Changes a token; `false`: there is none of this id.
    pub async fn edit_token(&self, id: TokenId, edit: &TokenEdit) -> Result<bool> {
        let mut change = self.change().await?;
        let found = sqlx::query("SELECT scope FROM api_token WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *change.tx)
            .await?;
        let Some(found) = found else {
            return Ok(false);
        };
        let registers = row::text(&found, "scope")? == REGISTRATION;
        if let Some(name) = &edit.name {
            sqlx::query("UPDATE api_token SET name = $1 WHERE id = $2")
                .bind(name)
                .bind(id.to_string())
                .execute(&mut *change.tx)
                .await?;
        }
        if let Some(expires_ms) = edit.expires_ms {
            sqlx::query("UPDATE api_token SET expires_ms = $1 WHERE id = $2")
                .bind(expires_ms)
                .bind(id.to_string())
                .execute(&mut *change.tx)
                .await?;
        }
        if let Some(applications) = &edit.applications {
            owners::put(&mut change, (id, registers), applications).await?;
        }
        let committed = change.commit().await;
        // Even where it is not known whether it is changed.
        self.token_owners.forget();
        committed?;
        Ok(true)
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
}

/// Makes sure that an account has fewer tokens than it may.
async fn must_have_room(change: &mut Change<'_>, account: AccountId) -> Result<()> {
    let count = "SELECT COUNT(*) AS total FROM api_token WHERE account_id = $1";
    let counted = sqlx::query(count)
        .bind(account.to_string())
        .fetch_one(&mut *change.tx)
        .await?;
    if row::number(&counted, "total")? >= i64::try_from(MAX_ACCOUNT_TOKENS).unwrap_or(i64::MAX) {
        return Err(StoreError::TooManyTokens(MAX_ACCOUNT_TOKENS));
    }
    Ok(())
}

async fn insert(
    change: &mut Change<'_>,
    name: &str,
    grant: TokenGrant,
    account: Option<AccountId>,
) -> Result<NewToken> {
    if let Some(account) = account {
        closing::must_be_open(change, account).await?;
        must_have_room(change, account).await?;
    }
    let secret = secrets::token()?;
    let token = ApiToken {
        id: TokenId::new(),
        name: name.to_owned(),
        last_four: secret[secret.len() - 4..].to_owned(),
        created_ms: now_ms(),
        expires_ms: grant.expires_ms,
        last_used_ms: None,
        applications: grant.applications.iter().cloned().collect(),
        scope: grant.scope,
    };
    sqlx::query(
        "INSERT INTO api_token (id, hash, scope, account_id, name, last_four, created_ms, expires_ms, \
         context, user_name, login) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(token.id.to_string())
    .bind(secrets::hash(&secret))
    .bind(token.scope.as_str())
    .bind(account.map(|id| id.to_string()))
    .bind(name)
    .bind(&token.last_four)
    .bind(token.created_ms)
    .bind(token.expires_ms)
    .bind(token.scope.person().map(|person| person.context.to_string()))
    .bind(token.scope.person().map(|person| person.user.to_string()))
    .bind(token.scope.person().map(|person| person.login.to_string()))
    .execute(&mut *change.tx)
    .await?;
    let registers = token.scope == Scope::Registration;
    owners::put(change, (token.id, registers), &grant.applications).await?;
    Ok(NewToken { token, secret })
}

fn from_row(row: &AnyRow, applications: &mut HashMap<TokenId, Vec<String>>) -> Result<ApiToken> {
    let id = row::id(row, "id")?;
    Ok(ApiToken {
        id,
        name: row::text(row, "name")?,
        scope: match &*row::text(row, "scope")? {
            ADMIN => Scope::Admin,
            REGISTRATION => Scope::Registration,
            SEND => Scope::Send,
            PERSON => Scope::Person(crate::push::person(row)?),
            _ => Scope::Account(row::text(row, "number")?),
        },
        applications: applications.remove(&id).unwrap_or_default(),
        last_four: row::text(row, "last_four")?,
        created_ms: row::number(row, "created_ms")?,
        expires_ms: row::optional_number(row, "expires_ms")?,
        last_used_ms: row::optional_number(row, "last_used_ms")?,
    })
}

//! Who tokens stand for, remembered for a moment: whoever sends many requests is not looked up for
//! each. And when it was last written down that a token is used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;
use dovecast_mail_push::Person;

use super::accounts::Account;
use super::tokens::{ADMIN, PERSON, REGISTRATION, SEND};
use super::{TokenId, owners, secrets};
use crate::clock::SKEW_MS;
use crate::error::{Result, with_sources};
use crate::open::Store;
use crate::row;

/// Time that a token is remembered, and so accepted after it was deleted on another node.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Most tokens that are remembered; when there would be more, all are forgotten.
const MAX_OWNERS: usize = 10_000;
/// Time from one write of when a token was last used to the next: a write for each request would be
/// dearer than the request.
const USE_INTERVAL: Duration = Duration::from_mins(1);
/// [`USE_INTERVAL`] in milliseconds.
const USE_INTERVAL_MS: i64 = 60_000;

/// About times of use that cannot be written.
static LINES: LineLimit = LineLimit::a_minute(1);

/// Who a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOwner {
    /// Whoever runs this dovecast.
    Admin,
    /// Whoever registers applications.
    Registration,
    /// Applications that send, by their names.
    Applications(Arc<[String]>),
    /// An account.
    Account(Account),
    /// A person whose mail is pushed.
    Person(Person),
}

/// What is known of a token that somebody shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownToken {
    /// There is no such token.
    Unknown,
    /// A token whose time is over.
    Expired,
    /// A token that is good.
    Good {
        /// Id of the token, which is no secret.
        id: TokenId,
        /// Who it stands for.
        owner: TokenOwner,
    },
}

/// What is remembered of a token.
#[derive(Clone, Debug)]
struct KnownToken {
    id: TokenId,
    owner: TokenOwner,
    expires_ms: Option<i64>,
    last_used_ms: Option<i64>,
}

impl KnownToken {
    fn shown(&self, now_ms: i64) -> ShownToken {
        if self.expires_ms.is_some_and(|end_ms| end_ms <= now_ms) {
            return ShownToken::Expired;
        }
        ShownToken::Good {
            id: self.id,
            owner: self.owner.clone(),
        }
    }
}

/// By the hashes of tokens.
#[derive(Debug, Default)]
pub(crate) struct TokenOwners(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    owners: HashMap<String, (KnownToken, Instant)>,
    /// Counts what was forgotten: what was looked up before must not be remembered after.
    forgotten: u64,
    /// When this process has last written that a token is used.
    noted: HashMap<TokenId, Instant>,
}

impl TokenOwners {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token, or a number to remember one with once it is known.
    fn get(&self, hash: &str) -> Result<KnownToken, u64> {
        let known = self.known();
        match known.owners.get(hash) {
            Some((owner, since)) if since.elapsed() < REMEMBERED => Ok(owner.clone()),
            _ => Err(known.forgotten),
        }
    }

    fn remember(&self, hash: String, token: KnownToken, asked: u64) {
        let mut known = self.known();
        if known.forgotten != asked {
            return;
        }
        if known.owners.len() >= MAX_OWNERS {
            known.owners.clear();
        }
        known.owners.insert(hash, (token, Instant::now()));
    }

    /// A token is gone or changed, or an account.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        known.owners.clear();
        known.forgotten += 1;
    }

    /// Whether it is time to write that a token is used; if so, whoever asks writes it.
    fn is_use_due(&self, id: TokenId) -> bool {
        let mut known = self.known();
        let noted = known.noted.get(&id);
        if noted.is_some_and(|noted| noted.elapsed() < USE_INTERVAL) {
            return false;
        }
        if known.noted.len() >= MAX_OWNERS {
            known.noted.clear();
        }
        known.noted.insert(id, Instant::now());
        true
    }
}

impl Store {
    /// What is known of a token. One that another node deletes or changes is what it was for a
    /// second more.
    pub async fn token_owner(&self, secret: &str) -> Result<ShownToken> {
        let hash = secrets::hash(secret);
        let (known, asked) = match self.token_owners.get(&hash) {
            Ok(known) => return Ok(known.shown(self.clock.now_ms())),
            Err(asked) => (self.find_token(&hash).await?, asked),
        };
        let Some(known) = known else {
            return Ok(ShownToken::Unknown);
        };
        let shown = known.shown(self.clock.now_ms());
        if let ShownToken::Good { id, .. } = shown {
            self.note_use(id, known.last_used_ms);
        }
        self.token_owners.remember(hash, known, asked);
        Ok(shown)
    }

    async fn find_token(&self, hash: &str) -> Result<Option<KnownToken>> {
        let mut connection = self.database.pool.acquire().await?;
        let found = sqlx::query(
            "SELECT api_token.id, scope, account_id, number, expires_ms, last_used_ms, \
             context, user_name, login FROM api_token \
             LEFT JOIN account ON account.id = account_id WHERE hash = $1",
        )
        .bind(hash)
        .fetch_optional(&mut connection)
        .await?;
        let Some(row) = found else {
            return Ok(None);
        };
        let id = row::id(&row, "id")?;
        let owner = match &*row::text(&row, "scope")? {
            ADMIN => TokenOwner::Admin,
            REGISTRATION => TokenOwner::Registration,
            SEND => {
                let mut names = owners::of_tokens(&mut connection, Some(id)).await?;
                TokenOwner::Applications(names.remove(&id).unwrap_or_default().into())
            }
            PERSON => TokenOwner::Person(crate::push::person(&row)?),
            _ => TokenOwner::Account(Account {
                id: row::id(&row, "account_id")?,
                number: row::text(&row, "number")?,
            }),
        };
        Ok(Some(KnownToken {
            id,
            owner,
            expires_ms: row::optional_number(&row, "expires_ms")?,
            last_used_ms: row::optional_number(&row, "last_used_ms")?,
        }))
    }

    /// Writes that a token is used, unless that was written less than a minute ago. No request
    /// waits for it, nor fails by it.
    fn note_use(&self, id: TokenId, last_used_ms: Option<i64>) {
        let now_ms = self.clock.now_ms();
        // A time ahead of now was written before a clock was set back.
        let is_fresh =
            |used_ms: i64| (now_ms - USE_INTERVAL_MS..=now_ms + SKEW_MS).contains(&used_ms);
        if last_used_ms.is_some_and(is_fresh) || !self.token_owners.is_use_due(id) {
            return;
        }
        let database = self.database.clone();
        tokio::spawn(async move {
            let noted = sqlx::query("UPDATE api_token SET last_used_ms = $1 WHERE id = $2")
                .bind(now_ms)
                .bind(id.to_string())
                .execute(&database.pool)
                .await;
            if let Err(error) = noted
                && LINES.take()
            {
                let error = with_sources(&error);
                tracing::warn!(token.id = %id, error, "when a token was last used cannot be written");
            }
        });
    }
}

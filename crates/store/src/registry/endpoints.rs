//! Endpoints: where an account wants its notifications.

use std::fmt;
use std::str::FromStr;

use crate::connection::Connection;
use dovecast_dispatch::ledger::BEHIND;
use dovecast_log::now_ms;
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::closing;
use super::edit::{CreatedEndpoint, EndpointEdit, FilterEdit, NewEndpoint};
use super::filters;
use super::flow::{self, Flow, FlowEdit};
use super::receiver::Receiver;
use super::secrets::SigningSecret;
use super::settings::{self, StoredSettings};
use super::stored_words::{DeliveryStatus, EndpointKind, RetryPolicy, UnknownWord};
use super::{AccountId, EndpointId};
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::open::Store;
use crate::row;
use crate::statement::{Statement, first_due};

/// `SELECT` with the columns of an [`Endpoint`].
pub(super) const SELECT: &str = concat!(
    "SELECT endpoint.id, endpoint.account_id, endpoint.name, endpoint.driver, \
    endpoint.settings, endpoint.sealed, endpoint.active, endpoint.retry_policy, endpoint.flow, \
    endpoint.fallback_id, endpoint.last_delivery_status, \
    endpoint.last_delivery_ms, endpoint.first_failure_ms, endpoint.created_ms, endpoint.updated_ms, \
    ",
    first_due!("endpoint.id"),
    " AS next_attempt_ms"
);

const TOUCH: &str = "UPDATE endpoint SET updated_ms = $1 WHERE id = $2 AND account_id = $3";

/// An endpoint, without what is written and never shown. [`fmt::Debug`] shows neither the user nor
/// the password of its URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Id of the endpoint.
    pub id: EndpointId,
    /// Whose it is.
    pub account: AccountId,
    /// Unique in the account.
    pub name: String,
    /// Name of its driver.
    pub driver: String,
    /// What its driver takes and whoever sees the endpoint may see.
    pub settings: Map<String, Value>,
    /// URL of a webhook, with `***` in place of a user and a password; other drivers have none.
    pub url: Option<String>,
    /// Whether the endpoint receives notifications.
    pub active: bool,
    /// Scheme of the URL.
    pub kind: Option<EndpointKind>,
    /// What happens after a failure.
    pub retry_policy: RetryPolicy,
    /// How long an attempt may take; without it as the configuration says.
    pub timeout_seconds: Option<u32>,
    /// Whether, how fast, how often again.
    pub flow: Flow,
    /// How the last attempt went.
    pub last_delivery_status: Option<DeliveryStatus>,
    /// When it was.
    pub last_delivery_ms: Option<i64>,
    /// When the failures began.
    pub first_failure_ms: Option<i64>,
    /// When what it owes is tried next, unless it is down then; `None`: nothing waits for a time.
    pub next_attempt_ms: Option<i64>,
    /// When it was made.
    pub created_ms: i64,
    /// When a person changed it last.
    pub updated_ms: i64,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_deref().map(settings::debug_url);
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("name", &self.name)
            .field("driver", &self.driver)
            .field("settings", &self.settings)
            .field("url", &url)
            .field("active", &self.active)
            .field("flow", &self.flow)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(super) fn from_row(found: &AnyRow) -> Result<Self> {
        let open = settings::open_from_row(found)?;
        let driver = row::text(found, "driver")?;
        let url = match &*driver {
            settings::WEBHOOK => Some(settings::shown_url(&open).to_owned()),
            _ => None,
        };
        let status = row::optional_text(found, "last_delivery_status")?;
        Ok(Self {
            id: row::id(found, "id")?,
            account: row::id(found, "account_id")?,
            name: row::text(found, "name")?,
            kind: url.as_deref().map(EndpointKind::of),
            url,
            driver,
            active: row::truth(found, "active")?,
            retry_policy: word(&row::text(found, "retry_policy")?, "retry_policy")?,
            timeout_seconds: settings::timeout_seconds(&open),
            settings: open,
            flow: Flow::from_row(found)?,
            last_delivery_status: match status {
                Some(status) => Some(word(&status, "last_delivery_status")?),
                None => None,
            },
            last_delivery_ms: row::optional_number(found, "last_delivery_ms")?,
            first_failure_ms: row::optional_number(found, "first_failure_ms")?,
            next_attempt_ms: row::optional_number(found, "next_attempt_ms")?
                .filter(|due_ms| *due_ms != BEHIND),
            created_ms: row::number(found, "created_ms")?,
            updated_ms: row::number(found, "updated_ms")?,
        })
    }

    /// Shows what has become of its settings.
    fn took(&mut self, settings: &StoredSettings) {
        let is_webhook = self.driver == settings::WEBHOOK;
        self.url = is_webhook.then(|| settings::shown_url(&settings.open).to_owned());
        self.kind = self.url.as_deref().map(EndpointKind::of);
        self.timeout_seconds = settings::timeout_seconds(&settings.open);
        self.settings.clone_from(&settings.open);
    }
}

fn word<T: FromStr<Err = UnknownWord>>(text: &str, column: &str) -> Result<T> {
    Ok(text.parse().map_err(|error| row::wrong(column, error))?)
}

impl Store {
    /// An endpoint of this account.
    pub async fn endpoint(&self, account: AccountId, id: EndpointId) -> Result<Option<Endpoint>> {
        let mut connection = self.database.pool.acquire().await?;
        find(&mut connection, account, id).await
    }

    /// Whether another endpoint of the account has this name.
    pub async fn is_name_taken(
        &self,
        account: AccountId,
        name: &str,
        except: Option<EndpointId>,
    ) -> Result<bool> {
        let mut connection = self.database.pool.acquire().await?;
        is_taken(&mut connection, account, name, except).await
    }

    /// Makes an endpoint and its filter, if the account has fewer than `most` then.
    pub async fn create_endpoint(
        &self,
        account: AccountId,
        new: &NewEndpoint,
        most: u64,
    ) -> Result<CreatedEndpoint> {
        let secret = match &new.receiver {
            Receiver::Webhook(_) => Some(SigningSecret::generate()?),
            Receiver::Driver(_) => None,
        };
        let id = EndpointId(Uuid::now_v7());
        let mut change = self.change().await?;
        closing::must_be_open(&mut change, account).await?;
        if count(&mut change.tx, account).await? >= i64::try_from(most).unwrap_or(i64::MAX) {
            return Err(StoreError::TooManyEndpoints(most));
        }
        if is_taken(&mut change.tx, account, &new.name, None).await? {
            return Err(StoreError::NameTaken(new.name.clone()));
        }
        insert(&mut change, account, id, new).await?;
        let mut settings = StoredSettings::of_driver(new.receiver.driver());
        if let Some(secret) = &secret {
            settings.set_signing_secrets(secret, None);
        }
        settings.edited(&new.settings())?;
        settings.write(&mut change, id).await?;
        let mut flow = Flow::default();
        flow.edited(&new.flow);
        flow::put(&mut change, account, id, &flow).await?;
        if let Some(filter) = &new.filter {
            filters::put(&mut change, id, filter).await?;
        }
        change.touch(id).await?;
        let endpoint = find(&mut change.tx, account, id).await?;
        change.commit().await?;
        Ok(CreatedEndpoint {
            endpoint: endpoint.ok_or(StoreError::NoEndpoint)?,
            secret,
        })
    }

    /// Changes an endpoint and its filter.
    pub async fn edit_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        edit: &EndpointEdit,
    ) -> Result<Endpoint> {
        let mut change = self.change().await?;
        closing::must_be_open(&mut change, account).await?;
        let Some(mut endpoint) = find(&mut change.tx, account, id).await? else {
            return Err(StoreError::NoEndpoint);
        };
        if let Some(name) = &edit.name {
            if is_taken(&mut change.tx, account, name, Some(id)).await? {
                return Err(StoreError::NameTaken(name.clone()));
            }
            endpoint.name.clone_from(name);
        }
        let was_active = endpoint.active;
        endpoint.active = edit.active.unwrap_or(was_active);
        if endpoint.active && !was_active {
            // What has failed before counts no more.
            endpoint.first_failure_ms = None;
        }
        endpoint.retry_policy = edit.retry_policy.unwrap_or(endpoint.retry_policy);
        endpoint.updated_ms = now_ms();
        if edit.has_settings() {
            let mut settings = StoredSettings::find(&mut change, id).await?;
            settings.edited(edit)?;
            endpoint.took(&settings);
            settings.write(&mut change, id).await?;
        }
        update(&mut change, &endpoint).await?;
        if edit.flow != FlowEdit::default() {
            endpoint.flow.edited(&edit.flow);
            flow::put(&mut change, account, id, &endpoint.flow).await?;
        }
        match &edit.filter {
            FilterEdit::Keep => {}
            FilterEdit::Remove => filters::remove(&mut change, id).await?,
            FilterEdit::Put(fields) => filters::put(&mut change, id, fields).await?,
        }
        change.touch(id).await?;
        change.commit().await?;
        Ok(endpoint)
    }

    /// Deletes an endpoint and its filter; [`Store::sweep_gone`] removes what it leaves. `false`:
    /// the account has none of this id.
    pub async fn delete_endpoint(&self, account: AccountId, id: EndpointId) -> Result<bool> {
        let mut change = self.change().await?;
        let done = sqlx::query("DELETE FROM endpoint WHERE id = $1 AND account_id = $2")
            .bind(id.to_string())
            .bind(account.to_string())
            .execute(&mut *change.tx)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        change.gone(id).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Marks an endpoint as saved anew: every node tries it as if nothing had failed.
    pub async fn save_anew(&self, account: AccountId, id: EndpointId) -> Result<()> {
        let mut change = self.change().await?;
        must_be_of(&mut change, account, id).await?;
        change.touch(id).await?;
        change.commit().await
    }

    /// Gives an endpoint a new secret. The old one is good for `overlap_ms` longer, and those
    /// before it until their own time is over.
    pub async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        overlap_ms: i64,
    ) -> Result<SigningSecret> {
        let secret = SigningSecret::generate()?;
        let mut change = self.change().await?;
        must_be_of(&mut change, account, id).await?;
        let mut settings = StoredSettings::find(&mut change, id).await?;
        let now_ms = now_ms();
        settings.rotate(&secret, (now_ms, now_ms + overlap_ms))?;
        settings.write(&mut change, id).await?;
        change.touch(id).await?;
        change.commit().await?;
        Ok(secret)
    }
}

/// Notes that an endpoint is changed; fails if the account has no such endpoint.
async fn must_be_of(change: &mut Change<'_>, account: AccountId, id: EndpointId) -> Result<()> {
    let done = sqlx::query(TOUCH)
        .bind(now_ms())
        .bind(id.to_string())
        .bind(account.to_string())
        .execute(&mut *change.tx)
        .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::NoEndpoint);
    }
    Ok(())
}

async fn find(
    connection: &mut Connection,
    account: AccountId,
    id: EndpointId,
) -> Result<Option<Endpoint>> {
    let mut statement = Statement::new(SELECT);
    statement.push(" FROM endpoint WHERE endpoint.id = ");
    statement.bind(id.to_string()).push(" AND account_id = ");
    statement.bind(account.to_string());
    let found = statement.fetch_all(connection).await?;
    found.first().map(Endpoint::from_row).transpose()
}

async fn count(connection: &mut Connection, account: AccountId) -> Result<i64> {
    let found = sqlx::query("SELECT COUNT(*) AS total FROM endpoint WHERE account_id = $1")
        .bind(account.to_string())
        .fetch_one(connection)
        .await?;
    row::number(&found, "total")
}

async fn is_taken(
    connection: &mut Connection,
    account: AccountId,
    name: &str,
    except: Option<EndpointId>,
) -> Result<bool> {
    let found = sqlx::query("SELECT id FROM endpoint WHERE account_id = $1 AND name = $2")
        .bind(account.to_string())
        .bind(name)
        .fetch_optional(connection)
        .await?;
    match found {
        Some(row) => Ok(Some(row::id(&row, "id")?) != except),
        None => Ok(false),
    }
}

async fn insert(
    change: &mut Change<'_>,
    account: AccountId,
    id: EndpointId,
    new: &NewEndpoint,
) -> Result<()> {
    let url = settings::plain_url(new.receiver.url().unwrap_or_default());
    sqlx::query(
        "INSERT INTO endpoint (id, account_id, name, url, search_name, search_url, active, driver, \
         retry_policy, created_ms, updated_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)",
    )
    .bind(id.to_string())
    .bind(account.to_string())
    .bind(&new.name)
    .bind(&url)
    .bind(new.name.to_lowercase())
    .bind(url.to_lowercase())
    .bind(i64::from(new.active))
    .bind(new.receiver.driver())
    .bind(new.retry_policy.as_str())
    .bind(now_ms())
    .execute(&mut *change.tx)
    .await?;
    Ok(())
}

async fn update(change: &mut Change<'_>, endpoint: &Endpoint) -> Result<()> {
    let url = settings::plain_url(endpoint.url.as_deref().unwrap_or_default());
    sqlx::query(
        "UPDATE endpoint SET name = $1, url = $2, search_name = $3, search_url = $4, active = $5, \
         retry_policy = $6, updated_ms = $7, \
         failing_ms = CASE WHEN active < $5 THEN 0 ELSE failing_ms END, \
         first_failure_ms = CASE WHEN active < $5 THEN NULL ELSE first_failure_ms END WHERE id = $8",
    )
    .bind(&endpoint.name)
    .bind(&url)
    .bind(endpoint.name.to_lowercase())
    .bind(url.to_lowercase())
    .bind(i64::from(endpoint.active))
    .bind(endpoint.retry_policy.as_str())
    .bind(endpoint.updated_ms)
    .bind(endpoint.id.to_string())
    .execute(&mut *change.tx)
    .await?;
    Ok(())
}

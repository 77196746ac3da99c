//! Subscriptions of persons: made, changed, listed, removed.
//!
//! A token belongs to one person at a time: who registers it takes it over, and what waits for it
//! goes with the one before.

mod rows;

use std::slice;

use dovecast_mail_push::{DeviceAddress, Person, Subscription, SubscriptionId, Wishes};

use super::bind_persons;
use super::pushes::end_quiet;
use super::time::{EXPIRED_KEPT_MS, PushNow};
use crate::connection::Transaction;
use crate::error::Result;
use crate::open::Store;
use crate::registry::SigningSecret;
use crate::row;
use crate::secrets::Field;
use crate::statement::Statement;
use rows::{
    insert, keep_secret, must_have_room, one, open, record, record_of, replace, sign_as, token_hash,
};

const SELECT: &str = "SELECT id, context, user_name, login, client, transport, last_four, wishes, created_ms, \
    expires_ms, answer FROM push_subscription";
const BY_TOKEN: &str = "SELECT id, context, user_name, sealed, wishes, expires_ms FROM push_subscription \
    WHERE token_hash = $1";
const OF_PERSON: &str = "SELECT id, context, user_name, login, client, transport, last_four, wishes, created_ms, \
    expires_ms, answer, sealed, token_hash FROM push_subscription WHERE id = $1 AND context = $2 AND user_name = $3 \
    AND (expires_ms IS NULL OR expires_ms > $4)";
const DELETE: &str = "DELETE FROM push_subscription WHERE id = $1";
/// Takes what waits down to ids alone, the form that is at hand, whatever of the rest may still be
/// told.
const LESS: &str = "UPDATE push_waiting SET message = short_message, revision = revision + 1 \
    WHERE subscription_id = $1 AND topic <> 'mail:close' AND message <> short_message";
const EXPIRED: &str =
    "DELETE FROM push_subscription WHERE expires_ms IS NOT NULL AND expires_ms <= $1";
/// Persons that are looked up in one statement.
const PERSONS_AT_A_TIME: usize = 200;

/// A subscription that is to be.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// Whose mail is told.
    pub person: Person,
    /// Client that asks.
    pub client: String,
    /// Where the device is.
    pub address: DeviceAddress,
    /// What is asked for.
    pub wishes: Wishes,
    /// When it ends, if it does.
    pub expires_ms: Option<i64>,
}

/// A subscription as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionRecord {
    /// The subscription.
    pub subscription: Subscription,
    /// End of the token, to tell devices apart.
    pub last_four: String,
    /// When it was made, by the clock of the database where nodes share one.
    pub created_ms: i64,
    /// What the service has answered last.
    pub answer: Option<LastAnswer>,
}

/// What the service of a device has answered last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAnswer {
    /// When that was.
    pub time_ms: i64,
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// The reason it gave, or why there was no answer.
    pub reason: String,
}

/// What became of a subscription that was put.
#[derive(Clone, Debug)]
pub struct PutSubscription {
    /// As it is listed.
    pub record: SubscriptionRecord,
    /// Whether it was not there before.
    pub is_new: bool,
    /// What a new webhook signs with; shown this once.
    pub signing_secret: Option<SigningSecret>,
    /// Whether the token was another person's.
    pub is_taken_over: bool,
}

/// What is to be different of a subscription; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionEdit {
    /// Client that asks.
    pub client: Option<String>,
    /// Where the device is, by the same transport.
    pub address: Option<DeviceAddress>,
    /// When it ends, if it does.
    pub expires_ms: Option<Option<i64>>,
}

/// Has what waits for a device be as the device wants it now: it waits for other quiet hours, and
/// says no more than it may. A filter holds for what is told from now on.
async fn apply(
    tx: &mut Transaction,
    id: &str,
    (before, wanted): (&str, &Wishes),
    now: PushNow,
) -> Result<()> {
    // What cannot be read is another one.
    let before: Option<Wishes> = serde_json::from_str(before)
        .ok()
        .and_then(|json| Wishes::from_json(&json).ok());
    let before = before.as_ref();
    if before.is_none_or(|before| before.quiet_hours != wanted.quiet_hours) {
        end_quiet(tx, id, now).await?;
    }
    if before.is_none_or(|before| wanted.content < before.content) {
        sqlx::query(LESS).bind(id).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Place of the sealed address of a subscription.
pub(crate) fn field(id: &str) -> Field<'_> {
    Field {
        table: "push_subscription",
        row: id,
        name: "sealed",
    }
}

impl Store {
    /// Makes a subscription. The same person with the same token again keeps its id; another one's
    /// token is taken over.
    pub async fn put_subscription(
        &self,
        mut new: NewSubscription,
        most: u64,
    ) -> Result<PutSubscription> {
        let now = self.push_now().await?;
        let now_ms = now.now_ms;
        let mut change = self.change().await?;
        let hash = token_hash(&new.person, &new.client, &new.address);
        let found = sqlx::query(BY_TOKEN).bind(&hash);
        let found = found.fetch_optional(&mut *change.tx).await?;
        let mut put = PutSubscription {
            record: record_of(&new, SubscriptionId::generate(), now_ms),
            is_new: true,
            signing_secret: None,
            is_taken_over: false,
        };
        if let Some(found) = &found {
            let id = row::text(found, "id")?;
            let is_same = row::text(found, "context")? == *new.person.context
                && row::text(found, "user_name")? == *new.person.user;
            let expires_ms = row::optional_number(found, "expires_ms")?;
            let is_over = expires_ms.is_some_and(|end_ms| end_ms <= now_ms);
            if is_same && !is_over {
                keep_secret(
                    &change.ring(),
                    &id,
                    &row::text(found, "sealed")?,
                    &mut new.address,
                )?;
                if replace(&mut change, (&id, &hash), &new).await? {
                    let before = row::text(found, "wishes")?;
                    apply(&mut change.tx, &id, (&before, &new.wishes), now).await?;
                    put.record = one(&mut change, &id).await?;
                    put.is_new = false;
                    change.commit().await?;
                    return Ok(put);
                }
                // Its service has said meanwhile that the device is gone: it is there again.
            }
            sqlx::query(DELETE)
                .bind(id)
                .execute(&mut *change.tx)
                .await?;
            put.is_taken_over = !is_same && !is_over;
        }
        must_have_room(&mut change, &new.person, (most, now_ms)).await?;
        if let DeviceAddress::Webhook { signing_secret, .. } = &mut new.address {
            let made = SigningSecret::generate()?;
            made.expose().clone_into(signing_secret);
            put.signing_secret = Some(made);
        }
        insert(&mut change, &put.record, &new.address, &hash).await?;
        change.commit().await?;
        Ok(put)
    }

    /// The subscriptions of a person, in the order in which they were made.
    pub async fn subscriptions(&self, person: &Person) -> Result<Vec<SubscriptionRecord>> {
        self.subscriptions_of(slice::from_ref(person)).await
    }

    /// The subscriptions of several persons, without those that have expired or cannot be read.
    pub async fn subscriptions_of(&self, persons: &[Person]) -> Result<Vec<SubscriptionRecord>> {
        let now_ms = self.expiry_now_ms().await?;
        let mut records = Vec::new();
        let mut connection = self.database.pool.acquire().await?;
        for persons in persons.chunks(PERSONS_AT_A_TIME) {
            let mut statement = Statement::new(SELECT);
            bind_persons(statement.push(" WHERE "), persons);
            statement.push(" AND (expires_ms IS NULL OR expires_ms > ");
            statement.bind(now_ms).push(") ORDER BY created_ms, id");
            let rows = statement.fetch_all(&mut connection).await?;
            records.extend(self.readable(&rows, "push_subscription", record));
        }
        Ok(records)
    }

    /// One subscription of a person; `None`: the person has none of this id.
    pub async fn subscription(
        &self,
        person: &Person,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionRecord>> {
        let all = self.subscriptions(person).await?;
        Ok(all.into_iter().find(|record| record.subscription.id == id))
    }

    /// The address of a person's subscription; `None`: the person has none of this id.
    pub async fn subscription_address(
        &self,
        person: &Person,
        id: SubscriptionId,
    ) -> Result<Option<DeviceAddress>> {
        let found = sqlx::query(
            "SELECT sealed FROM push_subscription WHERE id = $1 AND context = $2 AND user_name = $3 \
             AND (expires_ms IS NULL OR expires_ms > $4)",
        )
        .bind(id.to_string())
        .bind(&*person.context)
        .bind(&*person.user)
        .bind(self.expiry_now_ms().await?)
        .fetch_optional(&self.database.pool)
        .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let sealed = row::text(&found, "sealed")?;
        self.open_address(&id.to_string(), &sealed).await.map(Some)
    }

    pub(super) async fn open_address(&self, id: &str, sealed: &str) -> Result<DeviceAddress> {
        if self.keys.ring().lacks_key_of(sealed) {
            self.keys.refresh().await?;
        }
        open(&self.keys.ring(), id, sealed)
    }

    /// Changes a subscription; `None`: the person has none of this id. What is asked for is made of
    /// what is asked for when it is changed: of two changes at a time neither is lost.
    pub async fn edit_subscription(
        &self,
        person: &Person,
        id: SubscriptionId,
        edit: SubscriptionEdit,
        change_wishes: impl FnOnce(Wishes) -> Wishes,
    ) -> Result<Option<SubscriptionRecord>> {
        let now = self.push_now().await?;
        // Read in the change: whoever takes the token over does so before it or after.
        let mut change = self.change().await?;
        let text = id.to_string();
        let found = sqlx::query(OF_PERSON)
            .bind(&text)
            .bind(&*person.context)
            .bind(&*person.user)
            .bind(now.now_ms)
            .fetch_optional(&mut *change.tx)
            .await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let before = self.readable(slice::from_ref(&found), "push_subscription", record);
        let Some(before) = before.into_iter().next() else {
            return Ok(None);
        };
        let sealed = row::text(&found, "sealed")?;
        let mut address = self.open_address(&text, &sealed).await?;
        if let Some(mut changed) = edit.address {
            sign_as(&address, &mut changed);
            address = changed;
        }
        let before = before.subscription;
        let new = NewSubscription {
            person: before.person,
            client: edit.client.unwrap_or(before.client),
            address,
            wishes: change_wishes(before.wishes),
            expires_ms: edit.expires_ms.unwrap_or(before.expires_ms),
        };
        let hash = token_hash(&new.person, &new.client, &new.address);
        if hash != row::text(&found, "token_hash")? {
            // Whoever had the token has it no more.
            sqlx::query("DELETE FROM push_subscription WHERE token_hash = $1 AND id <> $2")
                .bind(&hash)
                .bind(&text)
                .execute(&mut *change.tx)
                .await?;
        }
        if !replace(&mut change, (&text, &hash), &new).await? {
            return Ok(None);
        }
        let before = row::text(&found, "wishes")?;
        apply(&mut change.tx, &text, (&before, &new.wishes), now).await?;
        let record = one(&mut change, &text).await?;
        change.commit().await?;
        Ok(Some(record))
    }

    /// Removes a subscription with what waits for it; `false`: the person has none of this id.
    pub async fn delete_subscription(&self, person: &Person, id: SubscriptionId) -> Result<bool> {
        let done = sqlx::query(
            "DELETE FROM push_subscription WHERE id = $1 AND context = $2 AND user_name = $3",
        )
        .bind(id.to_string())
        .bind(&*person.context)
        .bind(&*person.user)
        .execute(&self.database.pool)
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Removes a subscription whose device is gone, if it is still at the address that was asked;
    /// `false`: it is at another one by now, or was removed.
    pub async fn delete_gone_subscription(
        &self,
        person: &Person,
        id: SubscriptionId,
        address: &DeviceAddress,
    ) -> Result<bool> {
        let mut change = self.change().await?;
        let found = sqlx::query(
            "SELECT sealed FROM push_subscription WHERE id = $1 AND context = $2 AND user_name = $3",
        )
        .bind(id.to_string())
        .bind(&*person.context)
        .bind(&*person.user)
        .fetch_optional(&mut *change.tx)
        .await?;
        let Some(found) = found else {
            return Ok(false);
        };
        let sealed = row::text(&found, "sealed")?;
        if self.open_address(&id.to_string(), &sealed).await? != *address {
            return Ok(false);
        }
        let delete = sqlx::query(DELETE).bind(id.to_string());
        delete.execute(&mut *change.tx).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Removes all subscriptions of a client of a person; how many there were.
    pub async fn delete_client(&self, context: &str, user: &str, client: &str) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM push_subscription WHERE context = $1 AND user_name = $2 AND client = $3",
        )
        .bind(context)
        .bind(user)
        .bind(client)
        .execute(&self.database.pool)
        .await?;
        Ok(done.rows_affected())
    }

    /// Writes down what the service of a device has answered.
    pub async fn note_answer(&self, id: SubscriptionId, answer: &LastAnswer) -> Result<()> {
        sqlx::query("UPDATE push_subscription SET answer = $1 WHERE id = $2")
            .bind(answer.to_json().to_string())
            .bind(id.to_string())
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    /// Removes subscriptions whose time was over a day ago; how many there were.
    pub async fn drop_expired_subscriptions(&self) -> Result<u64> {
        let now_ms = self.expiry_now_ms().await?;
        let drop = sqlx::query(EXPIRED).bind(now_ms.saturating_sub(EXPIRED_KEPT_MS));
        Ok(drop.execute(&self.database.pool).await?.rows_affected())
    }
}

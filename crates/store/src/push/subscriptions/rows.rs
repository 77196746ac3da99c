//! Rows of subscriptions: how they are written and read, and what is sealed of them.

use dovecast_mail_push::{
    DeviceAddress, Person, Subscription, SubscriptionId, TransportKind, Wishes,
};
use serde_json::{Value, json};
use sqlx::any::AnyRow;

use super::super::person;
use super::{LastAnswer, NewSubscription, SELECT, SubscriptionRecord, field};
use crate::error::{Result, StoreError};
use crate::feed::Change;
use crate::registry::secrets;
use crate::row;
use crate::secrets::Keyring;
use crate::statement::Statement;

const INSERT: &str = "INSERT INTO push_subscription (id, context, user_name, login, client, transport, token_hash, \
    last_four, wishes, sealed, created_ms, expires_ms, lane, new_mail) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
const REPLACE: &str = "UPDATE push_subscription SET login = $1, client = $2, last_four = $3, wishes = $4, sealed = $5, \
    expires_ms = $6, lane = $7, new_mail = $8, token_hash = $9 WHERE id = $10 AND context = $11 AND user_name = $12";
const COUNT: &str = "SELECT COUNT(*) AS total FROM push_subscription WHERE context = $1 AND user_name = $2 \
    AND (expires_ms IS NULL OR expires_ms > $3)";

impl LastAnswer {
    pub(in crate::push) fn to_json(&self) -> Value {
        json!({ "time_ms": self.time_ms, "status": self.status, "reason": self.reason })
    }

    pub(super) fn from_json(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        Some(Self {
            time_ms: json["time_ms"].as_i64()?,
            status: json["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok()),
            reason: json["reason"].as_str()?.to_owned(),
        })
    }
}

/// What is unique: the token, and of a webhook the person and the client with it.
pub(super) fn token_hash(person: &Person, client: &str, address: &DeviceAddress) -> String {
    let kind = address.kind();
    let mut parts = vec![kind.name(), address.token()];
    if !kind.has_token() {
        parts.extend([&*person.context, &*person.user, client]);
    }
    // No part has a NUL in it.
    secrets::hash(&parts.join("\0"))
}

pub(super) fn open(ring: &Keyring, id: &str, sealed: &str) -> Result<DeviceAddress> {
    let json = ring.open(field(id), sealed)?;
    // An error of serde cites what it has read.
    let read = serde_json::from_slice(&json).map_err(|_| {
        row::wrong(
            "sealed",
            std::io::Error::other("the address of the device cannot be read"),
        )
    });
    Ok(read?)
}

/// A webhook that is registered again signs with what it has signed with.
pub(super) fn keep_secret(
    ring: &Keyring,
    id: &str,
    sealed: &str,
    address: &mut DeviceAddress,
) -> Result<()> {
    if matches!(address, DeviceAddress::Webhook { .. }) {
        sign_as(&open(ring, id, sealed)?, address);
    }
    Ok(())
}

/// A webhook signs with what another one signs with.
pub(super) fn sign_as(before: &DeviceAddress, address: &mut DeviceAddress) {
    if let (
        DeviceAddress::Webhook { signing_secret, .. },
        DeviceAddress::Webhook {
            signing_secret: kept,
            ..
        },
    ) = (address, before)
    {
        kept.clone_into(signing_secret);
    }
}

pub(super) async fn must_have_room(
    change: &mut Change<'_>,
    person: &Person,
    (most, now_ms): (u64, i64),
) -> Result<()> {
    let total = sqlx::query(COUNT)
        .bind(&*person.context)
        .bind(&*person.user)
        .bind(now_ms);
    let total = row::number(&total.fetch_one(&mut *change.tx).await?, "total")?;
    if u64::try_from(total).unwrap_or_default() >= most {
        return Err(StoreError::TooManySubscriptions(most));
    }
    Ok(())
}

pub(super) async fn seal(
    change: &mut Change<'_>,
    id: &str,
    address: &DeviceAddress,
) -> Result<String> {
    let json = serde_json::to_vec(address).map_err(|error| row::wrong("sealed", error))?;
    let json = zeroize::Zeroizing::new(json);
    change.seal(field(id), &json).await
}

pub(super) async fn insert(
    change: &mut Change<'_>,
    record: &SubscriptionRecord,
    address: &DeviceAddress,
    hash: &str,
) -> Result<()> {
    let SubscriptionRecord {
        subscription,
        last_four,
        created_ms,
        ..
    } = record;
    let id = subscription.id.to_string();
    let sealed = seal(change, &id, address).await?;
    sqlx::query(INSERT)
        .bind(id)
        .bind(&*subscription.person.context)
        .bind(&*subscription.person.user)
        .bind(&*subscription.person.login)
        .bind(&subscription.client)
        .bind(subscription.transport.name())
        .bind(hash)
        .bind(last_four)
        .bind(Value::Object(subscription.wishes.to_json()).to_string())
        .bind(sealed)
        .bind(*created_ms)
        .bind(subscription.expires_ms)
        .bind(address.lane())
        .bind(i64::from(subscription.wishes.topics.have_new_mail()))
        .execute(&mut *change.tx)
        .await?;
    Ok(())
}

/// Replaces a subscription of its person; `false`: the person has none of this id any more.
pub(super) async fn replace(
    change: &mut Change<'_>,
    (id, hash): (&str, &str),
    new: &NewSubscription,
) -> Result<bool> {
    let sealed = seal(change, id, &new.address).await?;
    let done = sqlx::query(REPLACE)
        .bind(&*new.person.login)
        .bind(&new.client)
        .bind(new.address.last_four())
        .bind(Value::Object(new.wishes.to_json()).to_string())
        .bind(sealed)
        .bind(new.expires_ms)
        .bind(new.address.lane())
        .bind(i64::from(new.wishes.topics.have_new_mail()))
        .bind(hash)
        .bind(id)
        .bind(&*new.person.context)
        .bind(&*new.person.user)
        .execute(&mut *change.tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn one(change: &mut Change<'_>, id: &str) -> Result<SubscriptionRecord> {
    let mut statement = Statement::new(SELECT);
    statement.push(" WHERE id = ").bind(id.to_owned());
    let rows = statement.fetch_all(&mut change.tx).await?;
    record(rows.first().ok_or(sqlx::Error::RowNotFound)?)
}

pub(super) fn record_of(
    new: &NewSubscription,
    id: SubscriptionId,
    created_ms: i64,
) -> SubscriptionRecord {
    SubscriptionRecord {
        subscription: Subscription {
            id,
            person: new.person.clone(),
            client: new.client.clone(),
            transport: new.address.kind(),
            wishes: new.wishes.clone(),
            expires_ms: new.expires_ms,
        },
        last_four: new.address.last_four(),
        created_ms,
        answer: None,
    }
}

pub(super) fn record(found: &AnyRow) -> Result<SubscriptionRecord> {
    let transport = row::text(found, "transport")?;
    let unknown = || row::wrong("transport", std::io::Error::other("unknown transport"));
    let wishes: Value = serde_json::from_str(&row::text(found, "wishes")?)
        .map_err(|error| row::wrong("wishes", error))?;
    let answer = row::optional_text(found, "answer")?;
    Ok(SubscriptionRecord {
        subscription: Subscription {
            id: row::id(found, "id")?,
            person: person(found)?,
            client: row::text(found, "client")?,
            transport: TransportKind::from_name(&transport).ok_or_else(unknown)?,
            wishes: Wishes::from_json(&wishes).map_err(|error| row::wrong("wishes", error))?,
            expires_ms: row::optional_number(found, "expires_ms")?,
        },
        last_four: row::text(found, "last_four")?,
        created_ms: row::number(found, "created_ms")?,
        answer: answer.as_deref().and_then(LastAnswer::from_json),
    })
}

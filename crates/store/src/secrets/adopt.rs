//! Whether the keys of a process are those of its database: asked at each start, in the transaction
//! of the migrations, so that of nodes that start together on a new database one makes the key.
//!
//! The database holds the id of the key with which everything is sealed from now on. A process that
//! has not got it must not start: it would make a key of its own, and neither node could open what
//! the other has sealed.

use std::sync::Arc;

use dovecast_log::now_ms;
use sqlx::any::AnyRow;

use super::error::SecretsError;
use super::key::{BadKeyId, KeyId};
use super::keys::Keys;
use super::source::KeySource;
use crate::connection::{Connection, Transaction};
use crate::error::Result;
use crate::row;

const CURRENT: &str = "SELECT key_id FROM feed";
const ADOPT: &str = "UPDATE feed SET key_id = $1";
/// A key that has sealed something and is not retired is needed, also in the middle of a rotation.
const NEEDED: &str = "SELECT id FROM secret_key WHERE retired_ms IS NULL ORDER BY id";
/// After all that was retired before it, however clocks are set: that is asked in `rotation.rs`.
const USED: &str = "INSERT INTO secret_key (id, first_ms) \
    SELECT $1, CASE WHEN MAX(retired_ms) >= $2 THEN MAX(retired_ms) + 1 ELSE $2 END FROM secret_key WHERE true \
    ON CONFLICT (id) DO UPDATE SET retired_ms = NULL";

/// The keys of this process, with which everything in the database can be opened; and the one with
/// which it is sealed.
pub(crate) async fn adopt(tx: &mut Transaction, source: &KeySource) -> Result<(Arc<Keys>, KeyId)> {
    let current = current(tx).await?;
    let keys = Keys::load(source, current.is_none())?;
    let missing = |key| SecretsError::NotOfDatabase {
        key,
        place: source.to_string(),
    };
    let keys = match (keys, current) {
        (Some(keys), _) => keys,
        (None, Some(key)) => return Err(missing(key).into()),
        (None, None) => return Err(SecretsError::NoSource.into()),
    };
    let ring = keys.ring();
    for needed in needed(tx).await?.into_iter().chain(current) {
        if !ring.has(needed) {
            return Err(missing(needed).into());
        }
    }
    let key = if let Some(key) = current {
        key
    } else {
        let place = source.to_string();
        let newest = ring.ids().next_back();
        let key = newest.ok_or(SecretsError::Empty { place })?;
        seal_with(tx, key).await?;
        key
    };
    keys.seals_with(key);
    Ok((Arc::new(keys), key))
}

/// The key with which everything is sealed, if there is one.
pub(crate) async fn current(connection: &mut Connection) -> Result<Option<KeyId>> {
    current_of(&sqlx::query(CURRENT).fetch_one(connection).await?)
}

/// The key that a row with the column `key_id` of `feed` names.
pub(crate) fn current_of(found: &AnyRow) -> Result<Option<KeyId>> {
    let text = row::optional_text(found, "key_id")?;
    let id = text.map(|text| text.parse()).transpose();
    Ok(id.map_err(|error: BadKeyId| row::wrong("key_id", error))?)
}

/// Keys that have sealed something, and are not retired.
pub(crate) async fn needed(connection: &mut Connection) -> Result<Vec<KeyId>> {
    let rows = sqlx::query(NEEDED).fetch_all(connection).await?;
    let ids = rows.iter().map(|found| {
        let id = row::text(found, "id")?.parse();
        Ok(id.map_err(|error: BadKeyId| row::wrong("id", error))?)
    });
    ids.collect()
}

/// From now on everything is sealed with this key.
pub(crate) async fn seal_with(connection: &mut Connection, key: KeyId) -> Result<()> {
    sqlx::query(ADOPT)
        .bind(key.to_string())
        .execute(&mut *connection)
        .await?;
    sqlx::query(USED)
        .bind(key.to_string())
        .bind(now_ms())
        .execute(connection)
        .await?;
    Ok(())
}

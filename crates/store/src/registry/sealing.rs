//! What endpoints of earlier versions have in columns of its own each becomes `settings` and
//! `sealed`, in the transaction of the migration: nothing is ever there half.

use sqlx::any::AnyRow;

use serde::Deserialize;

use super::credentials::{Credentials, CustomHeaders};
use super::secrets::SigningSecret;
use super::settings::{self, StoredSettings};
use crate::connection::Transaction;
use crate::error::Result;
use crate::row;
use crate::secrets::{KeyId, Keyring};

/// Endpoints that are in memory at a time.
const BATCH: i64 = 500;
const NEXT: &str = "SELECT id, url, server_ca_certificate, headers, credentials, timeout_seconds, secret, \
    previous_secret, previous_secret_until_ms FROM endpoint WHERE id > $1 ORDER BY id LIMIT $2";
const SEAL: &str =
    "UPDATE endpoint SET settings = $1, sealed = $2, url = $3, search_url = $4 WHERE id = $5";

/// Credentials as they stood in a column.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    Basic(String, String),
    Bearer(String),
}

/// Seals what endpoints have; tells how many there are.
pub(crate) async fn seal_existing(tx: &mut Transaction, ring: &Keyring, key: KeyId) -> Result<u64> {
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let next = sqlx::query(NEXT).bind(&after).bind(BATCH);
        let rows = next.fetch_all(&mut **tx).await?;
        let Some(last) = rows.last() else {
            return Ok(count);
        };
        after = row::text(last, "id")?;
        for found in &rows {
            let id = row::text(found, "id")?;
            let url = settings::plain_url(&row::text(found, "url")?);
            let (open, secret) = read(found)?.columns()?;
            sqlx::query(SEAL)
                .bind(open)
                .bind(ring.seal(key, settings::field(&id), &secret)?)
                .bind(&url)
                .bind(url.to_lowercase())
                .bind(id)
                .execute(&mut **tx)
                .await?;
            count += 1;
        }
    }
}

fn read(found: &AnyRow) -> Result<StoredSettings> {
    let id = row::text(found, "id")?;
    let mut settings = StoredSettings::of_driver(settings::WEBHOOK);
    settings.set_url(&row::text(found, "url")?);
    let timeout = row::optional_number(found, "timeout_seconds")?;
    settings.set_timeout(timeout.and_then(|seconds| u32::try_from(seconds).ok()));
    let pem = row::optional_text(found, "server_ca_certificate")?;
    settings.set_server_ca(pem.as_deref());
    let headers = row::optional_text(found, "headers")?;
    let headers = headers
        .map(|json| written(&id, "headers", &json))
        .transpose()?;
    settings.set_headers(headers.map(CustomHeaders::new).as_ref());
    let kept = row::optional_text(found, "credentials")?;
    let kept = kept
        .map(|json| written(&id, "credentials", &json))
        .transpose()?;
    let credentials = kept.map(|kept| match kept {
        Kept::Basic(username, password) => Credentials::Basic { username, password },
        Kept::Bearer(token) => Credentials::Bearer { token },
    });
    settings.set_credentials(credentials.as_ref());
    let newest = SigningSecret::from_row(row::text(found, "secret")?);
    let previous = row::optional_text(found, "previous_secret")?;
    let until_ms = row::optional_number(found, "previous_secret_until_ms")?;
    settings.set_signing_secrets(&newest, previous.as_deref().zip(until_ms));
    Ok(settings)
}

/// The error names the endpoint and the place in the JSON, and nothing of it.
fn written<T: for<'de> Deserialize<'de>>(endpoint: &str, column: &str, json: &str) -> Result<T> {
    let read = serde_json::from_str(json);
    Ok(read.map_err(|error: serde_json::Error| {
        let (line, character) = (error.line(), error.column());
        let place =
            format!("endpoint `{endpoint}`, line {line}, column {character} of what is there");
        row::wrong(column, std::io::Error::other(place))
    })?)
}

//! The store, opened: with its schema, and with a token for whoever has none yet.

use std::io::{self, Write};

use anyhow::{Context, Result};
use dovecast_log::embedded::Embedded;
use dovecast_store::{DatabasePlace, NewToken, Store, StoreError};

use crate::config::{Config, LogKind, Role};

/// Goes on with a rotation of keys that was interrupted, while everything else begins.
fn resume_rotation(store: &Store) {
    let store = store.clone();
    tokio::spawn(async move {
        if let Err(error) = store.resume_rotation().await {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(
                error,
                "a rotation of keys was interrupted, and cannot go on: `dovecast secrets rotate` goes on with it"
            );
        }
    });
}

/// Opens the store of a dispatcher.
pub(super) async fn open(config: &Config, log: &Embedded) -> Result<Option<Store>> {
    if !config.has(Role::Dispatch) {
        return Ok(None);
    }
    let mut options = config.store_options();
    // Nobody else has a file, and all have the same Kafka.
    if let (DatabasePlace::Postgres(_), LogKind::Embedded) = (&options.place, config.log.kind) {
        options.log = format!("{:016x}", log.identity().await?);
    }
    let store = Store::open(&options).await.map_err(|error| {
        let place = match &error {
            StoreError::Secrets(_) => {
                "cannot open the store: something is wrong with the keys of secrets ([secrets] keys)"
            }
            _ => "cannot open the store ([store] url)",
        };
        anyhow::Error::from(error).context(place)
    })?;
    resume_rotation(&store);
    tracing::info!(place = %options.place, "the store is open");
    // Not a log line: those are kept, and read by others.
    let print = |made: &NewToken| {
        let mut out = io::stdout();
        writeln!(out, "admin token, shown this once: {}", made.secret)?;
        out.flush()
    };
    let made = store.first_admin_token("first start", print).await?;
    if let Some(made) = made {
        let made = made.context(
            "cannot print the admin token on standard output; it is not kept, the next start prints another",
        )?;
        tracing::warn!(
            token.id = %made.token.id,
            "an admin token was created and printed on standard output, this once"
        );
    }
    Ok(Some(store))
}

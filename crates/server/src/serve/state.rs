//! The store, opened: with its schema, and with a token for whoever has none yet.

use std::io::{self, Write};

use anyhow::{Context, Result};
use dovecast_log::embedded::Embedded;
use dovecast_store::{Place, Store};

use crate::config::{Config, LogKind, Role};

/// Opens the store of a dispatcher.
pub(super) async fn open(config: &Config, log: &Embedded) -> Result<Option<Store>> {
    if !config.has(Role::Dispatch) {
        return Ok(None);
    }
    let mut options = config.store_options();
    // Nobody else has a file, and all have the same Kafka.
    if let (Place::Postgres(_), LogKind::Embedded) = (&options.place, config.log.kind) {
        options.log = format!("{:016x}", log.identity().await?);
    }
    let store = Store::open(&options)
        .await
        .context("cannot open the store ([store] url)")?;
    tracing::info!(place = %options.place, "the store is open");
    if let Some(made) = store.first_admin_token("first start").await? {
        // Not a log line: those are kept, and read by others.
        writeln!(
            io::stdout(),
            "admin token, shown this once: {}",
            made.secret
        )
        .context("cannot print the admin token; it was made and is lost")?;
        tracing::warn!(
            token.id = %made.token.id,
            "an admin token was made and printed on standard output, this once"
        );
    }
    Ok(Some(store))
}

//! The store, opened: with its schema, and with a token for whoever has none yet.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::{env, fs};

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
    let mut options = config.store_options()?;
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
    first_token(config, &store).await?;
    Ok(Some(store))
}

/// Makes an admin token where there is none, and shows it once: on standard output, or, where that
/// is a journal, which others read and which is kept, in a file. It is no log line for the same
/// reason.
async fn first_token(config: &Config, store: &Store) -> Result<()> {
    let file = config.data_dir.join(TOKEN_FILE);
    let is_journal = is_journal();
    let show = |made: &NewToken| {
        if is_journal {
            return write_token(&file, &made.secret);
        }
        let mut out = io::stdout();
        writeln!(out, "admin token, shown this once: {}", made.secret)?;
        out.flush()
    };
    let Some(made) = store.first_admin_token("first start", show).await? else {
        return Ok(());
    };
    if is_journal {
        let made = made.with_context(|| {
            let file = file.display();
            format!("cannot write the admin token to `{file}`; it is not kept, the next start makes another")
        })?;
        tracing::warn!(
            token.id = %made.token.id,
            file = %file.display(),
            "an admin token was created and written to a file that root and the server's user can read: take it from there, and remove the file"
        );
        return Ok(());
    }
    let made = made.context(
        "cannot print the admin token on standard output; it is not kept, the next start prints another",
    )?;
    tracing::warn!(
        token.id = %made.token.id,
        "an admin token was created and printed on standard output, this once"
    );
    Ok(())
}

/// Name of the file of the first admin token, in the data directory.
const TOKEN_FILE: &str = "admin-token";

/// Whether standard output goes to systemd's journal, which says device and inode of the stream
/// (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(said) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stdout())
        .is_ok_and(|stream| said == format!("{}:{}", stream.st_dev, stream.st_ino))
}

/// Writes a token where nobody but the server's user and root can read it.
fn write_token(file: &Path, token: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    // What an earlier start has left is no token that is good; a link is not followed.
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

//! TLS to a real PostgreSQL that lets nobody in without it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dovecast_store::{DatabasePlace, KeySource, Store, StoreError, StoreOptions};
use dovecast_testkit::postgres::{PASSWORD, Postgres};

use crate::setup::{Kind, Test, cases, create, soon};

cases![
    a_server_is_used_whose_authority_and_name_are_right,
    a_server_of_another_authority_is_refused,
    a_server_with_another_name_is_refused,
    an_authority_that_cannot_be_read_is_named,
    who_wants_no_tls_is_told_what_the_server_says,
];

/// A server of its own, and the URL of a database in it; none where SQLite is tested.
fn server(test: &Test) -> Result<Option<(Postgres, String)>> {
    let Kind::Postgres(_) = test.kind else {
        return Ok(None);
    };
    let postgres = Postgres::start_with_tls()??;
    let url = postgres.database()?;
    Ok(Some((postgres, url)))
}

fn verified(url: &str, ca: &Path) -> String {
    format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display())
}

async fn open(url: &str) -> Result<Store, StoreError> {
    let place: DatabasePlace = url.parse()?;
    let mut options = StoreOptions::new(place);
    let keys = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls-secrets.key");
    options.keys = KeySource::File(keys);
    Store::open(&options).await
}

/// What is said where it cannot be opened: each of these, and not the password.
async fn is_refused(url: &str, says: &[&str]) -> Result<()> {
    let error = soon(open(url)).await?.err();
    let error = error.with_context(|| format!("`{url}` can be opened"))?;
    let debug = format!("{error:?}");
    let said = format!("{:#}", anyhow::Error::from(error));
    ensure!(
        !said.contains(PASSWORD) && !debug.contains(PASSWORD),
        "{said} {debug}"
    );
    for what in says {
        ensure!(said.contains(what), "`{said}` does not say `{what}`");
    }
    Ok(())
}

async fn a_server_is_used_whose_authority_and_name_are_right(test: Test) -> Result<()> {
    let Some((postgres, url)) = server(&test)? else {
        return Ok(());
    };
    let with_tls = verified(&url, postgres.ca_path()?);
    let (writer, reader) = (open(&with_tls).await?, open(&with_tls).await?);
    // On the connections of the pool, and on the one that listens.
    let seq = reader.last_change().await?;
    let account = writer.account_seen("1").await?;
    create(&writer, &account, "new", None).await?;
    soon(reader.changed(seq)).await?;
    let others = "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
        WHERE datname = current_database() AND NOT ssl";
    let others = postgres.query(&url, others)?;
    ensure!(others.trim() == "0", "{others}");
    Ok(())
}

async fn a_server_of_another_authority_is_refused(test: Test) -> Result<()> {
    let Some((postgres, url)) = server(&test)? else {
        return Ok(());
    };
    let another = Postgres::start_with_tls()??;
    let place: DatabasePlace = url.parse()?;
    let place = place.to_string();
    is_refused(
        &verified(&url, another.ca_path()?),
        &[&place, "certificate"],
    )
    .await?;
    // The system's authorities do not know it either.
    is_refused(
        &format!("{url}?sslmode=verify-full"),
        &[&place, "certificate"],
    )
    .await?;
    drop(postgres);
    Ok(())
}

async fn a_server_with_another_name_is_refused(test: Test) -> Result<()> {
    let Some((postgres, url)) = server(&test)? else {
        return Ok(());
    };
    let link = postgres.proxy()?;
    let elsewhere = postgres.url_through(&link, &url);
    let place: DatabasePlace = elsewhere.parse()?;
    let place = place.to_string();
    let ca = postgres.ca_path()?;
    is_refused(&verified(&elsewhere, ca), &[&place, "certificate", "name"]).await?;
    // Who does not ask for the name gets it, if the authority is right.
    let any_name = verified(&elsewhere, ca).replace("verify-full", "verify-ca");
    open(&any_name).await?.ping().await?;
    Ok(())
}

async fn an_authority_that_cannot_be_read_is_named(test: Test) -> Result<()> {
    let Some((_postgres, url)) = server(&test)? else {
        return Ok(());
    };
    let missing = test.dir.path().join("missing.pem");
    let said = missing.display().to_string();
    is_refused(&verified(&url, &missing), &[&said, "No such file"]).await
}

async fn who_wants_no_tls_is_told_what_the_server_says(test: Test) -> Result<()> {
    let Some((_postgres, url)) = server(&test)? else {
        return Ok(());
    };
    is_refused(&format!("{url}?sslmode=disable"), &["no encryption"]).await
}

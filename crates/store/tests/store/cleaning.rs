//! What was kept unsealed by earlier versions: sealed at the start, and no longer in any file.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result, ensure};
use dovecast_store::Store;
use serde_json::{Value, json};

use crate::cuts::until;
use crate::secrets::{SECRETS, expected, make, opened, secretive};
use crate::setup::{Kind, OpenTransaction, Test, cases};
use crate::upgrade::restore;

cases![
    what_earlier_versions_have_not_sealed_is_sealed_at_the_start,
    nodes_that_start_at_once_leave_nothing_to_be_cleaned,
    what_others_may_still_see_is_cleaned_when_they_have_ended,
];

/// Gives all endpoints of an earlier version secrets; returns their ids and signing secrets.
fn with_secrets(test: &Test) -> Result<Vec<String>> {
    restore(test)?;
    test.execute(
        "UPDATE endpoint SET url = 'https://u:geheim-url@example.org/' || id, headers = '[[\"x-key\",\"geheim-header\"]]', \
         credentials = '{\"basic\":[\"geheim-user\",\"geheim-pass\"]}', server_ca_certificate = 'PEM', timeout_seconds = 7, \
         previous_secret = 'whsec_before', previous_secret_until_ms = 9000000000000; \
         UPDATE endpoint SET search_url = url",
    )?;
    // What a planner knows of values is kept apart from them.
    test.execute("ANALYZE endpoint")?;
    let before = signing_secrets(test)?;
    ensure!(before.len() > 2, "{before:?}");
    Ok(before)
}

/// That no file has any of the secrets.
fn check_clean(test: &Test, before: &[String]) -> Result<()> {
    let all = copied(test)?;
    let signing = before.iter().filter_map(|row| row.split_once('|'));
    let signing = signing.map(|(_, secret)| secret);
    for text in SECRETS.into_iter().chain(["whsec_before"]).chain(signing) {
        ensure!(!is_in(&all, text), "`{text}` is in the database");
    }
    Ok(())
}

pub(crate) fn copied(test: &Test) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for table in ["endpoint", "feed", "secret_key", "dispatcher"] {
        bytes.extend(test.dump(table)?.into_bytes());
    }
    let directory = match &test.kind {
        Kind::Sqlite => test.dir.path().to_owned(),
        Kind::Postgres(postgres) => {
            // What is in memory still, and files that are used no more.
            test.execute("CHECKPOINT")?;
            let oid = "SELECT oid FROM pg_database WHERE datname = current_database()";
            let oid = postgres.query(&test.url, oid)?;
            postgres.data_directory().join("base").join(oid.trim())
        }
    };
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "secrets.key") {
            match fs::read(path) {
                Ok(content) => bytes.extend(content),
                // PostgreSQL removes what it uses no more.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(bytes)
}

pub(crate) fn is_in(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// Ids and signing secrets, as earlier versions have them.
pub(crate) fn signing_secrets(test: &Test) -> Result<Vec<String>> {
    let pair = "SELECT id || '|' || secret FROM endpoint ORDER BY id";
    match &test.kind {
        Kind::Sqlite => {
            let database = rusqlite::Connection::open(test.dir.path().join("state.db"))?;
            let mut statement = database.prepare(pair)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        }
        Kind::Postgres(postgres) => {
            let printed = postgres.query(&test.url, pair)?;
            Ok(printed.lines().map(|line| line.trim().to_owned()).collect())
        }
    }
}

/// Nodes that start at once, when nothing is left to be cleaned: what was in the way of one is
/// retried.
async fn nodes_once_clean(test: &Test, count: usize) -> Result<Vec<Store>> {
    let options = test.options()?;
    let open = |_| {
        let options = options.clone();
        tokio::spawn(async move { Store::open(&options).await })
    };
    let starting: Vec<_> = (0..count).map(open).collect();
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await??);
    }
    until(|| Ok((test.count("feed WHERE unclean = 0")? == 1).then_some(()))).await?;
    Ok(nodes)
}

async fn what_earlier_versions_have_not_sealed_is_sealed_at_the_start(test: Test) -> Result<()> {
    let before = with_secrets(&test)?;
    for store in nodes_once_clean(&test, 3).await? {
        let records = store.load_endpoints_after(None, 100).await?;
        ensure!(records.len() == before.len());
        for (record, before) in records.iter().zip(&before) {
            let (id, secret) = before.split_once('|').context("two columns")?;
            let mut wanted = expected(id, &[secret, "whsec_before"]);
            ensure!(record.endpoint.id.to_string() == id);
            let shown = format!("https://***@example.org/{id}");
            ensure!(record.endpoint.url.as_ref() == Some(&shown));
            ensure!(opened(record)? == wanted, "{wanted}");
            wanted = json!({
                "url": shown,
                "server_ca_certificate": "PEM",
                "timeout_seconds": 7,
            });
            let shown = Value::Object(record.endpoint.settings.clone());
            ensure!(shown == wanted, "{shown}");
            ensure!(record.endpoint.driver == "webhook");
            ensure!(record.previous_secret_until_ms == Some(9_000_000_000_000));
        }
        store.close().await;
    }
    check_clean(&test, &before)?;
    if let Kind::Postgres(postgres) = &test.kind {
        let columns = "SELECT COUNT(*) FROM pg_stats WHERE tablename = 'endpoint'";
        ensure!(postgres.query(&test.url, columns)?.trim() != "0");
        let known = "SELECT * FROM pg_stats WHERE tablename = 'endpoint'";
        let known = postgres.query(&test.url, known)?;
        ensure!(
            known.contains("example.org") && !known.contains("geheim"),
            "{known}"
        );
    }
    Ok(())
}

async fn nodes_that_start_at_once_leave_nothing_to_be_cleaned(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    make(&store, &account, &secretive("a")).await?;
    store.close().await;
    for _ in 0..5 {
        test.execute("UPDATE feed SET unclean = 1")?;
        for store in nodes_once_clean(&test, 6).await? {
            store.close().await;
        }
        ensure!(test.count("feed WHERE unclean = 0")? == 1);
    }
    Ok(())
}

/// Sees the database as it is now, until it is ended.
enum Onlooker {
    Sqlite(rusqlite::Connection),
    Postgres(OpenTransaction),
}

impl Onlooker {
    async fn start(test: &Test) -> Result<Self> {
        match &test.kind {
            Kind::Sqlite => {
                let path = test.dir.path().join("state.db");
                let connection = rusqlite::Connection::open(path)?;
                connection
                    .execute_batch("PRAGMA journal_mode = WAL; BEGIN; SELECT * FROM endpoint")?;
                Ok(Self::Sqlite(connection))
            }
            Kind::Postgres(_) => {
                let looks = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
                OpenTransaction::begin(test, looks)
                    .await
                    .map(Self::Postgres)
            }
        }
    }

    fn end(self, test: &Test) -> Result<()> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch("COMMIT")?),
            Self::Postgres(transaction) => transaction.end(test),
        }
    }
}

async fn what_others_may_still_see_is_cleaned_when_they_have_ended(test: Test) -> Result<()> {
    let before = with_secrets(&test)?;
    let onlooker = Onlooker::start(&test).await?;
    let store = test.open().await?;
    ensure!(
        test.count("feed WHERE unclean = 0")? == 0,
        "it is said to be clean"
    );
    store.close().await;
    onlooker.end(&test)?;
    for store in nodes_once_clean(&test, 1).await? {
        store.close().await;
    }
    check_clean(&test, &before)
}

//! Secrets at rest: what a copy of the database gives away, and what is said where a key is not
//! there.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dovecast_store::{
    Account, Credentials, CustomHeaders, EndpointOrder, EndpointQuery, EndpointRecord, KeySource,
    NewEndpoint, Receiver, Search, SecretsError, Store, StoreError,
};
use serde_json::{Value, json};

use crate::cuts::until;
use crate::setup::{Kind, Test, cases, create, endpoint};
use crate::upgrade::restore;

cases![
    a_copy_of_the_database_gives_no_secret_away,
    what_earlier_versions_have_not_sealed_is_sealed_at_the_start,
    nodes_that_start_at_once_leave_nothing_to_be_cleaned,
    a_user_in_a_url_is_shown_and_not_kept_beside,
    without_its_key_a_database_is_not_opened_and_no_other_key_is_made,
    a_second_node_with_a_key_of_its_own_does_not_start,
    nodes_that_start_at_once_share_one_key,
    an_endpoint_that_cannot_be_opened_is_an_error_and_harms_no_other,
];

/// All that is secret of [`secretive`], in pieces that stand nowhere else.
pub(crate) const SECRETS: [&str; 4] = ["geheim-url", "geheim-header", "geheim-user", "geheim-pass"];

/// An endpoint with all kinds of secrets.
pub(crate) fn secretive(name: &str) -> NewEndpoint {
    let header = ("x-key".to_owned(), "geheim-header".to_owned());
    NewEndpoint {
        receiver: Receiver::Webhook(format!("https://u:geheim-url@example.org/{name}")),
        headers: Some(CustomHeaders::new(vec![header])),
        credentials: Some(Credentials::Basic {
            username: "geheim-user".to_owned(),
            password: "geheim-pass".to_owned(),
        }),
        ..endpoint(name)
    }
}

/// What the driver gets of [`secretive`], with these signing secrets.
pub(crate) fn expected(name: &str, signing: &[&str]) -> Value {
    json!({
        "url": format!("https://u:geheim-url@example.org/{name}"),
        "headers": [["x-key", "geheim-header"]],
        "authorization": {"type": "basic", "username": "geheim-user", "password": "geheim-pass"},
        "signing_secrets": signing,
    })
}

/// What the driver gets.
pub(crate) fn opened(record: &EndpointRecord) -> Result<Value> {
    match &record.secrets {
        Ok(secrets) => Ok(Value::Object(secrets.expose().clone())),
        Err(why) => anyhow::bail!("{}: {why}", record.endpoint.name),
    }
}

/// Everything that somebody gets who copies the database.
fn copied(test: &Test) -> Result<Vec<u8>> {
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

fn is_in(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// Why a store cannot be opened.
async fn refused(test: &Test) -> Result<SecretsError> {
    match Store::open(&test.options()?).await {
        Ok(_) => anyhow::bail!("the store can be opened"),
        Err(StoreError::Secrets(error)) => Ok(error),
        Err(error) => Err(error.into()),
    }
}

async fn current_key(store: &Store) -> Result<String> {
    let keys = store.secret_keys().await?;
    let current = keys.into_iter().find(|key| key.is_current);
    Ok(current.context("no key")?.id.to_string())
}

pub(crate) fn list() -> EndpointQuery {
    EndpointQuery {
        search: Search::All,
        order: EndpointOrder::Url,
        descending: false,
        limit: 10,
        offset: 0,
    }
}

pub(crate) async fn make(
    store: &Store,
    account: &Account,
    new: &NewEndpoint,
) -> Result<(String, Value)> {
    let made = store.create_endpoint(account.id, new, u64::MAX).await?;
    let loaded = store.load_endpoints(&[made.endpoint.id]).await?;
    let secret = made.secret.context("a secret")?.expose().to_owned();
    Ok((secret, opened(loaded.first().context("it is gone")?)?))
}

async fn a_copy_of_the_database_gives_no_secret_away(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let (signing, found) = make(&store, &account, &secretive("a")).await?;
    ensure!(found == expected("a", &[&signing]), "{found}");
    let id = store.endpoints(account.id, &list()).await?.items[0].id;
    let second = store.rotate_secret(account.id, id, 60_000).await?;
    let all = copied(&test)?;
    for text in SECRETS.iter().copied().chain([&*signing, second.expose()]) {
        ensure!(!is_in(&all, text), "`{text}` is in the database");
    }
    ensure!(is_in(&all, "https://example.org/a"), "nothing was copied");
    store.close().await;
    let store = test.open().await?;
    let loaded = store.load_endpoints(&[id]).await?;
    let found = opened(&loaded[0])?;
    ensure!(
        found == expected("a", &[second.expose(), &signing]),
        "{found}"
    );
    Ok(())
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
    restore(&test)?;
    test.execute(
        "UPDATE endpoint SET url = 'https://u:geheim-url@example.org/' || id, headers = '[[\"x-key\",\"geheim-header\"]]', \
         credentials = '{\"basic\":[\"geheim-user\",\"geheim-pass\"]}', server_ca_certificate = 'PEM', timeout_seconds = 7, \
         previous_secret = 'whsec_before', previous_secret_until_ms = 9000000000000; \
         UPDATE endpoint SET search_url = url",
    )?;
    // What a planner knows of values is kept apart from them.
    test.execute("ANALYZE endpoint")?;
    let before = signing_secrets(&test)?;
    ensure!(before.len() > 2, "{before:?}");
    for store in nodes_once_clean(&test, 3).await? {
        let records = store.load_endpoints_after(None, 100).await?;
        ensure!(records.len() == before.len());
        for (record, before) in records.iter().zip(&before) {
            let (id, secret) = before.split_once('|').context("two columns")?;
            let mut wanted = expected(id, &[secret, "whsec_before"]);
            ensure!(record.endpoint.id.to_string() == id);
            ensure!(record.endpoint.url.as_deref() == wanted["url"].as_str());
            ensure!(opened(record)? == wanted, "{wanted}");
            wanted = json!({
                "url": format!("https://***@example.org/{id}"),
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
    let all = copied(&test)?;
    let signing = before.iter().filter_map(|row| row.split_once('|'));
    let signing = signing.map(|(_, secret)| secret);
    for text in SECRETS.into_iter().chain(["whsec_before"]).chain(signing) {
        ensure!(!is_in(&all, text), "`{text}` is in the database");
    }
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

async fn a_user_in_a_url_is_shown_and_not_kept_beside(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    make(&store, &account, &secretive("b")).await?;
    create(&store, &account, "a", None).await?;
    let found = store.endpoints(account.id, &list()).await?;
    let urls: Vec<_> = found
        .items
        .iter()
        .filter_map(|item| item.url.as_deref())
        .collect();
    let with_user = "https://u:geheim-url@example.org/b";
    ensure!(urls == ["https://example.org/a", with_user], "{urls:?}");
    let shown = store.endpoint(account.id, found.items[1].id).await?;
    ensure!(shown.is_some_and(|shown| shown.url.as_deref() == Some(with_user)));
    for (text, count) in [("example.org/B", 1), ("geheim", 0), ("***", 0)] {
        let query = EndpointQuery {
            search: Search::Either(text.to_owned()),
            ..list()
        };
        let total = store.endpoints(account.id, &query).await?.total;
        ensure!(total == count, "{text}: {total}");
    }
    Ok(())
}

async fn without_its_key_a_database_is_not_opened_and_no_other_key_is_made(
    test: Test,
) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    make(&store, &account, &secretive("a")).await?;
    let key = current_key(&store).await?;
    store.close().await;
    let file = test.dir.path().join("secrets.key");
    let kept = fs::read(&file)?;
    let check = |error: &SecretsError| {
        let is_said = matches!(error, SecretsError::NotOfDatabase { .. });
        let said = error.to_string();
        ensure!(is_said && said.contains(&key), "{said}");
        ensure!(said.contains(&file.display().to_string()), "{said}");
        anyhow::Ok(())
    };
    fs::remove_file(&file)?;
    check(&refused(&test).await?)?;
    ensure!(!file.exists(), "another key was made");
    write(&file, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")?;
    check(&refused(&test).await?)?;
    // With another key besides it is there.
    let both = [&kept[..], &fs::read(&file)?].concat();
    write(&file, both)?;
    let store = test.open().await?;
    ensure!(current_key(&store).await? == key);
    let records = store.load_endpoints_after(None, 10).await?;
    opened(&records[0])?;
    Ok(())
}

/// Writes a file of keys.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

async fn a_second_node_with_a_key_of_its_own_does_not_start(test: Test) -> Result<()> {
    let store = test.open().await?;
    let key = current_key(&store).await?;
    let own = test.dir.path().join("own.key");
    let mut options = test.options()?;
    options.keys = KeySource::File(own.clone());
    let error = Store::open(&options).await.err().context("it starts")?;
    ensure!(error.to_string().contains(&key), "{error}");
    ensure!(!own.exists(), "a key was made that is good for nothing");
    options.keys = KeySource::Nowhere;
    let error = Store::open(&options).await.err().context("it starts")?;
    let is_said = matches!(error, StoreError::Secrets(SecretsError::NoSource));
    ensure!(is_said, "{error}");
    Ok(())
}

async fn nodes_that_start_at_once_share_one_key(test: Test) -> Result<()> {
    let options = test.options()?;
    let nodes: Vec<_> = (0..4)
        .map(|_| {
            let options = options.clone();
            tokio::spawn(async move { Store::open(&options).await })
        })
        .collect();
    let mut ids = Vec::new();
    for node in nodes {
        let store = node.await??;
        let keys = store.secret_keys().await?;
        ensure!(keys.len() == 1 && keys[0].is_here, "{keys:?}");
        ids.push(current_key(&store).await?);
    }
    ids.dedup();
    ensure!(ids.len() == 1, "{ids:?}");
    Ok(())
}

async fn an_endpoint_that_cannot_be_opened_is_an_error_and_harms_no_other(
    test: Test,
) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    for name in ["a", "b", "c"] {
        make(&store, &account, &secretive(name)).await?;
    }
    // What belongs to another row cannot be opened, nor what is not sealed.
    test.execute(
        "UPDATE endpoint SET sealed = (SELECT sealed FROM endpoint WHERE name = 'b') WHERE name = 'a'; \
         UPDATE endpoint SET sealed = '{}' WHERE name = 'c'",
    )?;
    let key = current_key(&store).await?;
    let records = store.load_endpoints_after(None, 10).await?;
    for (record, expected) in records.iter().zip([Some(&*key), None, Some("not sealed")]) {
        let id = record.endpoint.id.to_string();
        match (expected, &record.secrets) {
            (None, Ok(_)) => {}
            (Some(part), Err(why)) => {
                ensure!(why.contains(part) && why.contains(&id), "{why}");
                ensure!(!why.contains("geheim"), "{why}");
            }
            (_, secrets) => anyhow::bail!("{}: {secrets:?}", record.endpoint.name),
        }
    }
    // Nor is it written over with less.
    let id = records[0].endpoint.id;
    let rotated = store.rotate_secret(account.id, id, 0).await;
    ensure!(
        matches!(rotated, Err(StoreError::Secrets(_))),
        "{rotated:?}"
    );
    let shown = store
        .endpoint(account.id, id)
        .await?
        .context("it is gone")?;
    let hidden = Some("https://***@example.org/a");
    ensure!(shown.url.as_deref() == hidden, "{shown:?}");
    ensure!(store.delete_endpoint(account.id, id).await?);
    Ok(())
}

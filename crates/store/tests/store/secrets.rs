//! Secrets at rest: what a copy of the database gives away, and what is said where a key is not
//! there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dovecast_store::{
    Account, Credentials, CustomHeaders, EndpointOrder, EndpointQuery, EndpointRecord, KeySource,
    NewEndpoint, Receiver, Search, SecretsError, Store, StoreError,
};
use serde_json::{Value, json};

use crate::cleaning::{copied, is_in};
use crate::setup::{Test, cases, create, endpoint};

cases![
    a_copy_of_the_database_gives_no_secret_away,
    a_user_in_a_url_is_neither_shown_nor_kept_beside,
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

async fn a_user_in_a_url_is_neither_shown_nor_kept_beside(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    make(&store, &account, &secretive("b")).await?;
    create(&store, &account, "a", None).await?;
    let found = store.endpoints(account.id, &list()).await?;
    let urls: Vec<_> = found
        .items
        .iter()
        .filter_map(|item| item.url.as_deref())
        .collect();
    let with_user = "https://***@example.org/b";
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

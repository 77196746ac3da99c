//! The place of the keys, while a rotation is under way: files that are put back, processes that
//! are killed, nodes that rotate at once, and places that are only read.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::Ledger;
use dovecast_store::{CreatedEndpoint, KeyId, KeySource, SecretsError, Store, StoreError};

use crate::rotation::{LIFE_MS, NEW_KEY, check, fill, keys, node_with_a_copy};
use crate::secrets::{opened, write};
use crate::setup::{Kind, Test, cases, soon};
use crate::{KEYS_VARIABLE, NOT_TEXT_VARIABLE};

cases![
    a_key_that_is_in_no_file_seals_nothing,
    a_key_that_everything_is_sealed_with_is_written_back,
    a_file_that_was_removed_is_made_again_by_a_rotation,
    what_a_killed_process_has_not_taken_out_is_taken_out_at_the_start,
    nodes_that_rotate_at_once_lose_no_key,
    a_dispatcher_without_the_current_key_does_not_live,
    keys_of_somebody_else_are_only_read,
    a_value_that_is_no_text_is_not_shown,
    a_key_that_is_put_back_opens_what_it_has_sealed_at_once,
];

async fn current(store: &Store) -> Result<KeyId> {
    let keys = store.secret_keys().await?;
    let current = keys.into_iter().find(|key| key.is_current);
    Ok(current.context("no key")?.id)
}

/// The file has the current key, and everything can be opened with what it has.
async fn check_file(test: &Test, made: &[CreatedEndpoint]) -> Result<()> {
    let store = test.open().await?;
    let current = current(&store).await?.to_string();
    let file = fs::read_to_string(test.dir.path().join("secrets.key"))?;
    ensure!(file.contains(&current), "{file}");
    check(&store, made).await?;
    store.close().await;
    Ok(())
}

/// A store that has read a further key, three endpoints, the file of keys, and what was in it
/// before.
async fn opened_with_a_further_key(
    test: &Test,
) -> Result<(Store, Vec<CreatedEndpoint>, PathBuf, String)> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    store.close().await;
    let file = test.dir.path().join("secrets.key");
    let first = fs::read_to_string(&file)?;
    write(&file, format!("{first}{NEW_KEY}"))?;
    Ok((test.open().await?, made, file, first))
}

async fn a_key_that_is_in_no_file_seals_nothing(test: Test) -> Result<()> {
    let (store, made, file, first) = opened_with_a_further_key(&test).await?;
    ensure!(store.secret_keys().await?.len() == 2);
    // In memory alone from now on, as after a rotation that some node has held up.
    write(&file, &first)?;
    let done = store.rotate_secret_key().await?;
    let left = fs::read_to_string(&file)?;
    ensure!(
        left.starts_with(&first) && left.lines().count() == 2,
        "{left}"
    );
    ensure!(left.contains(&done.key.to_string()), "{left}");
    ensure!(!left.contains(NEW_KEY.trim_end()), "{left}");
    check(&store, &made).await?;
    store.close().await;
    check_file(&test, &made).await
}

async fn a_key_that_everything_is_sealed_with_is_written_back(test: Test) -> Result<()> {
    for is_resumed in [true, false] {
        let test = Test::new(test.kind.clone())?;
        let (store, made, file, first) = opened_with_a_further_key(&test).await?;
        let new = store.secret_keys().await?.pop().context("two keys")?.id;
        // As between steps 2 and 3, when somebody puts the file of before back.
        test.execute(&format!(
            "UPDATE feed SET key_id = '{new}'; INSERT INTO secret_key (id, first_ms) VALUES ('{new}', 9000000000000)"
        ))?;
        write(&file, &first)?;
        let done = if is_resumed {
            store.resume_rotation().await?.context("nothing is left")?
        } else {
            store.rotate_secret_key().await?
        };
        ensure!((done.key, done.sealed) == (new, 3), "{done:?}");
        let left = fs::read_to_string(&file)?;
        ensure!(left.starts_with(&first), "{left}");
        store.close().await;
        check_file(&test, &made).await?;
    }
    Ok(())
}

async fn a_file_that_was_removed_is_made_again_by_a_rotation(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    let file = test.dir.path().join("secrets.key");
    let first = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    store.rotate_secret_key().await?;
    let left = fs::read_to_string(&file)?;
    ensure!(
        left.starts_with(&first) && left.lines().count() == 2,
        "{left}"
    );
    store.close().await;
    check_file(&test, &made).await
}

async fn what_a_killed_process_has_not_taken_out_is_taken_out_at_the_start(
    test: Test,
) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    let file = test.dir.path().join("secrets.key");
    let first = fs::read_to_string(&file)?;
    store.rotate_secret_key().await?;
    store.rotate_secret_key().await?;
    store.close().await;
    let after = fs::read_to_string(&file)?;
    ensure!(!after.contains(&first), "{after}");
    write(&file, format!("{first}{after}"))?;
    let beside = test.dir.path().join("secrets.key.0123456789abcdef.new");
    write(&beside, &after)?;
    let store = test.open().await?;
    ensure!(!beside.exists(), "keys are left beside the file");
    ensure!(store.resume_rotation().await?.is_none());
    ensure!(fs::read_to_string(&file)? == after);
    check(&store, &made).await?;
    Ok(())
}

async fn nodes_that_rotate_at_once_lose_no_key(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 20).await?;
    let other = match test.kind {
        Kind::Sqlite => store.clone(),
        Kind::Postgres(_) => test.open().await?,
    };
    for _ in 0..3 {
        let rotating = [&store, &other].map(|node| {
            let node = node.clone();
            tokio::spawn(async move { node.rotate_secret_key().await })
        });
        let mut count = 0;
        for done in rotating {
            match soon(done).await?? {
                Ok(_) => count += 1,
                Err(StoreError::Secrets(SecretsError::AnotherRotation)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        ensure!(count > 0, "neither was done");
        for node in [&store, &other] {
            check(node, &made).await?;
        }
    }
    store.close().await;
    other.close().await;
    check_file(&test, &made).await
}

async fn a_dispatcher_without_the_current_key_does_not_live(test: Test) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        // A file has one process.
        return Ok(());
    };
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 3).await?;
    // It has begun, and nobody knows of it yet; or it was cut off for a while.
    let (other, file, copy) = node_with_a_copy(&test).await?;
    let done = store.rotate_secret_key().await?;
    let said = other.beat(0, LIFE_MS).await.err().context("it lives")?;
    let said = said.to_string();
    ensure!(said.contains(&done.key.to_string()), "{said}");
    ensure!(said.contains(&copy.display().to_string()), "{said}");
    ensure!(test.count("dispatcher")? == 0);
    let said = other.check_writable().await.err().context("it is ready")?;
    ensure!(said.to_string().contains(&done.key.to_string()), "{said}");
    write(&copy, fs::read(&file)?)?;
    other.beat(0, LIFE_MS).await?;
    other.check_writable().await?;
    ensure!(test.count("dispatcher")? == 1);
    check(&other, &made).await?;
    Ok(())
}

async fn keys_of_somebody_else_are_only_read(test: Test) -> Result<()> {
    let mut options = test.options()?;
    options.keys = KeySource::Environment(KEYS_VARIABLE.to_owned());
    let store = Store::open(&options).await?;
    let account = store.account_seen("1").await?;
    let made = fill(&store, &account, 3).await?;
    let refused = store.rotate_secret_key().await.err().context("a new key")?;
    let is_said = matches!(refused, StoreError::Secrets(SecretsError::NoNewKey { .. }));
    ensure!(
        is_said && refused.to_string().contains(KEYS_VARIABLE),
        "{refused}"
    );
    ensure!(keys(&store).await? == [(true, true, false, 3)]);
    ensure!(!test.dir.path().join("secrets.key").exists());
    check(&store, &made).await?;
    Ok(())
}

async fn a_value_that_is_no_text_is_not_shown(test: Test) -> Result<()> {
    let mut options = test.options()?;
    options.keys = KeySource::Environment(NOT_TEXT_VARIABLE.to_owned());
    let error = Store::open(&options).await.err().context("it opens")?;
    let shown = format!("{error:?}");
    let said = format!("{:#} {shown}", anyhow::Error::from(error));
    ensure!(said.contains(NOT_TEXT_VARIABLE), "{said}");
    ensure!(said.contains("is not UTF-8"), "{said}");
    ensure!(!said.contains("geheim"), "{said}");
    Ok(())
}

async fn a_key_that_is_put_back_opens_what_it_has_sealed_at_once(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let made = fill(&store, &account, 2).await?;
    let ids: Vec<_> = made.iter().map(|made| made.endpoint.id).collect();
    let file = test.dir.path().join("secrets.key");
    let first = fs::read_to_string(&file)?;
    test.execute("CREATE TABLE kept AS SELECT id, sealed FROM endpoint WHERE name = 'e0'")?;
    store.rotate_secret_key().await?;
    store.close().await;
    let both = fs::read_to_string(&file)?;
    write(&file, both.replace(&first, ""))?;
    // A row that somebody has put back, from before.
    test.execute("UPDATE endpoint SET sealed = (SELECT sealed FROM kept) WHERE name = 'e0'")?;
    let store = test.open().await?;
    let mut changes = store.key_changes();
    changes.mark_unchanged();
    let records = store.load_endpoints(&ids).await?;
    let locked = records.iter().filter(|record| record.secrets.is_err());
    ensure!(locked.count() == 1);
    let hidden = store
        .endpoint(account.id, ids[0])
        .await?
        .context("it is gone")?;
    ensure!(
        hidden.url.as_deref() == Some("https://***@example.org/e0"),
        "{hidden:?}"
    );
    // As from a copy of the key that somebody has found.
    write(&file, &both)?;
    for record in &store.load_endpoints(&ids).await? {
        opened(record)?;
    }
    ensure!(changes.has_changed()?, "nobody is told");
    let shown = store
        .endpoint(account.id, ids[0])
        .await?
        .context("it is gone")?;
    ensure!(shown.url == made[0].endpoint.url, "{shown:?}");
    Ok(())
}

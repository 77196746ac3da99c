//! Opening: the schema, several at once, and what is said where it fails.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use dovecast_store::{DatabasePlace, Store, StoreError, StoreOptions};
use dovecast_testkit::postgres::{PASSWORD, Postgres};

use crate::setup::{Kind, Test, cases, create, soon};

cases![
    what_is_there_is_there_after_it_is_opened_again,
    several_open_a_new_one_at_once,
    a_newer_schema_is_refused_and_left_alone,
    no_error_shows_a_password,
    the_file_is_for_its_owner_only,
    a_file_that_is_no_database_is_said_to_be_none,
    a_database_that_was_away_is_used_again_when_it_is_back,
];

async fn what_is_there_is_there_after_it_is_opened_again(test: Test) -> Result<()> {
    let (store, account, application) = test.filled().await?;
    store.close().await;
    let store = test.open().await?;
    store.ping().await?;
    ensure!(store.account_seen(&account.number).await? == account);
    ensure!(store.application(application.id).await? == Some(application));
    Ok(())
}

async fn several_open_a_new_one_at_once(test: Test) -> Result<()> {
    let options = test.options()?;
    let opening: Vec<_> = (0..4)
        .map(|_| {
            let options = options.clone();
            tokio::spawn(async move { Store::open(&options).await })
        })
        .collect();
    for store in opening {
        store.await??.ping().await?;
    }
    Ok(())
}

async fn a_newer_schema_is_refused_and_left_alone(test: Test) -> Result<()> {
    test.filled().await?.0.close().await;
    test.execute("UPDATE schema_version SET version = version + 100")?;
    let refused = Store::open(&test.options()?).await;
    let error = refused.err().map(|error| error.to_string());
    let error = error.unwrap_or_default();
    ensure!(
        error.contains("this dovecast knows versions up to"),
        "{error}"
    );
    test.execute("UPDATE schema_version SET version = version - 100")?;
    ensure!(test.open().await?.applications(10, 0).await?.total == 1);
    Ok(())
}

async fn no_error_shows_a_password(test: Test) -> Result<()> {
    let wrong = match &test.kind {
        Kind::Sqlite => "sqlite:/dev/null/state.db".to_owned(),
        Kind::Postgres(_) => format!("{}-not-there", test.url),
    };
    let wrong_user = test.url.replace("//dovecast:", "//nobody:");
    for url in [wrong, wrong_user.replace("sqlite:", "sqlite:/proc")] {
        let place: DatabasePlace = url.parse()?;
        let error = Store::open(&StoreOptions::new(place)).await.err();
        let Some(error) = error else {
            anyhow::bail!("`{url}` can be opened");
        };
        let said = format!("{error} {error:?}");
        let chained = format!("{:?}", anyhow::Error::from(error));
        ensure!(!chained.contains(PASSWORD), "{chained}");
        ensure!(!said.contains(PASSWORD), "{said}");
    }
    Ok(())
}

async fn the_file_is_for_its_owner_only(test: Test) -> Result<()> {
    let (store, ..) = test.filled().await?;
    let Kind::Sqlite = test.kind else {
        return Ok(());
    };
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let mode = std::fs::metadata(test.dir.path().join(name))?.permissions();
        ensure!(mode.mode() & 0o777 == 0o600, "{name}: {mode:?}");
    }
    drop(store);
    let beside: StoreError = match Store::open(&StoreOptions::new(
        format!("sqlite:{}", test.dir.path().display()).parse()?,
    ))
    .await
    {
        Ok(_) => anyhow::bail!("a directory is no database"),
        Err(error) => error,
    };
    let said = beside.to_string();
    ensure!(said.contains("cannot open"), "{said}");
    Ok(())
}

async fn a_file_that_is_no_database_is_said_to_be_none(test: Test) -> Result<()> {
    let Kind::Sqlite = test.kind else {
        return Ok(());
    };
    let path = test.dir.path().join("other.db");
    std::fs::write(&path, vec![0xa5; 20_000])?;
    let options = StoreOptions::new(format!("sqlite:{}", path.display()).parse()?);
    match Store::open(&options).await {
        Ok(_) => anyhow::bail!("a file of anything is no database"),
        Err(error) => {
            let said = format!("{:#}", anyhow::Error::from(error));
            ensure!(said.ends_with("file is not a database"), "{said}");
        }
    }
    ensure!(
        std::fs::read(&path)? == vec![0xa5; 20_000],
        "it was written to"
    );
    Ok(())
}

async fn a_database_that_was_away_is_used_again_when_it_is_back(test: Test) -> Result<()> {
    let Kind::Postgres(_) = test.kind else {
        return Ok(());
    };
    // Others use the one of the test.
    let mut postgres = Postgres::start()??;
    let mut options = StoreOptions::new(postgres.database()?.parse()?);
    options.keys = test.keys();
    options.connect_timeout = std::time::Duration::from_secs(2);
    let (writer, reader) = (Store::open(&options).await?, Store::open(&options).await?);
    let account = writer.account_seen("1").await?;
    create(&writer, &account, "before", None).await?;
    let seq = reader.last_change().await?;
    postgres.stop()?;
    ensure!(writer.ping().await.is_err());
    let refused = create(&writer, &account, "meanwhile", None).await;
    ensure!(refused.is_err());
    postgres.start_again()?;
    create(&writer, &account, "after", None).await?;
    soon(reader.changed(seq)).await?;
    ensure!(!writer.is_name_taken(account.id, "meanwhile", None).await?);
    ensure!(writer.is_name_taken(account.id, "before", None).await?);
    Ok(())
}

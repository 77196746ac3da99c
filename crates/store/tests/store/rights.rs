//! A role of PostgreSQL that loses rights which are useful, and not needed.

use anyhow::{Context, Result, ensure};
use dovecast_dispatch::ledger::Ledger;
use dovecast_store::{DatabasePlace, Store, StoreOptions};

use crate::setup::{Kind, Test, cases};

cases![
    a_role_that_may_not_ask_for_the_timeline_any_more_lives_on,
    what_a_role_may_not_write_anew_is_left_for_the_owner_of_the_database,
];

/// Options of a role that may do no more than it has to.
fn as_role(test: &Test, name: &str) -> Result<StoreOptions> {
    let role = format!("{name}_{}", std::process::id());
    test.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'plain'; GRANT ALL ON SCHEMA public TO {role}"
    ))?;
    let mut url = url::Url::parse(&test.url)?;
    let is_set = url
        .set_username(&role)
        .and_then(|()| url.set_password(Some("plain")));
    ensure!(is_set.is_ok(), "a role in {url}");
    let mut options = test.options()?;
    options.place = url.as_str().parse::<DatabasePlace>()?;
    Ok(options)
}

async fn a_role_that_may_not_ask_for_the_timeline_any_more_lives_on(test: Test) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        // A file has no roles.
        return Ok(());
    };
    let options = as_role(&test, "plain")?;
    let store = Store::open(&options).await?;
    store.beat(0, 50_000).await?;
    let ask = "FUNCTION pg_walfile_name(pg_lsn), pg_current_wal_lsn()";
    test.execute(&format!("REVOKE EXECUTE ON {ask} FROM PUBLIC"))?;
    for now_ms in 1..4 {
        store.beat(now_ms, 50_000 + now_ms).await?;
    }
    ensure!(store.claim_owed(5, 10).await?.is_empty());
    store.record(&[]).await?;
    // And it is asked for again as soon as it may be.
    test.execute(&format!("GRANT EXECUTE ON {ask} TO PUBLIC"))?;
    store.beat(9, 50_009).await?;
    store.beat(10, 50_010).await?;
    ensure!(test.count("dispatcher")? == 1);
    Ok(())
}

async fn what_a_role_may_not_write_anew_is_left_for_the_owner_of_the_database(
    test: Test,
) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        return Ok(());
    };
    let options = as_role(&test, "tables")?;
    // After each start as what the database says of itself: 1 is all, 2 the statistics alone.
    Store::open(&options).await?.close().await;
    test.execute("UPDATE feed SET unclean = 1")?;
    Store::open(&options).await?.close().await;
    ensure!(test.count("feed WHERE unclean = 2")? == 1);
    let (_, database) = test.url.rsplit_once('/').context("a database")?;
    let role = format!("tables_{}", std::process::id());
    test.execute(&format!("ALTER DATABASE {database} OWNER TO {role}"))?;
    Store::open(&options).await?.close().await;
    ensure!(test.count("feed WHERE unclean = 0")? == 1);
    Ok(())
}

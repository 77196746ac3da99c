//! A role of PostgreSQL that loses rights which are useful, and not needed.

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger};
use dovecast_store::{Place, Store};

use crate::setup::{Kind, Test, cases};

cases![a_role_that_may_not_ask_for_the_timeline_any_more_lives_on];

async fn a_role_that_may_not_ask_for_the_timeline_any_more_lives_on(test: Test) -> Result<()> {
    let Kind::Postgres(_) = &test.kind else {
        // A file has no roles.
        return Ok(());
    };
    let role = format!("plain_{}", std::process::id());
    test.execute(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'plain'; GRANT ALL ON SCHEMA public TO {role}"
    ))?;
    let mut url = url::Url::parse(&test.url)?;
    let is_set = url
        .set_username(&role)
        .and_then(|()| url.set_password(Some("plain")));
    ensure!(is_set.is_ok(), "a role in {url}");
    let mut options = test.options()?;
    options.place = url.as_str().parse::<Place>()?;
    let store = Store::open(&options).await?;
    store.beat(0, 50_000).await?;
    let ask = "FUNCTION pg_walfile_name(pg_lsn), pg_current_wal_lsn()";
    test.execute(&format!("REVOKE EXECUTE ON {ask} FROM PUBLIC"))?;
    for now_ms in 1..4 {
        store.beat(now_ms, 50_000 + now_ms).await?;
    }
    ensure!(store.claim_owed(5, 10).await?.is_empty());
    store.record(Happened::default()).await?;
    // And it is asked for again as soon as it may be.
    test.execute(&format!("GRANT EXECUTE ON {ask} TO PUBLIC"))?;
    store.beat(9, 50_009).await?;
    store.beat(10, 50_010).await?;
    ensure!(test.count("dispatcher")? == 1);
    Ok(())
}

//! A claim whose answer is lost: what it claimed is claimed again, though the one that claimed it
//! lives.

use std::time::Duration;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger, OwedRange, RangeId};
use dovecast_notification::EndpointId;
use dovecast_store::Store;
use uuid::Uuid;

use crate::cuts::{Linked, until};
use crate::setup::{self, SLEEPING, Test, cases, soon};

cases![
    what_a_claim_without_an_answer_has_claimed_is_claimed_again,
    what_was_claimed_and_not_known_to_be_committed_is_claimed_again,
];

const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql \
    AS $$ BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$;";

async fn what_a_claim_without_an_answer_has_claimed_is_claimed_again(test: Test) -> Result<()> {
    let slow = |table: &str| {
        format!(
            "CREATE TRIGGER slow BEFORE UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION slow()"
        )
    };
    is_claimed_again(test, slow).await
}

async fn what_was_claimed_and_not_known_to_be_committed_is_claimed_again(test: Test) -> Result<()> {
    let slow = |table: &str| {
        format!(
            "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    };
    is_claimed_again(test, slow).await
}

/// The link is lost while PostgreSQL is at what `slow` makes slow, and does it nevertheless.
async fn is_claimed_again(test: Test, slow: impl Fn(&str) -> String) -> Result<()> {
    let Some(linked) = Linked::new(&test)? else {
        return Ok(());
    };
    let store = linked.open().await?;
    let owed = setup::owed(ENDPOINT, 0);
    let id = RangeId {
        endpoint: ENDPOINT,
        topic: "hooks.outbox".into(),
        partition: 0,
        start: 5,
    };
    let dead = test.open().await?;
    let happened = [Happened::Owed(owed.clone()), Happened::Grown(id.clone(), 8)];
    dead.record(&happened).await?;
    let range = OwedRange { id, from: 5, to: 8 };
    test.execute(SLOW)?;
    for table in ["owed", "owed_range"] {
        store.beat(0, i64::MAX).await?;
        test.execute(&slow(table))?;
        let claim = async |store: Store| match table {
            "owed" => Ok::<_, dovecast_dispatch::ledger::LedgerError>(
                store.claim_owed(1, 10).await? == [owed.clone()],
            ),
            _ => Ok(store.claim_ranges(1, 10).await? == [range.clone()]),
        };
        let cut = async {
            let is_at_it = || Ok((test.count(SLEEPING)? > 0).then_some(()));
            until(is_at_it).await?;
            linked.link.forget();
            anyhow::Ok(())
        };
        let (claimed, done) = tokio::join!(soon(claim(store.clone())), soon(cut));
        done??;
        ensure!(claimed?.is_err(), "the answer to a claim came");
        test.execute(&format!("DROP TRIGGER slow ON {table}"))?;
        // It lives all the time. The first to ask may meet a connection that was forgotten as well.
        soon(async { while store.beat(0, i64::MAX).await.is_err() {} }).await?;
        soon(async {
            while !matches!(claim(store.clone()).await, Ok(true)) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await?;
        // And only once.
        ensure!(!claim(store.clone()).await?);
    }
    Ok(())
}

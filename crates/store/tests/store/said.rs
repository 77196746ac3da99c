//! What is said of one delivery or one range in one record holds in the order in which it is said.

use std::sync::Arc;

use anyhow::{Result, ensure};
use dovecast_dispatch::ledger::{Happened, Ledger, Owed, OwedId, RangeId};
use dovecast_notification::EndpointId;
use uuid::Uuid;

use crate::setup::{self, Kind, Test, cases};
use Happened::{
    Begun, Done, Ended, FailedAgain, GivenBack, Grown, Owed as Owes, Progress, Released, UnderWay,
    Unwanted,
};

cases![
    what_is_said_in_one_record_holds_in_its_order,
    nothing_is_recorded_before_an_endpoint_can_be_disabled,
];

const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));

fn owed(due_ms: i64) -> Owed {
    setup::owed(ENDPOINT, due_ms)
}

fn delivery() -> OwedId {
    (ENDPOINT, owed(0).notification)
}

fn range() -> RangeId {
    RangeId {
        endpoint: ENDPOINT,
        topic: Arc::from("t"),
        partition: 3,
        start: 5,
    }
}

async fn what_is_said_in_one_record_holds_in_its_order(test: Test) -> Result<()> {
    // When the delivery is due then, if it is owed and free.
    let deliveries = [
        (vec![Owes(owed(1)), Done(delivery())], None),
        (vec![Done(delivery()), Owes(owed(1))], Some(1)),
        (
            vec![UnderWay(owed(1)), Done(delivery()), Owes(owed(2))],
            Some(2),
        ),
        (vec![UnderWay(owed(1))], None),
        (vec![UnderWay(owed(1)), FailedAgain(owed(3))], Some(3)),
        (
            vec![UnderWay(owed(1)), GivenBack(owed(4)), FailedAgain(owed(3))],
            Some(3),
        ),
        (
            vec![UnderWay(owed(1)), FailedAgain(owed(3)), GivenBack(owed(4))],
            Some(4),
        ),
        (vec![GivenBack(owed(4)), Unwanted(delivery())], None),
        (vec![Unwanted(delivery()), GivenBack(owed(4))], Some(4)),
        (
            vec![Owes(owed(1)), Happened::Postponed(delivery(), 9)],
            Some(9),
        ),
        (
            vec![Happened::Postponed(delivery(), 9), Owes(owed(1))],
            Some(1),
        ),
    ];
    for (said, expected) in deliveries {
        let store = test.open().await?;
        store.beat(0, 50_000).await?;
        store.record(&said).await?;
        let claimed = store.claim_owed(20, 10).await?;
        let found = claimed.first().map(|owed| owed.due_ms);
        ensure!(found == expected, "{said:?}: due at {found:?}");
        test.execute("DELETE FROM owed")?;
    }
    // First offset that is owed, the end, and whether the range is free.
    let ranges = [
        (
            vec![Begun(range(), 9), Progress(range(), 7)],
            Some((7, 9, false)),
        ),
        (
            vec![Grown(range(), 9), Progress(range(), 7), Begun(range(), 9)],
            Some((5, 9, false)),
        ),
        (
            vec![Grown(range(), 9), Released(range())],
            Some((5, 9, true)),
        ),
        (
            vec![Grown(range(), 9), Released(range()), Grown(range(), 9)],
            Some((5, 9, false)),
        ),
        (vec![Grown(range(), 9), Ended(range(), 9)], None),
        (
            vec![Grown(range(), 9), Ended(range(), 9), Begun(range(), 8)],
            Some((5, 8, false)),
        ),
        (
            vec![Grown(range(), 9), Grown(range(), 12), Ended(range(), 9)],
            Some((5, 12, false)),
        ),
    ];
    for (said, expected) in ranges {
        let store = test.open().await?;
        store.beat(0, 50_000).await?;
        store.record(&said).await?;
        let is_free = test.count("owed_range WHERE claimed_by IS NULL")? > 0;
        store.leave().await?;
        let claimed = test.open().await?.claim_ranges(20, 10).await?;
        let found = claimed.first().map(|range| (range.from, range.to, is_free));
        ensure!(found == expected, "{said:?}: {found:?}");
        test.execute("DELETE FROM owed_range")?;
    }
    Ok(())
}

async fn nothing_is_recorded_before_an_endpoint_can_be_disabled(test: Test) -> Result<()> {
    let (store, account, _) = test.filled().await?;
    let endpoint = setup::create(&store, &account, "a", None).await?.endpoint;
    let owed = setup::owed(endpoint.id, 1);
    let done = Done((endpoint.id, owed.notification));
    store.record(&[Owes(owed)]).await?;
    let (forbid, allow) = match &test.kind {
        Kind::Sqlite => (
            "CREATE TRIGGER stays BEFORE UPDATE ON endpoint WHEN NEW.active = 0 \
             BEGIN SELECT RAISE(ABORT, 'it stays active'); END",
            "DROP TRIGGER stays",
        ),
        Kind::Postgres(_) => (
            "ALTER TABLE endpoint ADD CONSTRAINT stays CHECK (active = 1)",
            "ALTER TABLE endpoint DROP CONSTRAINT stays",
        ),
    };
    test.execute(forbid)?;
    let gone = Happened::Disabled(endpoint.id, "gone".to_owned());
    let both = [done, gone];
    ensure!(store.record(&both).await.is_err());
    ensure!(test.count("owed")? == 1, "it is recorded, and again later");
    test.execute(allow)?;
    store.record(&both).await?;
    ensure!(test.count("owed")? == 0);
    ensure!(test.count("endpoint WHERE active = 0")? == 1);
    Ok(())
}

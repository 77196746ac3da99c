//! Nodes of one PostgreSQL whose clocks differ: what one of them owes is due for each of them when
//! it was meant to be. A file of SQLite has one node, and goes by its clock.

use anyhow::{Result, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{DeadLetter, Happened, Ledger, Owed};
use dovecast_log::now_ms;
use dovecast_notification::{EndpointId, NotificationId};
use dovecast_store::{Clock, Store};
use uuid::Uuid;

use crate::setup::{self, Kind, Test, cases};

cases![
    what_is_owed_waits_as_long_whatever_the_clocks_of_nodes_show,
    what_is_delivered_again_is_due_now_whatever_the_clocks_of_nodes_show,
];

const MINUTE_MS: i64 = 60_000;
const ENDPOINT: EndpointId = EndpointId(Uuid::from_u128(7));
/// How far the clocks of two nodes are ahead.
const CLOCKS: [(i64, i64); 4] = [(10, -10), (-10, 10), (0, 10), (0, -10)];

/// A store, and how far its clock is ahead of the system's.
struct Node {
    store: Store,
    clock: Clock,
    ahead_ms: i64,
}

impl Node {
    async fn open(test: &Test, ahead_ms: i64) -> Result<Self> {
        let mut options = test.options()?;
        options.clock = Clock::ahead(ahead_ms);
        Ok(Self {
            clock: options.clock.clone(),
            store: Store::open(&options).await?,
            ahead_ms,
        })
    }

    fn now_ms(&self) -> i64 {
        now_ms() + self.ahead_ms
    }

    fn set(&mut self, by_ms: i64) {
        self.clock.set(by_ms);
        self.ahead_ms += by_ms;
    }

    /// What it claims when so much time has passed: when that is due, from now on.
    async fn claims(&self, after_ms: i64) -> Result<Vec<i64>> {
        let now_ms = self.now_ms();
        let owed = self.store.claim_owed(now_ms + after_ms, 10).await?;
        Ok(owed.iter().map(|owed| owed.due_ms - now_ms).collect())
    }
}

async fn nodes(test: &Test, (one, two): (i64, i64)) -> Result<(Node, Node)> {
    // Those who use one file are processes of one machine.
    let two = match test.kind {
        Kind::Sqlite => one,
        Kind::Postgres(_) => two,
    };
    let one = Node::open(test, one * MINUTE_MS).await?;
    Ok((one, Node::open(test, two * MINUTE_MS).await?))
}

fn owed(due_ms: i64) -> Owed {
    setup::owed(ENDPOINT, due_ms)
}

type Write = fn(Owed) -> Happened;

async fn what_is_owed_waits_as_long_whatever_the_clocks_of_nodes_show(test: Test) -> Result<()> {
    let writes: [(&str, Write); 4] = [
        ("owed", Happened::Owed),
        ("failed again", Happened::FailedAgain),
        ("given back", Happened::GivenBack),
        ("postponed", |owed| {
            let id = (owed.endpoint, owed.notification);
            Happened::Postponed(id, owed.due_ms)
        }),
    ];
    for clocks in CLOCKS {
        let (mut one, two) = nodes(&test, clocks).await?;
        for (name, write) in writes {
            if name != "owed" {
                // Something that is there already.
                let before = owed(one.now_ms() + 3 * MINUTE_MS);
                one.store.record(&[Happened::Owed(before)]).await?;
            }
            let happened = write(owed(one.now_ms() + 60 * MINUTE_MS));
            one.store.record(&[happened]).await?;
            for node in [&one, &two] {
                for after_ms in [0, 55 * MINUTE_MS] {
                    let early = node.claims(after_ms).await?;
                    ensure!(early.is_empty(), "{name}, {clocks:?}: {early:?}");
                }
            }
            if matches!(test.kind, Kind::Postgres(_)) {
                // A node's clock is set, and its database's is not.
                for by_ms in [120 * MINUTE_MS, -120 * MINUTE_MS] {
                    one.set(by_ms);
                    let early = one.claims(0).await?;
                    ensure!(early.is_empty(), "{name}, {clocks:?}: {early:?}");
                }
            }
            let claimed = two.claims(65 * MINUTE_MS).await?;
            let is_as_meant = |due: &i64| (55 * MINUTE_MS..=60 * MINUTE_MS).contains(due);
            ensure!(
                claimed.len() == 1 && claimed.iter().all(is_as_meant),
                "{name}, {clocks:?}: {claimed:?}"
            );
            test.execute("DELETE FROM owed")?;
        }
    }
    Ok(())
}

async fn what_is_delivered_again_is_due_now_whatever_the_clocks_of_nodes_show(
    test: Test,
) -> Result<()> {
    for clocks in CLOCKS {
        let (one, two) = nodes(&test, clocks).await?;
        let letter = DeadLetter {
            note: String::new(),
            together: None,
            record: None,
            endpoint: Some(ENDPOINT),
            notification: NotificationId(Uuid::from_u128(1)),
            content: Bytes::from_static(b"{}"),
            reason: "refused".to_owned(),
            time_ms: one.now_ms(),
            attempts: 1,
        };
        one.store.record(&[Happened::Dead(letter)]).await?;
        ensure!(one.store.redeliver_since(ENDPOINT, 0).await? == 1);
        // Half a minute: the clock of a database is on this machine.
        let claimed = two.claims(MINUTE_MS / 2).await?;
        ensure!(claimed.len() == 1, "{clocks:?}: {claimed:?}");
        test.execute("DELETE FROM owed")?;
    }
    Ok(())
}

//! A PostgreSQL that is there and is not heard: each call ends, and everything goes on by itself
//! afterwards.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_store::{Store, StoreOptions};
use dovecast_testkit::cut_proxy::CutProxy;
use dovecast_testkit::postgres::Postgres;

use crate::setup::{Kind, Test, cases, create, soon};

cases![
    a_call_ends_while_the_database_is_not_heard_and_the_next_one_succeeds_when_it_is,
    connections_that_were_forgotten_are_replaced,
    a_listener_that_hears_nothing_any_more_is_replaced,
    what_a_node_that_is_gone_has_locked_is_free_soon,
    a_store_that_is_not_heard_can_be_closed,
];

/// Longest time that a statement of the stores here may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More than there are connections.
const CALLS: usize = 10;

/// A database by way of a link that can be cut.
pub(crate) struct Linked<'a> {
    pub(crate) postgres: &'a Postgres,
    pub(crate) link: CutProxy,
    options: StoreOptions,
}

impl<'a> Linked<'a> {
    pub(crate) fn new(test: &'a Test) -> Result<Option<Self>> {
        let Kind::Postgres(postgres) = &test.kind else {
            return Ok(None);
        };
        let link = postgres.proxy()?;
        let mut options = test.options()?;
        options.place = postgres.url_through(&link, &test.url).parse()?;
        options.connect_timeout = TIMEOUT;
        options.statement_timeout = TIMEOUT;
        Ok(Some(Self {
            postgres,
            link,
            options,
        }))
    }

    pub(crate) async fn open(&self) -> Result<Store> {
        Ok(Store::open(&self.options).await?)
    }
}

/// Makes [`CALLS`] calls at once, each of which has to end; how many have succeeded.
async fn several<F>(store: &Store, call: impl Fn(Store) -> F) -> Result<usize>
where
    F: Future<Output = bool> + Send + 'static,
{
    let calls: Vec<_> = (0..CALLS)
        .map(|_| tokio::spawn(call(store.clone())))
        .collect();
    let mut succeeded = 0;
    for call in calls {
        succeeded += usize::from(soon(call).await??);
    }
    Ok(succeeded)
}

/// Waits until all of [`CALLS`] calls at once succeed: on a busy machine a call may take longer
/// than [`TIMEOUT`].
async fn all_succeed<F>(store: &Store, call: impl Fn(Store) -> F + Copy) -> Result<()>
where
    F: Future<Output = bool> + Send + 'static,
{
    soon(async {
        while several(store, call).await? < CALLS {}
        Ok(())
    })
    .await?
}

async fn ping(store: Store) -> bool {
    store.ping().await.is_ok()
}

/// Writes, in a transaction.
async fn change(store: Store) -> bool {
    store.account_seen("other").await.is_ok()
}

async fn a_call_ends_while_the_database_is_not_heard_and_the_next_one_succeeds_when_it_is(
    test: Test,
) -> Result<()> {
    let Some(linked) = Linked::new(&test)? else {
        return Ok(());
    };
    let store = linked.open().await?;
    all_succeed(&store, ping).await?;
    linked.link.cut();
    ensure!(several(&store, ping).await? == 0);
    ensure!(several(&store, change).await? == 0);
    linked.link.heal();
    all_succeed(&store, change).await
}

async fn connections_that_were_forgotten_are_replaced(test: Test) -> Result<()> {
    let Some(linked) = Linked::new(&test)? else {
        return Ok(());
    };
    let store = linked.open().await?;
    for _ in 0..3 {
        all_succeed(&store, change).await?;
        // All of them at once, idle or not.
        linked.link.forget();
        soon(async { while !ping(store.clone()).await {} }).await?;
    }
    Ok(())
}

async fn a_listener_that_hears_nothing_any_more_is_replaced(test: Test) -> Result<()> {
    let Some(linked) = Linked::new(&test)? else {
        return Ok(());
    };
    let _store = linked.open().await?;
    let listening = || {
        let sessions = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        linked.postgres.query(&test.url, sessions)
    };
    let first = soon(until(|| {
        Ok(Some(listening()?).filter(|pid| !pid.is_empty()))
    }))
    .await??;
    linked.link.forget();
    let is_another = |pids: &String| pids.lines().any(|pid| pid != first.trim());
    soon(until(|| Ok(Some(listening()?).filter(is_another)))).await??;
    Ok(())
}

async fn what_a_node_that_is_gone_has_locked_is_free_soon(test: Test) -> Result<()> {
    let Some(linked) = Linked::new(&test)? else {
        return Ok(());
    };
    let (gone, other) = (linked.open().await?, test.open().await?);
    let account = other.account_seen("1").await?;
    // One of them is in the middle of a change, the others wait for it.
    let changes: Vec<_> = (0..4)
        .map(|task| {
            let (store, account) = (gone.clone(), account.clone());
            tokio::spawn(async move {
                let mut made = 0;
                loop {
                    let name = format!("{task}-{made}");
                    if create(&store, &account, &name, None).await.is_err() {
                        return;
                    }
                    made += 1;
                }
            })
        })
        .collect();
    let seen = other.last_change().await?;
    soon(async {
        while other.known_change() < seen + 50 {
            other.changed(other.known_change()).await;
        }
    })
    .await?;
    linked.link.cut();
    soon(create(&other, &account, "other", None)).await??;
    for change in changes {
        soon(change).await??;
    }
    Ok(())
}

async fn a_store_that_is_not_heard_can_be_closed(test: Test) -> Result<()> {
    let Some(linked) = Linked::new(&test)? else {
        return Ok(());
    };
    let store = linked.open().await?;
    linked.link.cut();
    let calling = tokio::spawn(ping(store.clone()));
    tokio::task::yield_now().await;
    soon(store.close()).await?;
    ensure!(!soon(calling).await??);
    Ok(())
}

pub(crate) async fn until<T>(look: impl Fn() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(found) = look().context("cannot look")? {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

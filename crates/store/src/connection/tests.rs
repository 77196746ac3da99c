//! Tests of those who write to one file of SQLite.

use std::future::Ready;
use std::sync::{Arc, Mutex};

use dovecast_dispatch::ledger::{Happened, Ledger};
use dovecast_notification::{EndpointId, NotificationId};
use futures_util::future::{BoxFuture, FutureExt};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::open::{Store, StoreOptions};
use crate::place::DatabasePlace;

/// How many writers wait in a test.
const WRITERS: u32 = 20;
/// The number of those in a hurry.
const HURRIED: u32 = u32::MAX;

type Order = Arc<Mutex<Vec<u32>>>;

async fn a_store(dir: &TempDir) -> Store {
    let place = DatabasePlace::Sqlite(dir.path().join("state.db"));
    let options = StoreOptions::new(place);
    Store::open(&options).await.expect("a store")
}

/// Writes in a transaction, or where `number` is odd a single statement.
async fn write(store: Store, order: Order, number: u32) {
    if number.is_multiple_of(2) {
        let written = store.database.begin_writing().await.expect("a transaction");
        order.lock().expect("a lock").push(number);
        written.commit().await.expect("a commit");
    } else {
        let probe = sqlx::query("INSERT INTO probe (id, number) VALUES ($1, 1)");
        let probe = probe.bind(number.to_string());
        let done = probe.execute(&store.database.pool).await;
        assert_eq!(done.expect("written").rows_affected(), 1);
        order.lock().expect("a lock").push(number);
    }
}

/// Writers that wait, one after the other.
async fn writers(store: &Store, order: &Order) -> Vec<JoinHandle<()>> {
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        writers.push(tokio::spawn(write(
            store.clone(),
            Arc::clone(order),
            number,
        )));
        // It waits from now on: nothing else runs on this thread meanwhile.
        tokio::task::yield_now().await;
    }
    writers
}

/// Numbers in the order in which they were written: [`WRITERS`], who have come before `hurried`,
/// and what these do, who say [`HURRIED`] when it is done. All wait for one transaction first.
async fn written<F: Future<Output = ()> + Send + 'static>(
    hurried: impl IntoIterator<Item = fn(Store) -> F>,
) -> Vec<u32> {
    let dir = TempDir::new().expect("a directory");
    let store = a_store(&dir).await;
    let first = store.database.begin_writing().await.expect("a transaction");
    let order = Order::default();
    let mut writers = writers(&store, &order).await;
    for hurried in hurried {
        let (done, order) = (hurried(store.clone()), Arc::clone(&order));
        writers.push(tokio::spawn(async move {
            done.await;
            order.lock().expect("a lock").push(HURRIED);
        }));
    }
    tokio::task::yield_now().await;
    // What is given up ends behind our back, and is waited for.
    drop(first);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let order = order.lock().expect("a lock");
    order.clone()
}

/// Whoever has come to the front before those in a hurry is before them; they may tell it later
/// than it is done.
fn are_among(order: &[u32], first: usize, hurried: usize) {
    let found = order.iter().take(first).filter(|who| **who == HURRIED);
    assert_eq!(found.count(), hurried, "{order:?}");
}

#[tokio::test]
async fn those_who_write_to_a_file_take_turns_in_the_order_in_which_they_came() {
    let nobody: [fn(Store) -> Ready<()>; 0] = [];
    let came: Vec<u32> = (0..WRITERS).collect();
    assert_eq!(written(nobody).await, came);
}

#[tokio::test]
async fn who_says_that_it_lives_does_not_wait_for_all_others() {
    let beats: [fn(Store) -> BoxFuture<'static, ()>; 2] = [
        |store| async move { store.beat(0, 1_000).await.expect("a heartbeat") }.boxed(),
        |store| {
            let beat = async move { store.beat_push_node().await.map(drop) };
            beat.map(|beaten| beaten.expect("a heartbeat")).boxed()
        },
    ];
    are_among(&written(beats).await, 4, 2);
}

#[tokio::test]
async fn what_happens_to_deliveries_does_not_wait_for_all_others() {
    let record: [fn(Store) -> BoxFuture<'static, ()>; 1] = [|store| {
        let nothing = Happened::Unwanted((EndpointId(Uuid::nil()), NotificationId(Uuid::nil())));
        async move { store.record(&[nothing]).await.expect("a record") }.boxed()
    }];
    are_among(&written(record).await, 3, 1);
}

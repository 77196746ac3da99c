//! Tests of those who write to one file of SQLite.

use std::sync::{Arc, Mutex};

use dovecast_dispatch::ledger::{Happened, Ledger};
use dovecast_notification::{EndpointId, NotificationId};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::open::{Store, StoreOptions};
use crate::place::DatabasePlace;

/// How many writers wait in a test.
const WRITERS: u32 = 20;

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

#[tokio::test]
async fn those_who_write_to_a_file_take_turns_in_the_order_in_which_they_came() {
    let dir = TempDir::new().expect("a directory");
    let store = a_store(&dir).await;
    let first = store.database.begin_writing().await.expect("a transaction");
    let order = Order::default();
    let writers = writers(&store, &order).await;
    // What is given up ends behind our back, and is waited for.
    drop(first);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let came: Vec<u32> = (0..WRITERS).collect();
    assert_eq!(*order.lock().expect("a lock"), came);
}

#[tokio::test]
async fn who_says_that_it_lives_does_not_wait_for_all_others() {
    let dir = TempDir::new().expect("a directory");
    let store = a_store(&dir).await;
    let first = store.database.begin_writing().await.expect("a transaction");
    let order = Order::default();
    let writers = writers(&store, &order).await;
    let beaten = tokio::spawn({
        let (store, order) = (store.clone(), Arc::clone(&order));
        async move {
            store.beat(0, 1_000).await.expect("a heartbeat");
            order.lock().expect("a lock").push(u32::MAX);
        }
    });
    let push_beaten = tokio::spawn({
        let (store, order) = (store.clone(), Arc::clone(&order));
        async move {
            store.beat_push_node().await.expect("a heartbeat");
            order.lock().expect("a lock").push(u32::MAX);
        }
    });
    tokio::task::yield_now().await;
    drop(first);
    for writer in writers.into_iter().chain([beaten, push_beaten]) {
        writer.await.expect("no panic");
    }
    // Who has come to the front before them, and who may tell it later than it is done.
    let order = order.lock().expect("a lock");
    let beats = order.iter().take(4).filter(|number| **number == u32::MAX);
    assert_eq!(beats.count(), 2, "{order:?}");
}

#[tokio::test]
async fn what_happens_to_deliveries_does_not_wait_for_all_others() {
    let dir = TempDir::new().expect("a directory");
    let store = a_store(&dir).await;
    let first = store.database.begin_writing().await.expect("a transaction");
    let order = Order::default();
    let mut writers = writers(&store, &order).await;
    let (recorded, order_of_it) = (store.clone(), Arc::clone(&order));
    writers.push(tokio::spawn(async move {
        let nothing = Happened::Unwanted((EndpointId(Uuid::nil()), NotificationId(Uuid::nil())));
        recorded.record(&[nothing]).await.expect("a record");
        order_of_it.lock().expect("a lock").push(u32::MAX);
    }));
    tokio::task::yield_now().await;
    drop(first);
    for writer in writers {
        writer.await.expect("no panic");
    }
    // Who has come to the front before it, and who may tell it later than it is done.
    let order = order.lock().expect("a lock");
    let recorded = order.iter().take(3).find(|number| **number == u32::MAX);
    assert!(recorded.is_some(), "{order:?}");
}

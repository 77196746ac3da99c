//! Tests of those who write to one file of SQLite.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::open::{Store, StoreOptions};
use crate::place::DatabasePlace;

#[tokio::test]
async fn those_who_write_to_a_file_take_turns_in_the_order_in_which_they_came() {
    let dir = TempDir::new().expect("a directory");
    let place = DatabasePlace::Sqlite(dir.path().join("state.db"));
    let store = Store::open(&StoreOptions::new(place))
        .await
        .expect("a store");
    let first = store.database.begin_writing().await.expect("a transaction");
    let order = Arc::<Mutex<Vec<u32>>>::default();
    let mut writers = Vec::new();
    for number in 0..20 {
        let (database, order) = (store.database.clone(), Arc::clone(&order));
        writers.push(tokio::spawn(async move {
            let written = database.begin_writing().await.expect("a transaction");
            order.lock().expect("a lock").push(number);
            written.commit().await.expect("a commit");
        }));
        // It waits from now on: nothing else runs on this thread meanwhile.
        tokio::task::yield_now().await;
    }
    // What is given up ends behind our back, and is waited for.
    drop(first);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let came: Vec<u32> = (0..20).collect();
    assert_eq!(*order.lock().expect("a lock"), came);
}

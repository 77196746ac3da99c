//! What other nodes change in a shared PostgreSQL: heard by LISTEN, and looked for every second.

use std::sync::Weak;

use sqlx::postgres::PgListener;
use tokio::time::timeout;

use crate::feed::{self, CHANNEL, Feed, LOOK_INTERVAL};
use crate::open::{Database, Store};
use crate::place::PostgresUrl;

/// Listens until the store is dropped or closed.
pub(crate) fn start(store: &Store, url: PostgresUrl) {
    let feed = std::sync::Arc::downgrade(&store.feed);
    let database = store.database.clone();
    tokio::spawn(listen(feed, database, url));
}

async fn listen(feed: Weak<Feed>, database: Database, url: PostgresUrl) {
    let mut listener = None;
    let mut was_heard = true;
    while !database.pool.is_closed() {
        if listener.is_none() {
            listener = connect(&url).await;
        }
        // Whatever wakes us: the number itself is asked for.
        match &mut listener {
            Some(active) => match timeout(LOOK_INTERVAL, active.recv()).await {
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "changes of other nodes are only looked for");
                    listener = None;
                }
            },
            None => tokio::time::sleep(LOOK_INTERVAL).await,
        }
        let Some(feed) = feed.upgrade() else {
            return;
        };
        match feed::last_seq(&database).await {
            Ok(seq) => {
                feed.publish(seq);
                was_heard = true;
            }
            Err(error) if was_heard && !database.pool.is_closed() => {
                tracing::warn!(%error, "cannot ask for changes");
                was_heard = false;
            }
            Err(_) => {}
        }
    }
}

async fn connect(url: &PostgresUrl) -> Option<PgListener> {
    let mut listener = PgListener::connect(url.expose()).await.ok()?;
    listener.listen(CHANNEL).await.ok()?;
    Some(listener)
}

//! What other nodes change in a shared PostgreSQL: heard by LISTEN, and looked for every second.
//!
//! A connection on which nothing is heard may be one on which nothing can be heard: it is asked now
//! and then whether it is there.

use std::sync::Weak;
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use tokio::time::timeout;

use crate::error::with_sources;
use crate::feed::{self, CHANNEL, ChangeFeed, LOOK_INTERVAL};
use crate::open::{Database, Store, StoreOptions};
use crate::place::PostgresUrl;

/// How often the connection is asked whether it is there.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const CHECK: Duration = Duration::from_secs(2);

/// Listens until the store is dropped or closed.
pub(crate) fn start(store: &Store, url: PostgresUrl, options: &StoreOptions) {
    let feed = std::sync::Arc::downgrade(&store.feed);
    let database = store.database.clone();
    tokio::spawn(listen(feed, database, url, options.connect_timeout));
}

async fn listen(feed: Weak<ChangeFeed>, database: Database, url: PostgresUrl, patience: Duration) {
    let mut listener: Option<PgListener> = None;
    let mut checked = Instant::now();
    let mut was_heard = true;
    while !database.pool.is_closed() {
        if listener.is_none() {
            listener = timeout(patience, connect(&url)).await.ok().flatten();
            checked = Instant::now();
        }
        // Whatever wakes us: the number itself is asked for.
        if let Some(active) = &mut listener {
            let heard = timeout(LOOK_INTERVAL, active.recv()).await;
            let mut failed = heard.ok().and_then(Result::err);
            if failed.is_none() && checked.elapsed() >= CHECK_INTERVAL {
                failed = check(active).await.err();
                checked = Instant::now();
            }
            if let Some(error) = failed {
                tracing::warn!(%error, "PostgreSQL does not notify of changes; other nodes' changes are polled");
                // Not in order: nobody may be there to say farewell to.
                listener = None;
            }
        } else {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let Some(feed) = feed.upgrade() else {
            return;
        };
        let known = feed.known();
        match feed::last_seq(&database).await {
            Ok(seq) => {
                feed.found(known, seq);
                was_heard = true;
            }
            Err(error) if was_heard && !database.pool.is_closed() => {
                let error = with_sources(&error);
                tracing::warn!(
                    error,
                    "changes in the store cannot be read; this is retried"
                );
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

async fn check(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    let asked = sqlx::raw_sql("SELECT 1").execute(listener);
    match timeout(CHECK, asked).await {
        Ok(answered) => answered.map(|_| ()),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

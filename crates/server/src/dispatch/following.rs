//! Follows what is changed of endpoints, on whichever node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::Directory;
use dovecast_notification::EndpointId;
use dovecast_store::{Changes, EndpointRecord, Result, Store};
use jiff::Timestamp;
use tokio::sync::watch;

use super::routes::Routes;

/// Endpoints of one page.
const PAGE: i64 = 1_000;
/// How long at most until it is looked whether a secret has ended: the clock may be set meanwhile.
const SECRETS_CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// How long until what failed is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// When secrets end, and whose: nothing in the store changes then.
type Ends = Vec<(i64, EndpointId)>;

/// Loads all endpoints; gives the number of the change after which to go on.
pub(super) async fn load(
    store: &Store,
    directory: &Directory,
    routes: &Routes,
) -> Result<(i64, Ends)> {
    let seq = store.last_change().await?;
    let mut seen = BTreeSet::new();
    let mut after = None;
    let mut ends = Vec::new();
    loop {
        let page = store.load_endpoints_after(after, PAGE).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.endpoint.id);
        for record in &page {
            seen.insert(record.endpoint.id);
            ends.extend(end(record));
            put(directory, routes, record);
        }
    }
    directory.retain(|id| seen.contains(&id));
    Ok((seq, ends))
}

fn end(record: &EndpointRecord) -> Option<(i64, EndpointId)> {
    let until = record.previous_secret_until_ms;
    until.map(|until| (until, record.endpoint.id))
}

fn put(directory: &Directory, routes: &Routes, record: &EndpointRecord) {
    let (endpoint, filter) = routes.route(record);
    directory.put(endpoint, filter);
}

/// Goes on for ever.
pub(super) async fn follow(
    store: Store,
    directory: Arc<Directory>,
    routes: Routes,
    ends: Ends,
    applied: watch::Sender<i64>,
) {
    let mut seq = *applied.borrow();
    let mut ending: BTreeSet<(i64, EndpointId)> = ends.into_iter().collect();
    loop {
        let wait = ending
            .first()
            .map(|(until, _)| until - Timestamp::now().as_millisecond());
        let wait = wait.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0) + 1));
        let wait = wait.map(|wait| wait.min(SECRETS_CHECK_INTERVAL));
        tokio::select! {
            () = store.changed(seq) => {}
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
        }
        let now = Timestamp::now().as_millisecond();
        let due: Vec<_> = ending
            .iter()
            .filter(|(until, _)| *until <= now)
            .copied()
            .collect();
        let whose = due.iter().map(|(_, id)| *id).collect();
        match step(&store, &directory, &routes, (seq, whose)).await {
            Ok((next, secrets)) => {
                seq = next;
                applied.send_replace(seq);
                ending.retain(|end| !due.contains(end));
                ending.extend(secrets);
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(
                    error,
                    "changes of endpoints cannot be read; this is retried"
                );
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// Takes what has changed in; gives where to go on, and secrets that end some time.
async fn step(
    store: &Store,
    directory: &Directory,
    routes: &Routes,
    (seq, due): (i64, Vec<EndpointId>),
) -> Result<(i64, Ends)> {
    let (mut ids, next) = match store.changes_since(seq).await? {
        Changes::Endpoints { ids, seq } => (ids, seq),
        Changes::Everything { .. } => return load(store, directory, routes).await,
    };
    ids.extend(due);
    let mut gone: BTreeSet<_> = ids.iter().copied().collect();
    let mut ends = Vec::new();
    for record in store.load_endpoints(&ids).await? {
        gone.remove(&record.endpoint.id);
        ends.extend(end(&record));
        put(directory, routes, &record);
    }
    for id in gone {
        directory.remove(id);
    }
    Ok((next, ends))
}

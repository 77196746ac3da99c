//! Disables endpoints that have failed for too long, and tells of each that was disabled, for
//! whatever reason: a notification of the application `dovecast` for its account, which goes the
//! way of all notifications.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use dovecast_event::header_name;
use dovecast_log::{LineLimit, NewRecord};
use dovecast_notification::outbox::NewNotification;
use dovecast_store::{Announcement, Store};
use jiff::Timestamp;
use serde::Serialize;

use super::{DISABLED, OWN};
use crate::config::Dispatch;
use crate::headers::header;
use crate::sources::{Destination, NotTaken};

/// How often endpoints that have failed for too long are looked for.
const DISABLE_INTERVAL: Duration = Duration::from_mins(1);
/// How often what is to be announced is looked for.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// Announcements that are read at a time.
const BATCH: i64 = 100;

#[derive(Serialize)]
struct Message<'a> {
    endpoint: EndpointName<'a>,
    reason: &'a str,
    /// Since when every attempt has failed.
    first_failure_time: Option<String>,
}

/// No URL: there may be a secret in it.
#[derive(Serialize)]
struct EndpointName<'a> {
    id: String,
    name: &'a str,
}

/// Goes on for ever.
pub(super) async fn run(store: Store, outbox: Destination, config: Dispatch) {
    let failing_ms = config.disable_after_hours.get() * 60 * 60 * 1000;
    let failing_ms = i64::try_from(failing_ms).unwrap_or(i64::MAX);
    let mut looked: Option<Instant> = None;
    let lines = LineLimit::default();
    loop {
        let mut failed = None;
        if failing_ms > 0 && looked.is_none_or(|looked| looked.elapsed() >= DISABLE_INTERVAL) {
            looked = Some(Instant::now());
            failed = disable(&store, failing_ms).await.err();
        }
        failed = announce(&store, &outbox).await.err().or(failed);
        if let Some(error) = failed
            && lines.take()
        {
            tracing::warn!(
                "failing endpoints cannot be disabled or announced; this is retried: {error:#}"
            );
        }
        tokio::time::sleep(ANNOUNCE_INTERVAL).await;
    }
}

async fn disable(store: &Store, failing_ms: i64) -> Result<()> {
    for id in store.disable_failing(failing_ms).await? {
        tracing::warn!(endpoint.id = %id, "an endpoint was disabled: every attempt has failed for too long");
    }
    Ok(())
}

/// Tells of all that is to be told. Who dies in between tells it again, with the same id.
async fn announce(store: &Store, outbox: &Destination) -> Result<()> {
    for announcement in store.announcements(BATCH).await? {
        match outbox.append(record(outbox, &announcement)?).await {
            Ok(()) => {}
            Err(NotTaken::TooLarge(_) | NotTaken::Refused(_)) => {
                tracing::error!(endpoint.id = %announcement.endpoint, "the log refuses the notification that an endpoint was disabled");
            }
            Err(error @ NotTaken::Unavailable) => return Err(error.into()),
        }
        store.announced(announcement.id).await?;
    }
    Ok(())
}

fn record(outbox: &Destination, announcement: &Announcement) -> Result<NewRecord> {
    let shown = |ms| Timestamp::from_millisecond(ms).map(|time| format!("{time:.3}"));
    let notification = NewNotification {
        application: OWN,
        event_type: DISABLED,
        level: None,
        account_id: &announcement.account_number,
        timestamp: shown(announcement.time_ms).context("no time")?,
        message: Message {
            endpoint: EndpointName {
                id: announcement.endpoint.to_string(),
                name: &announcement.endpoint_name,
            },
            reason: &announcement.reason,
            first_failure_time: announcement
                .first_failure_ms
                .map(shown)
                .transpose()
                .context("no time")?,
        },
    };
    let value = serde_json::to_vec(&notification).context("cannot write a notification")?;
    let id = announcement.id.hyphenated().to_string();
    Ok(NewRecord {
        topic: outbox.topic.clone(),
        key: Some(Bytes::from(announcement.account_number.clone())),
        value: value.into(),
        headers: vec![header(header_name::ID, id.as_bytes())],
        timestamp_ms: announcement.time_ms,
        id: Some(announcement.id.as_u128()),
    })
}

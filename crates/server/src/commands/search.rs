//! Finds the record of a notification in the log, by its id, from a place on and up to the end.

use anyhow::{Result, bail};
use dovecast_log::Record;
use dovecast_notification::NotificationId;
use uuid::Uuid;

use super::tail;
use crate::access::Access;
use crate::cli::Begin;
use crate::config::Config;
use crate::control::client::Item;
use crate::past;

/// Most records that a search reads: some seconds' work, so that a wrong id does not read all of a
/// log.
const MAX_SEARCHED: u64 = 500_000;
/// Looks through the topics that are dispatched.
pub(super) async fn find(
    access: &Access,
    config: &Config,
    id: Uuid,
    from: Option<Begin>,
) -> Result<Record> {
    let from = from.unwrap_or_else(|| Begin(past::begin(id)));
    let sources = config.dispatch.options().sources;
    let mut left = MAX_SEARCHED;
    for topic in sources.keys() {
        if let Some(record) = find_in(access, topic, from, id, &mut left).await? {
            return Ok(record);
        }
    }
    let topics: Vec<&str> = sources.keys().map(String::as_str).collect();
    bail!(
        "the notification `{id}` is not in {} from `{from}` on, of which {} records were searched; `--from` says where to begin",
        topics.join(", "),
        MAX_SEARCHED - left
    )
}

async fn find_in(
    access: &Access,
    topic: &str,
    from: Begin,
    id: Uuid,
    left: &mut u64,
) -> Result<Option<Record>> {
    let mut end = tail::end_now(access, topic, from).await?;
    if end.is_reached() {
        return Ok(None);
    }
    let mut feed = access.read(topic, from).await?;
    while !end.is_reached() && *left > 0 {
        let Some(items) = feed.next().await? else {
            break;
        };
        for item in items {
            match item {
                Item::Record(record) if NotificationId::of(&record).0 == id => {
                    return Ok(Some(record));
                }
                Item::Record(record) => {
                    end.takes(record.partition, record.offset + 1);
                    *left = left.saturating_sub(1);
                }
                Item::Damaged(damaged) => {
                    end.takes(damaged.partition, damaged.next_offset);
                }
            }
        }
    }
    Ok(None)
}

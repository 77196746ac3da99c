//! Finds the record of a notification in the log, by its id, from a place on and up to the end.

use anyhow::{Result, bail};
use dovecast_log::{Record, StartAt};
use dovecast_notification::NotificationId;
use uuid::Uuid;

use super::tail::End;
use crate::access::Access;
use crate::cli::Begin;
use crate::config::Config;
use crate::control::client::Item;

/// Most records that a search reads: some seconds' work, so that a wrong id does not read all of a
/// log.
const MAX_SEARCHED: u64 = 500_000;
/// Records before the end of each partition where a search begins if the id has no time.
const LAST: u64 = 20_000;
/// How much the clocks of hosts may differ: a search begins this long before the time in the id.
const SKEW_MS: i64 = 10 * 60 * 1000;

/// Looks through the topics that are dispatched.
pub(super) async fn find(
    access: &Access,
    config: &Config,
    id: Uuid,
    from: Option<Begin>,
) -> Result<Record> {
    let from = from.unwrap_or_else(|| begin(id));
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

/// Ids of version 7 say when they were made, and nothing is in the log before that.
fn begin(id: Uuid) -> Begin {
    let time = id.get_timestamp().filter(|_| id.get_version_num() == 7);
    let Some((seconds, nanos)) = time.map(|time| time.to_unix()) else {
        return Begin(StartAt::Last(LAST));
    };
    let ms = i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    Begin(StartAt::Time(ms + i64::from(nanos / 1_000_000) - SKEW_MS))
}

async fn find_in(
    access: &Access,
    topic: &str,
    from: Begin,
    id: Uuid,
    left: &mut u64,
) -> Result<Option<Record>> {
    let mut end = End::now(access, topic, from).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_tells_its_time_is_looked_for_from_there_on() {
        let id = "019aa3b1-6e58-7d0c-8f00-000000000001";
        let found = begin(id.parse().expect("an id"));
        assert_eq!(found.0, StartAt::Time(0x019a_a3b1_6e58 - SKEW_MS));
        for other in [
            "019aa3b1-6e58-8d0c-8f00-000000000001",
            "00000000-0000-0000-0000-000000000000",
        ] {
            let found = begin(other.parse().expect("an id"));
            assert_eq!(found.0, StartAt::Last(LAST));
        }
    }
}

//! `dovecast send`: appends one record and says where it is, or many.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use dovecast_event::header_name;
use dovecast_log::{Appended, Header, NewRecord, Record, StartAt};
use uuid::Uuid;

use super::{notification, print};
use crate::access::{Access, RecordFeed};
use crate::cli::{Begin, SendArguments};
use crate::config::Dispatch;
use crate::control::client::Item;
use crate::headers::{event_headers, header};

/// How long to look for the record after it is durable, in order to say its offset.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Records of one append.
const BATCH: usize = 500;

/// The record that the command line, or standard input, speaks of.
pub(super) fn record(arguments: &SendArguments, topics: &Dispatch) -> Result<NewRecord> {
    let now = jiff::Timestamp::now();
    let rendered = notification::render(&arguments.notification, arguments.count, now)?;
    let mut topic = rendered.as_ref().map(|_| topics.outbox_topic.as_str());
    let value: Bytes = match (rendered, &arguments.value) {
        (Some(json), _) => json.into(),
        (None, Some(value)) => value.clone().into(),
        (None, None) => standard_input()?,
    };
    let id = own_id(arguments)?.unwrap_or_else(Uuid::now_v7);
    let mut headers = vec![id_header(id)];
    let mut key = arguments.notification.account_id.clone();
    if arguments.event {
        let event = dovecast_event::parse(&value).map_err(|error| not_an_event(&error))?;
        headers = event_headers(id, now);
        key = Some(event.user);
        topic = topics.event_topics.first().map(String::as_str);
    }
    // A header of one's own goes in the place of ours.
    let own = arguments.headers.iter();
    headers.retain(|header| {
        let mut names = arguments.headers.iter().map(|(name, _)| name);
        &*header.name == header_name::ID || !names.any(|name| **name == *header.name)
    });
    let own = own.filter(|(name, _)| name != header_name::ID);
    headers.extend(own.map(|(name, value)| header(name, value.as_bytes())));
    let topic = arguments.topic.as_deref().or(topic);
    let topic = topic
        .context("`--topic` is missing: only events and notifications have a topic of their own")?;
    Ok(NewRecord {
        topic: topic.into(),
        key: arguments.key.clone().or(key).map(Bytes::from),
        value,
        headers,
        timestamp_ms: now.as_millisecond(),
        id: Some(id.as_u128()),
    })
}

/// The id that the command line names.
fn own_id(arguments: &SendArguments) -> Result<Option<Uuid>> {
    let mut own = arguments
        .headers
        .iter()
        .filter(|(name, _)| name == header_name::ID);
    let Some((name, value)) = own.next() else {
        return Ok(None);
    };
    ensure!(
        own.next().is_none() && arguments.count == 1,
        "the header `{name}` is the id of one record, and is given once"
    );
    let id = Uuid::try_parse(value);
    let id = id.with_context(|| format!("`--header {name}={value}`: the value is not a UUID"))?;
    Ok(Some(id))
}

fn id_header(id: Uuid) -> Header {
    header(header_name::ID, id.hyphenated().to_string().as_bytes())
}

/// Copy of a record, with an id of its own.
fn another(record: &NewRecord) -> NewRecord {
    let id = Uuid::now_v7();
    let mut other = record.clone();
    other.id = Some(id.as_u128());
    let ids = other.headers.iter_mut();
    for found in ids.filter(|header| &*header.name == header_name::ID) {
        *found = id_header(id);
    }
    other
}

/// The error with what is behind it. Its text shows field names and kinds, no contents.
fn not_an_event(error: &dovecast_event::ParseError) -> anyhow::Error {
    match std::error::Error::source(error) {
        Some(source) => anyhow!("the value is not an event: {error}: {source}"),
        None => anyhow!("the value is not an event: {error}"),
    }
}

fn standard_input() -> Result<Bytes> {
    let mut value = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut value)
        .context("cannot read the value from standard input")?;
    Ok(value.into())
}

/// Appends so many of the record, and prints how many there are in which topic.
pub(super) async fn run_many(access: &Access, record: &NewRecord, count: u32) -> Result<()> {
    let mut left = usize::try_from(count)?;
    while left > 0 {
        let batch = left.min(BATCH);
        let records = (0..batch).map(|_| another(record)).collect();
        taken(record, &access.append(records).await?)?;
        left -= batch;
    }
    print(&format!("{} {count} records\n", record.topic))
}

fn taken(record: &NewRecord, appended: &Appended) -> Result<()> {
    let reason = appended.refusals.first();
    let reason = reason.map_or("the log of the server says why", |refusal| &refusal.reason);
    ensure!(
        appended.refused == 0,
        "the log refuses this record (topic `{}`, {} bytes): {reason}",
        record.topic,
        record.value.len()
    );
    Ok(())
}

/// Appends the record, and prints its topic, partition, offset and id.
pub(super) async fn run(access: &Access, record: NewRecord) -> Result<()> {
    let id = record
        .headers
        .iter()
        .find(|header| &*header.name == header_name::ID);
    let id = id.map(|header| header.value.clone()).unwrap_or_default();
    let shown_id = String::from_utf8_lossy(&id).into_owned();
    let topic = Arc::clone(&record.topic);
    // An append says no offset: whoever reads from here on sees it.
    let mut feed = access.read(&topic, Begin(StartAt::End)).await?;
    let appended = access.append(vec![record.clone()]).await?;
    taken(&record, &appended)?;
    ensure!(
        appended.duplicates == 0,
        "the log has taken a record with the id {shown_id} already, and takes each once"
    );
    let found = tokio::time::timeout(LOOK_TIMEOUT, find(&mut feed, &id)).await;
    match found {
        Ok(Ok(Some(Record {
            partition, offset, ..
        }))) => print(&format!(
            "{topic} partition {partition} offset {offset} id {shown_id}\n"
        )),
        // It is durable; only where it is stays unknown.
        _ => print(&format!("{topic} id {shown_id}\n")),
    }
}

/// The record with this id.
async fn find(feed: &mut RecordFeed, id: &[u8]) -> Result<Option<Record>> {
    while let Some(items) = feed.next().await? {
        for item in items {
            if let Item::Record(record) = item
                && record.header(header_name::ID) == Some(id)
            {
                return Ok(Some(record));
            }
        }
    }
    Ok(None)
}

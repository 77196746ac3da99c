//! `dovecast attempts`, `dead-letters` and `explain`: what a running dispatcher knows.

use anyhow::{Context, Result, bail, ensure};
use dovecast_log::Record;
use dovecast_operations::NotificationName;
use serde::Serialize;
use uuid::Uuid;

use super::lists::aligned;
use super::{notification, print, search};
use crate::access::Access;
use crate::cli::{
    AttemptsArguments, DeadLettersAct, DeadLettersArguments, DropArguments, ExplainArguments,
};
use crate::config::Config;
use crate::control::client::Client;
use crate::control::json::{DeadLetterLine, DropLetters, Letters};
use crate::headers::event_headers;

pub(super) fn print_json(lines: &impl Serialize) -> Result<()> {
    print(&(serde_json::to_string(lines)? + "\n"))
}

pub(super) fn time(ms: Option<i64>) -> String {
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"))
}

pub(super) fn rows<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Vec<[String; COLUMNS]> {
    vec![head.map(str::to_owned)]
}

pub(super) async fn attempts(client: &Client, arguments: &AttemptsArguments) -> Result<()> {
    let lines = client
        .attempts(arguments.endpoint, arguments.list.limit())
        .await?;
    if arguments.list.json {
        return print_json(&lines);
    }
    let mut table = rows(["AT", "NOTIFICATION", "DELIVERED", "SAID", "ATTEMPT", "MS"]);
    for line in lines {
        table.push([
            time(Some(line.time_ms)),
            line.notification.to_string(),
            if line.delivered { "yes" } else { "no" }.to_owned(),
            line.said.lines().next().unwrap_or_default().to_owned(),
            line.number.to_string(),
            (line.latency_us / 1000).to_string(),
        ]);
    }
    print(&aligned(&table, 4))
}

pub(super) async fn dead_letters(client: &Client, arguments: &DeadLettersArguments) -> Result<()> {
    if let Some(DeadLettersAct::Drop(arguments)) = &arguments.act {
        return drop_dead_letters(client, arguments).await;
    }
    let list = &arguments.list;
    let mut table = rows(["AT", "NOTIFICATION", "ENDPOINT", "REASON", "ATTEMPTS"]);
    // No page is kept: together their notifications may be larger than the memory.
    let (mut before, mut left) = (None, list.limit());
    let mut separator = "[";
    while left > 0 {
        let lines = client.dead_letters(arguments.endpoint, before, left);
        let lines = lines.await?;
        let Some(oldest) = lines.last() else {
            break;
        };
        before = Some(oldest.id);
        left = left.saturating_sub(lines.len());
        for line in lines {
            if list.json {
                print(&format!("{separator}{}", serde_json::to_string(&line)?))?;
                separator = ",";
            } else {
                table.push(row(line));
            }
        }
    }
    if list.json {
        let begin = if separator == "[" { "[" } else { "" };
        return print(&format!("{begin}]\n"));
    }
    print(&aligned(&table, 4))
}

fn row(letter: DeadLetterLine) -> [String; 5] {
    let endpoint = letter.endpoint.map(|id| id.to_string());
    [
        time(Some(letter.time_ms)),
        letter.notification.to_string(),
        endpoint.unwrap_or_else(|| "-".to_owned()),
        letter.reason,
        letter.attempts.to_string(),
    ]
}

async fn drop_dead_letters(client: &Client, arguments: &DropArguments) -> Result<()> {
    let endpoint = arguments.endpoint;
    let what = match (&arguments.notification, arguments.since) {
        (Some(name), _) => {
            ensure!(
                name.endpoint.is_none_or(|of| of == endpoint),
                "`{name}` is the delivery to another endpoint"
            );
            Letters::Notification(name.id)
        }
        (None, Some(since)) => Letters::SinceMs(since.as_millisecond()),
        (None, None) => bail!("either a notification or `--since` is required"),
    };
    let letters = DropLetters { endpoint, what };
    let dropped = client.drop_dead_letters(&letters).await?;
    if arguments.json {
        return print_json(&dropped);
    }
    print(&match dropped.dropped {
        1 => "1 dead letter was dropped\n".to_owned(),
        count => format!("{count} dead letters were dropped\n"),
    })
}

/// The record that an event would be, where the text is the JSON of one.
pub(super) fn event(config: &Config, text: &str) -> Option<Record> {
    let event = dovecast_event::parse(text.as_bytes()).ok()?;
    let topic = config.dispatch.event_topics.first()?;
    let now = jiff::Timestamp::now();
    Some(Record {
        topic: topic.as_str().into(),
        partition: 0,
        offset: 0,
        key: Some(event.user.into()),
        value: text.as_bytes().to_vec().into(),
        headers: event_headers(Uuid::now_v7(), now),
        timestamp_ms: now.as_millisecond(),
    })
}

/// The record that a notification would be, where the text is its JSON as in `hooks.outbox`.
pub(super) fn outbox(config: &Config, text: &str) -> Record {
    Record {
        topic: config.dispatch.outbox_topic.as_str().into(),
        partition: 0,
        offset: 0,
        key: None,
        value: text.as_bytes().to_vec().into(),
        headers: Vec::new(),
        timestamp_ms: jiff::Timestamp::now().as_millisecond(),
    }
}

pub(super) async fn explain(
    client: &Client,
    config: &Config,
    arguments: &ExplainArguments,
) -> Result<()> {
    let asked = &arguments.notification;
    let name = asked.value.as_deref().map(str::parse::<NotificationName>);
    let lines = match (name, &asked.value) {
        (Some(Ok(name)), _) => {
            let access = Access::new(config)?;
            let record = search::find(&access, config, name.id, arguments.from).await?;
            let mut lines = client.explain_record(&record).await?;
            lines.retain(|line| name.endpoint.is_none_or(|of| of == line.endpoint));
            lines
        }
        (_, Some(value)) => match event(config, value) {
            Some(record) => client.explain_record(&record).await?,
            None => client.explain(value.clone()).await?,
        },
        (_, None) => {
            let json = notification::render(&asked.fields, 1, jiff::Timestamp::now())?;
            let json = json.context("no notification is given")?;
            client.explain(json).await?
        }
    };
    if arguments.json {
        return print_json(&lines);
    }
    if lines.is_empty() {
        return print("the account has no endpoints\n");
    }
    let mut table = rows(["ENDPOINT", "NAME", "URL", "GETS IT"]);
    for line in lines {
        let verdict = match (line.matches, line.reason) {
            (_, None) => "yes".to_owned(),
            (true, Some(reason)) => format!("not now: {reason}"),
            (false, Some(reason)) => format!("no: {reason}"),
        };
        table.push([line.endpoint.to_string(), line.name, line.url, verdict]);
    }
    print(&aligned(&table, 4))
}

//! `dovecast tail`: follows a topic.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use anyhow::{Result, bail};
use dovecast_event::ParsedEvent;
use dovecast_log::{Record, StartAt};

use super::{OutputError, pretty};
use crate::access::Access;
use crate::cli::{Begin, Format, TailArguments};
use crate::control::client::Item;
use crate::control::json;
use crate::past::End;
use crate::terminal;

pub(super) async fn run(access: &Access, arguments: &TailArguments) -> Result<()> {
    let mut feed = access.read(&arguments.topic, arguments.from).await?;
    let mut end = if arguments.until_end {
        Some(end_now(access, &arguments.topic, arguments.from).await?)
    } else {
        None
    };
    let mut printer = Printer::new(arguments);
    while end.as_ref().is_none_or(|end| !end.is_reached()) && !printer.is_done() {
        let Some(items) = feed.next().await? else {
            bail!("the server has stopped: nothing more of the topic is shown");
        };
        for item in items {
            let (partition, next_offset) = match &item {
                Item::Record(record) => (record.partition, record.offset + 1),
                Item::Damaged(damaged) => (damaged.partition, damaged.next_offset),
            };
            // What came after the end was looked at is not asked for.
            if end
                .as_mut()
                .is_none_or(|end| end.takes(partition, next_offset))
                && !printer.is_done()
            {
                printer.show(&item)?;
            }
        }
        printer.out.flush().map_err(OutputError)?;
    }
    Ok(())
}

/// Where the partitions of a topic end, for whoever reads from a place on.
pub(super) async fn end_now(access: &Access, topic: &str, from: Begin) -> Result<End> {
    let begin = access.positions(topic, from).await?;
    let end = access.positions(topic, Begin(StartAt::End)).await?;
    Ok(End::between(begin, end))
}

struct Printer<'a> {
    arguments: &'a TailArguments,
    out: BufWriter<StdoutLock<'static>>,
    has_colours: bool,
    shown: u64,
}

impl<'a> Printer<'a> {
    fn new(arguments: &'a TailArguments) -> Self {
        let stdout = io::stdout();
        Self {
            arguments,
            has_colours: stdout.is_terminal() && terminal::has_colours(),
            out: BufWriter::new(stdout.lock()),
            shown: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.arguments
            .count
            .is_some_and(|count| self.shown >= count)
    }

    fn show(&mut self, item: &Item) -> Result<()> {
        match item {
            Item::Record(record) => self.record(record),
            Item::Damaged(damaged) => {
                // Standard output is for records; a closed standard error is no reason to end.
                let _ = writeln!(
                    io::stderr(),
                    "dovecast: records of partition {} before offset {} cannot be read: {}",
                    damaged.partition,
                    damaged.next_offset,
                    damaged.reason
                );
                Ok(())
            }
        }
    }

    fn record(&mut self, record: &Record) -> Result<()> {
        let is_pretty = self.arguments.format == Format::Pretty;
        let event = if is_pretty || has_filter(self.arguments) {
            dovecast_event::parse(&record.value).ok()
        } else {
            None
        };
        if !matches(self.arguments, event.as_ref()) {
            return Ok(());
        }
        self.shown += 1;
        let written = match self.arguments.format {
            Format::Raw => self.out.write_all(&record.value),
            Format::Json => {
                let text = serde_json::to_string(&json::ReadRecord::from(record))?;
                self.out.write_all(text.as_bytes())
            }
            Format::Pretty => {
                let line = pretty::line(record, event.as_ref(), self.has_colours);
                self.out.write_all(line.as_bytes())
            }
        };
        written
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(OutputError)?;
        Ok(())
    }
}

fn has_filter(arguments: &TailArguments) -> bool {
    arguments.user.is_some() || arguments.kind.is_some() || arguments.mailbox.is_some()
}

/// Whether the filters let a record through; with a filter only events are.
fn matches(arguments: &TailArguments, event: Option<&ParsedEvent>) -> bool {
    if !has_filter(arguments) {
        return true;
    }
    event.is_some_and(|event| {
        arguments
            .user
            .as_ref()
            .is_none_or(|user| *user == event.user)
            && arguments
                .kind
                .is_none_or(|kinds| kinds.contains(event.kind))
            && arguments
                .mailbox
                .as_ref()
                .is_none_or(|mailbox| *mailbox == event.mailbox)
    })
}
